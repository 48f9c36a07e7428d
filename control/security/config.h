// The table [security] of agent.toml and sluice.toml; see docs/security.md.
//
//   [security]
//   ca = "/etc/sluice/pki/ca.pem"
//   certificate = "/etc/sluice/pki/h1.pem"
//   key = "/etc/sluice/pki/h1-key.pem"
// and in an agent's also
//   allow_plaintext = false
#pragma once

#include <cstdint>
#include <string>
#include <toml++/toml.h>

#include "dataplane/base/expected.h"

namespace sluice::security {

struct SecurityConfig {
  bool allow_plaintext = false;  // agents: a migration may ask for frames in the clear
  bool tls = true;               // false: connections are neither encrypted nor authenticated
  // PEM files. Empty: not given, which Credentials::load refuses while `tls` is true.
  std::string ca;           // who vouches for peers; may hold several certificates
  std::string certificate;  // this process's own, followed by those between it and the CA
  std::string key;
};

// Whose file it is: only an agent's knows allow_plaintext.
enum class ConfigOwner : std::uint8_t { kCaller, kAgent };

// `node` is the value of the key "security", or nullptr if there is none. Paths that are not
// absolute are taken from the directory of `source`, the file that is being read. kInvalid:
// "SOURCE:LINE:COLUMN: what is wrong".
[[nodiscard]] Expected<SecurityConfig> read_security(const toml::node* node,
                                                     const std::string& source,
                                                     ConfigOwner owner = ConfigOwner::kCaller);

}  // namespace sluice::security
