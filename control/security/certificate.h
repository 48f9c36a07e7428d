// Who a certificate speaks for, and whether it is to be believed. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/security/role.h"
#include "dataplane/base/expected.h"

namespace sluice::security {

struct Identity {
  std::string subject;             // "CN=h1"
  std::string issuer;              // "CN=Sluice CA 5be2"
  std::string expires;             // "Nov 22 03:14:55 2027 GMT"
  std::vector<std::string> names;  // the hosts that it speaks for: its DNS names
  // Exactly one role URI, else none.
  std::optional<Role> role;

  [[nodiscard]] bool speaks_for(std::string_view host) const;
  // "CN=h1, issued by CN=Sluice CA 5be2"
  [[nodiscard]] std::string describe() const;
};

// Of the first certificate in a PEM text; kInvalid if there is none.
[[nodiscard]] Expected<Identity> identify(std::string_view pem);

// On which side of a connection the certificate is presented.
enum class Side : std::uint8_t { kServer = 1, kClient };

// Whether a certificate authority of `ca_pem` vouches for the first certificate of
// `certificate_pem`, through the rest of it and `chain_pem`, here and now, for this side. kInvalid
// with OpenSSL's reason. That the peer holds the key too is what the TLS handshake shows.
[[nodiscard]] Expected<void> verify_certificate(std::string_view certificate_pem,
                                                std::string_view chain_pem, std::string_view ca_pem,
                                                Side side);

}  // namespace sluice::security
