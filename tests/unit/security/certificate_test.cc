// Certificates as `sluice pki` makes them, and what is believed of them.
#include "control/security/certificate.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "control/security/credentials.h"
#include "control/security/pki.h"

namespace sluice::security {
namespace {

class CertificateTest : public testing::Test {
 protected:
  CertificateTest() { EXPECT_TRUE(make_authority(directory_, false)); }
  ~CertificateTest() override { std::filesystem::remove_all(directory_); }

  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  static mode_t mode(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 0777;
  }
  CertificateFiles make(const std::string& name, Role role,
                        std::chrono::seconds lifetime = kCertificateLifetime) {
    const auto files = make_certificate(
        directory_, {.name = name, .role = role, .addresses = {}, .lifetime = lifetime}, false);
    EXPECT_TRUE(files) << files.error().message;
    return files.value_or(CertificateFiles{});
  }
  // OpenSSL's reason, empty if it is believed.
  std::string doubt(const std::string& certificate, Side side) {
    const auto verified =
        verify_certificate(read(certificate), "", read(directory_ + "/ca.pem"), side);
    return verified ? "" : verified.error().message;
  }
  std::string load_error(SecurityConfig config) {
    const auto credentials = Credentials::load(std::move(config), "the remedy");
    return credentials ? "" : credentials.error().message;
  }

  const std::string directory_ =
      std::filesystem::temp_directory_path() / ("sluice-pki-test-" + std::to_string(getpid()));
};

TEST_F(CertificateTest, AHostsCertificateSpeaksForItOnBothSides) {
  const auto files = make("h1", Role::kHost);
  const auto identity = identify(read(files.certificate));
  ASSERT_TRUE(identity);
  EXPECT_TRUE(identity->speaks_for("h1"));
  EXPECT_FALSE(identity->speaks_for("h2"));
  EXPECT_FALSE(identity->speaks_for(""));
  EXPECT_EQ(identity->role, Role::kHost);
  EXPECT_EQ(identity->subject, "CN=h1");
  EXPECT_EQ(doubt(files.certificate, Side::kServer), "");
  EXPECT_EQ(doubt(files.certificate, Side::kClient), "");
}

TEST_F(CertificateTest, AClientsCertificateIsNoServers) {
  const auto files = make("ann", Role::kOperator);
  EXPECT_EQ(identify(read(files.certificate))->role, Role::kOperator);
  EXPECT_TRUE(identify(read(files.certificate))->names.empty());
  EXPECT_EQ(doubt(files.certificate, Side::kClient), "");
  EXPECT_NE(doubt(files.certificate, Side::kServer), "");
}

TEST_F(CertificateTest, AnotherAuthoritysAndAnExpiredOneAreNotBelieved) {
  const std::string other = directory_ + "/other";
  ASSERT_TRUE(make_authority(other, false));
  const auto foreign =
      make_certificate(other, {.name = "h1", .role = Role::kHost, .addresses = {}}, false);
  ASSERT_TRUE(foreign);
  EXPECT_NE(doubt(foreign->certificate, Side::kClient).find("issuer"), std::string::npos);
  EXPECT_NE(doubt(other + "/ca.pem", Side::kClient), "");

  const auto brief = make("brief", Role::kHost, std::chrono::seconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  EXPECT_EQ(doubt(brief.certificate, Side::kServer), "certificate has expired");
  EXPECT_NE(
      load_error({.ca = directory_ + "/ca.pem", .certificate = brief.certificate, .key = brief.key})
          .find("expired"),
      std::string::npos);
}

TEST_F(CertificateTest, KeysAreForTheirOwnerAndNothingIsOverwritten) {
  const auto files = make("h1", Role::kHost);
  EXPECT_EQ(mode(files.key), 0600U);
  EXPECT_EQ(mode(directory_ + "/private"), 0700U);
  EXPECT_EQ(mode(directory_ + "/private/ca-key.pem"), 0600U);
  const std::string before = read(files.key);
  const auto again =
      make_certificate(directory_, {.name = "h1", .role = Role::kHost, .addresses = {}}, false);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kBusy);
  EXPECT_FALSE(make_authority(directory_, false));
  EXPECT_EQ(read(files.key), before);
  EXPECT_TRUE(
      make_certificate(directory_, {.name = "h1", .role = Role::kHost, .addresses = {}}, true));
  EXPECT_NE(read(files.key), before);
}

TEST_F(CertificateTest, NamesThatCouldMeanMoreAreRefused) {
  for (const char* name : {"", "../h1", "h1,DNS:h2", "ca", "-h1", "h 1", ".h1"}) {
    EXPECT_FALSE(
        make_certificate(directory_, {.name = name, .role = Role::kHost, .addresses = {}}, false))
        << name;
  }
  EXPECT_FALSE(make_certificate(
      directory_, {.name = "h1", .role = Role::kHost, .addresses = {"x,URI:sluice:role/operator"}},
      false));
  EXPECT_FALSE(make_certificate(directory_ + "/nowhere",
                                {.name = "h1", .role = Role::kHost, .addresses = {}}, false));
}

TEST_F(CertificateTest, LoadingSaysWhatIsWrongAndHowToMendIt) {
  const auto h1 = make("h1", Role::kHost);
  const auto h2 = make("h2", Role::kHost);
  const std::string ca = directory_ + "/ca.pem";
  EXPECT_NE(load_error({}).find("the remedy"), std::string::npos);
  EXPECT_NE(load_error({.ca = ca, .certificate = h1.certificate, .key = h2.key}).find(h2.key),
            std::string::npos);
  EXPECT_NE(load_error({.ca = ca, .certificate = "/nowhere/h1.pem", .key = h1.key})
                .find("/nowhere/h1.pem"),
            std::string::npos);
  EXPECT_EQ(load_error({.tls = false, .ca = "", .certificate = "", .key = ""}), "");

  const auto credentials =
      Credentials::load({.ca = ca, .certificate = h1.certificate, .key = h1.key}, "");
  ASSERT_TRUE(credentials) << credentials.error().message;
  EXPECT_TRUE((*credentials)->require_host("h1", Role::kHost));
  EXPECT_FALSE((*credentials)->require_host("h2", Role::kHost));
  EXPECT_FALSE((*credentials)->require_host("h1", Role::kController));
}

}  // namespace
}  // namespace sluice::security
