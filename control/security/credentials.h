// The one place that makes gRPC credentials: servers that ask everybody for a certificate, and
// channels that accept the certificate of one host only. See docs/security.md.
//
// The chain of a peer's certificate is verified by `verify_certificate` with OpenSSL, in gRPC's
// verifier callback, on every connection: gRPC's own verification would say no more than that it
// failed, neither of whom nor why. The CA file is read again for every connection; certificate and
// key within seconds of their change.
#pragma once

#include <functional>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "control/security/certificate.h"
#include "control/security/config.h"
#include "control/security/role.h"
#include "dataplane/base/expected.h"

namespace sluice::security {

// What became of the last TLS handshake of a channel. Any thread.
class Handshake {
 public:
  void trusted();
  void refused(const std::string& reason);
  // Why this side refused the server; empty if it did not.
  [[nodiscard]] std::string refusal() const;
  // Whether this side believed the server.
  [[nodiscard]] bool believed() const;

 private:
  mutable std::mutex mutex_;
  bool trusted_ = false;
  std::string refusal_;
};

struct ChannelSecurity {
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::shared_ptr<Handshake> handshake;  // never nullptr
  // Whom gRPC is to expect whatever the address; empty without TLS.
  std::string server_name;
};

// Any thread; lives as long as what it has made is used.
class Credentials {
 public:
  // Reads all three files once, so that a mistake shows at the start: kNotFound, kInvalid (a key
  // that does not fit, an expired certificate, one that `ca` does not vouch for). When `config`
  // names no files the error says `remedy`, a command that makes some.
  [[nodiscard]] static Expected<std::shared_ptr<const Credentials>> load(SecurityConfig config,
                                                                         const std::string& remedy);

  [[nodiscard]] bool tls() const { return config_.tls; }
  // Who this process is; kInvalid names the file if that is not `host` in role host or controller.
  [[nodiscard]] Expected<void> require_host(const std::string& host, Role role) const;
  // "/etc/sluice/pki/h1.pem (CN=h1, issued by CN=Sluice CA 5be2)"
  [[nodiscard]] std::string describe() const;

  // Requires a certificate of every client, and of its role that it may call the method
  // (authorization.h). `log` gets one line for every connection or call that is refused, from any
  // thread.
  using Log = std::function<void(const std::string&)>;
  [[nodiscard]] std::shared_ptr<grpc::ServerCredentials> for_server(Log log) const;
  // Accepts a server whose certificate is that of `host` in `role`.
  [[nodiscard]] ChannelSecurity for_channel(const std::string& host, Role role = Role::kHost) const;

 private:
  explicit Credentials(SecurityConfig config) : config_(std::move(config)) {}
  void watch(grpc::experimental::TlsCredentialsOptions& options) const;

  SecurityConfig config_;
  Identity identity_;
  std::shared_ptr<grpc::experimental::CertificateProviderInterface> provider_;
};

// Who is at the other end of a call; nothing without TLS.
[[nodiscard]] std::optional<Identity> peer_of(const grpc::AuthContext& context);

}  // namespace sluice::security
