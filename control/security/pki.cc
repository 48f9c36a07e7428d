#include "control/security/pki.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <openssl/rand.h>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "control/security/openssl.h"

namespace sluice::security {
namespace {

// Clocks of hosts differ.
constexpr long kBackdatedSeconds = 300;
constexpr int kSerialBytes = 16;

struct KeyAndCertificate {
  KeyPtr key;
  X509Ptr certificate;
};

Expected<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return fail(ErrorKind::kNotFound, fmt::format("{} cannot be read", path));
  return text.str();
}

// Complete or not at all.
Expected<void> write_file(const std::string& path, const std::string& text, mode_t mode) {
  const std::string partial = path + ".partial";
  unlink(partial.c_str());
  const int fd = open(partial.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode);
  const bool written =
      fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  if (fd >= 0) close(fd);
  if (written && rename(partial.c_str(), path.c_str()) == 0) return {};
  unlink(partial.c_str());
  return fail(ErrorKind::kPermission,
              fmt::format("{} cannot be written: {}", path, std::strerror(error)));
}

Expected<void> refuse_overwriting(const std::string& path, bool force) {
  if (force || access(path.c_str(), F_OK) != 0) return {};
  return fail(ErrorKind::kBusy, fmt::format("{} is there already; --force replaces it", path));
}

bool add_extension(X509& certificate, X509& issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, OpensslDelete<X509_EXTENSION_free>> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension && X509_add_ext(&certificate, extension.get(), -1) == 1;
}

bool set_random_serial(X509& certificate) {
  std::array<unsigned char, kSerialBytes> bytes{};
  if (RAND_bytes(bytes.data(), kSerialBytes) != 1) return false;
  bytes[0] &= 0x7f;  // a positive number (RFC 5280, 4.1.2.2)
  const std::unique_ptr<BIGNUM, OpensslDelete<BN_free>> number(
      BN_bin2bn(bytes.data(), kSerialBytes, nullptr));
  return BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(&certificate)) != nullptr;
}

bool set_common_name(X509& certificate, const std::string& name) {
  return X509_NAME_add_entry_by_txt(X509_get_subject_name(&certificate), "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(name.data()),
                                    static_cast<int>(name.size()), -1, 0) == 1;
}

// All but extensions, issuer and signature.
Expected<KeyAndCertificate> begin_certificate(const std::string& name,
                                              std::chrono::seconds lifetime) {
  KeyAndCertificate made{KeyPtr(EVP_EC_gen("P-256")), X509Ptr(X509_new())};
  X509* const certificate = made.certificate.get();
  if (!made.key || certificate == nullptr || X509_set_version(certificate, X509_VERSION_3) != 1 ||
      !set_random_serial(*certificate) || !set_common_name(*certificate, name) ||
      X509_set_pubkey(certificate, made.key.get()) != 1 ||
      X509_gmtime_adj(X509_getm_notBefore(certificate), -kBackdatedSeconds) == nullptr ||
      X509_gmtime_adj(X509_getm_notAfter(certificate), lifetime.count()) == nullptr)
    return fail(ErrorKind::kFailed, "no certificate can be made: " + openssl_error());
  return made;
}

Expected<void> finish_certificate(X509& certificate, X509& issuer, EVP_PKEY& issuer_key,
                                  const std::vector<std::pair<int, std::string>>& extensions) {
  bool good = X509_set_issuer_name(&certificate, X509_get_subject_name(&issuer)) == 1;
  for (const auto& [nid, value] : extensions)
    good = good && add_extension(certificate, issuer, nid, value);
  if (good && X509_sign(&certificate, &issuer_key, EVP_sha256()) > 0) return {};
  return fail(ErrorKind::kFailed, "no certificate can be signed: " + openssl_error());
}

Expected<KeyAndCertificate> load_authority(const std::string& directory) {
  const auto certificate = read_file(directory + "/ca.pem");
  const auto key = read_file(directory + "/private/ca-key.pem");
  if (!certificate || !key) {
    return fail(ErrorKind::kNotFound,
                fmt::format("{} holds no certificate authority with its key; make one: sluice pki "
                            "init {}",
                            directory, directory));
  }
  auto certificates = parse_certificates(*certificate);
  KeyAndCertificate authority{parse_key(*key), nullptr};
  if (!certificates.empty()) authority.certificate = std::move(certificates.front());
  if (!authority.key || !authority.certificate ||
      X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
    return fail(
        ErrorKind::kInvalid,
        fmt::format("{0}/ca.pem and {0}/private/ca-key.pem do not belong together", directory));
  }
  return authority;
}

