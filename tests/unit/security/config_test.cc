#include "control/security/config.h"

#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>

namespace sluice::security {
namespace {

Expected<SecurityConfig> read(const std::string& text, ConfigOwner owner = ConfigOwner::kCaller) {
  const auto table = toml::parse(text);
  return read_security(table.get("security"), "/etc/sluice/agent.toml", owner);
}

TEST(SecurityConfig, TlsIsOnUnlessItIsTurnedOff) {
  EXPECT_TRUE(read("")->tls);
  EXPECT_TRUE(read("[security]\n")->tls);
  EXPECT_FALSE(read("[security]\ntls = false\n")->tls);
}

TEST(SecurityConfig, OnlyAnAgentMayAllowPlaintext) {
  EXPECT_FALSE(read("[security]\n", ConfigOwner::kAgent)->allow_plaintext);
  EXPECT_TRUE(read("[security]\nallow_plaintext = true\n", ConfigOwner::kAgent)->allow_plaintext);
  const auto caller = read("[security]\nallow_plaintext = true\n");
  ASSERT_FALSE(caller);
  EXPECT_NE(caller.error().message.find("unknown key security.allow_plaintext"), std::string::npos);
}

TEST(SecurityConfig, PathsAreTakenFromTheFilesDirectory) {
  const auto config = read("[security]\nca = \"/ca.pem\"\ncertificate = \"pki/h1.pem\"\n");
  EXPECT_EQ(config->ca, "/ca.pem");
  EXPECT_EQ(config->certificate, "/etc/sluice/pki/h1.pem");
  EXPECT_EQ(config->key, "");
}

TEST(SecurityConfig, MistakesAreNamedWithTheirPlace) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"security = 1", "agent.toml:1:"},
      {"[security]\ntls = \"no\"", "agent.toml:2:"},
      {"[security]\nca = 5", "security.ca"},
      {"[security]\nca = \"\"", "security.ca"},
      {"[security]\ncert = \"x\"", "unknown key security.cert"},
  };
  for (const auto& [text, words] : cases) {
    const auto config = read(text);
    ASSERT_FALSE(config) << text;
    EXPECT_NE(config.error().message.find(words), std::string::npos) << config.error().message;
  }
}

}  // namespace
}  // namespace sluice::security
