// A small certificate authority in a directory, for the lab and for trying out:
//
//   DIR/ca.pem                    for every host and client
//   DIR/private/ca-key.pem        stays with whoever makes certificates
//   DIR/NAME.pem, NAME-key.pem    for one host or client
//
// Keys are EC P-256, readable by their owner alone. Nothing is overwritten unless asked for.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "control/security/role.h"
#include "dataplane/base/expected.h"

namespace sluice::security {

inline constexpr std::chrono::hours kAuthorityLifetime{24 * 3650};
inline constexpr std::chrono::hours kCertificateLifetime{24 * 365};

struct CertificateRequest {
  std::string name;  // becomes the common name and the file's name: letters, digits, '.', '-', '_'
  Role role = Role::kViewer;
  // Further DNS names and addresses; Sluice itself asks for the host's name only.
  std::vector<std::string> addresses;
  std::chrono::seconds lifetime = kCertificateLifetime;
};

struct CertificateFiles {
  std::string certificate;
  std::string key;
};

// kBusy when there is one and not `force`.
[[nodiscard]] Expected<CertificateFiles> make_authority(const std::string& directory, bool force);
// Hosts and controllers get their name as DNS name and may be servers and clients; viewers and
// operators may be clients only. kNotFound without an authority; kBusy, kInvalid.
[[nodiscard]] Expected<CertificateFiles> make_certificate(const std::string& directory,
                                                          const CertificateRequest& request,
                                                          bool force);

}  // namespace sluice::security