// Also what may stand in a file's name and in OpenSSL's list of alternative names.
bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 63 && text.front() != '.' && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
         });
}

bool is_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> ignored{};
  return inet_pton(AF_INET, text.c_str(), ignored.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), ignored.data()) == 1;
}

Expected<std::string> alternative_names(const CertificateRequest& request, bool server) {
  std::string names = fmt::format("URI:{}{}", kRoleUriPrefix, to_string(request.role));
  if (server) names += ",DNS:" + request.name;
  for (const auto& address : request.addresses) {
    if (!is_address(address) && !is_name(address)) {
      return fail(ErrorKind::kInvalid,
                  fmt::format("\"{}\" is neither an address nor a host name", address));
    }
    names += (is_address(address) ? ",IP:" : ",DNS:") + address;
  }
  return names;
}

// The key first: a certificate without its key would look complete.
Expected<CertificateFiles> write_pair(const KeyAndCertificate& made, CertificateFiles files) {
  return write_file(files.key, pem_of(*made.key), 0600)
      .and_then([&] { return write_file(files.certificate, pem_of(*made.certificate), 0644); })
      .map([&] { return std::move(files); });
}

}  // namespace

Expected<CertificateFiles> make_authority(const std::string& directory, bool force) {
  CertificateFiles files{directory + "/ca.pem", directory + "/private/ca-key.pem"};
  for (const auto& path : {files.certificate, files.key}) {
    if (auto free = refuse_overwriting(path, force); !free) return tl::unexpected(free.error());
  }
  std::error_code error;
  const auto parent = directory + "/private";
  std::filesystem::create_directories(parent, error);
  std::filesystem::permissions(parent, std::filesystem::perms::owner_all, error);
  if (error) {
    return fail(ErrorKind::kPermission,
                fmt::format("{} cannot be made: {}", parent, error.message()));
  }
  std::array<unsigned char, 3> tag{};
  RAND_bytes(tag.data(), tag.size());
  // Two authorities must not look alike in a message.
  auto made = begin_certificate(fmt::format("Sluice CA {:02x}{:02x}{:02x}", tag[0], tag[1], tag[2]),
                                kAuthorityLifetime);
  if (!made) return tl::unexpected(made.error());
  auto signed_by_itself = finish_certificate(*made->certificate, *made->certificate, *made->key,
                                             {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                                              {NID_key_usage, "critical,keyCertSign,cRLSign"},
                                              {NID_subject_key_identifier, "hash"}});
  if (!signed_by_itself) return tl::unexpected(signed_by_itself.error());
  return write_pair(*made, std::move(files));
}

Expected<CertificateFiles> make_certificate(const std::string& directory,
                                            const CertificateRequest& request, bool force) {
  if (!is_name(request.name) || request.name == "ca") {
    return fail(
        ErrorKind::kInvalid,
        fmt::format("\"{}\" cannot be a certificate's name; use at most 63 letters, digits, "
                    "'.', '-' and '_', and not \"ca\"",
                    request.name));
  }
  CertificateFiles files{fmt::format("{}/{}.pem", directory, request.name),
                         fmt::format("{}/{}-key.pem", directory, request.name)};
  for (const auto& path : {files.certificate, files.key}) {
    if (auto free = refuse_overwriting(path, force); !free) return tl::unexpected(free.error());
  }
  const auto authority = load_authority(directory);
  if (!authority) return tl::unexpected(authority.error());
  const bool server = request.role == Role::kHost || request.role == Role::kController;
  const auto names = alternative_names(request, server);
  if (!names) return tl::unexpected(names.error());
  auto made = begin_certificate(request.name, request.lifetime);
  if (!made) return tl::unexpected(made.error());
  auto finished =
      finish_certificate(*made->certificate, *authority->certificate, *authority->key,
                         {{NID_basic_constraints, "critical,CA:FALSE"},
                          {NID_key_usage, "critical,digitalSignature"},
                          {NID_ext_key_usage, server ? "serverAuth,clientAuth" : "clientAuth"},
                          {NID_subject_alt_name, *names},
                          {NID_subject_key_identifier, "hash"},
                          {NID_authority_key_identifier, "keyid:always"}});
  if (!finished) return tl::unexpected(finished.error());
  return write_pair(*made, std::move(files));
}

}  // namespace sluice::security
