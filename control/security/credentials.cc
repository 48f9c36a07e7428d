#include "control/security/credentials.h"

#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <utility>

#include "control/security/authorization.h"
#include "control/security/openssl.h"

namespace sluice::security {
namespace {

using grpc::experimental::ExternalCertificateVerifier;
using grpc::experimental::TlsCustomVerificationCheckRequest;

constexpr unsigned kReloadSeconds = 2;

Expected<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.str().empty()) {
    return fail(ErrorKind::kNotFound,
                fmt::format("{} cannot be read, or is empty; see docs/security.md", path));
  }
  return text.str();
}

std::shared_ptr<grpc::experimental::CertificateProviderInterface> watch_files(
    const SecurityConfig& files) {
  return std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      files.key, files.certificate, kReloadSeconds);
}

std::string_view view(grpc::string_ref text) { return {text.data(), text.size()}; }

// Whom the CA vouches for. The reason is a sentence about "a certificate".
Expected<Identity> trusted_identity(const TlsCustomVerificationCheckRequest& request,
                                    const std::string& ca_file, Side side) {
  auto identity = identify(view(request.peer_cert()));
  if (!identity) return fail(ErrorKind::kInvalid, "presented no certificate that can be read");
  const auto ca = read_file(ca_file);
  if (!ca) return tl::unexpected(ca.error());
  const auto verified = verify_certificate(view(request.peer_cert()),
                                           view(request.peer_cert_full_chain()), *ca, side);
  if (!verified) {
    return fail(ErrorKind::kInvalid,
                fmt::format("presented a certificate ({}) that {} does not vouch for: {}",
                            identity->describe(), ca_file, verified.error().message));
  }
  return identity;
}

grpc::Status unauthenticated(const std::string& reason) {
  return {grpc::StatusCode::UNAUTHENTICATED, reason};
}

// gRPC deletes verifiers. Both answer at once.
class ServerVerifier final : public ExternalCertificateVerifier {
 public:
  ServerVerifier(std::string ca, Credentials::Log log) : ca_(std::move(ca)), log_(std::move(log)) {}

  bool Verify(TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)> /*callback*/, grpc::Status* status) override {
    const auto identity = trusted_identity(*request, ca_, Side::kClient);
    if (!identity) {
      log_("a connection is refused: the client " + identity.error().message);
      *status = unauthenticated(identity.error().message);
    }
    return true;
  }
  void Cancel(TlsCustomVerificationCheckRequest* /*request*/) override {}

 private:
  const std::string ca_;
  const Credentials::Log log_;
};

class ChannelVerifier final : public ExternalCertificateVerifier {
 public:
  ChannelVerifier(std::string ca, std::string host, Role role, std::shared_ptr<Handshake> handshake)
      : ca_(std::move(ca)), host_(std::move(host)), role_(role), handshake_(std::move(handshake)) {}

  bool Verify(TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)> /*callback*/, grpc::Status* status) override {
    if (const auto believed = check(*request); !believed) {
      handshake_->refused(believed.error().message);
      *status = unauthenticated(believed.error().message);
    } else {
      handshake_->trusted();
    }
    return true;
  }
  void Cancel(TlsCustomVerificationCheckRequest* /*request*/) override {}

 private:
  [[nodiscard]] Expected<void> check(const TlsCustomVerificationCheckRequest& request) const {
    const auto identity = trusted_identity(request, ca_, Side::kServer);
    if (!identity) return tl::unexpected(identity.error());
    if (identity->speaks_for(host_) && identity->role == role_) return {};
    return fail(ErrorKind::kInvalid,
                fmt::format("presented a certificate ({}) that is not that of {} {}",
                            identity->describe(), to_string(role_), host_));
  }

  const std::string ca_;
  const std::string host_;
  const Role role_;
  const std::shared_ptr<Handshake> handshake_;
};

}  // namespace

// ---- handshakes ----

void Handshake::trusted() {
  const std::lock_guard lock(mutex_);
  trusted_ = true;
  refusal_.clear();
}

void Handshake::refused(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  trusted_ = false;
  refusal_ = reason;
}

std::string Handshake::refusal() const {
  const std::lock_guard lock(mutex_);
  return refusal_;
}

bool Handshake::believed() const {
  const std::lock_guard lock(mutex_);
  return trusted_;
}

// ---- credentials ----

Expected<std::shared_ptr<const Credentials>> Credentials::load(SecurityConfig config,
                                                               const std::string& remedy) {
  std::shared_ptr<Credentials> credentials(new Credentials(std::move(config)));
  const SecurityConfig& files = credentials->config_;
  if (!files.tls) return credentials;
  if (files.ca.empty() || files.certificate.empty() || files.key.empty()) {
    return fail(
        ErrorKind::kInvalid,
        fmt::format("no certificates: name ca, certificate and key under [security]; {}", remedy));
  }
  const auto ca = read_file(files.ca);
  if (!ca) return tl::unexpected(ca.error());
  const auto certificate = read_file(files.certificate);
  if (!certificate) return tl::unexpected(certificate.error());
  const auto key_text = read_file(files.key);
  if (!key_text) return tl::unexpected(key_text.error());
  auto identity = identify(*certificate);
  if (!identity) {
    return fail(ErrorKind::kInvalid,
                fmt::format("{} {}", files.certificate, identity.error().message));
  }
  credentials->identity_ = std::move(*identity);
  const KeyPtr key = parse_key(*key_text);
  if (!key ||
      X509_check_private_key(parse_certificates(*certificate).front().get(), key.get()) != 1) {
    return fail(ErrorKind::kInvalid, fmt::format("{} is not the key of {}, or has a passphrase",
                                                 files.key, credentials->describe()));
  }
  if (const auto verified = verify_certificate(*certificate, "", *ca, Side::kClient); !verified) {
    return fail(ErrorKind::kInvalid,
                fmt::format("{} does not vouch for {}: {}; {}", files.ca, credentials->describe(),
                            verified.error().message, remedy));
  }
  credentials->provider_ = watch_files(files);
  return credentials;
}

Expected<void> Credentials::require_host(const std::string& host, Role role) const {
  if (!config_.tls || (identity_.speaks_for(host) && identity_.role == role)) return {};
  return fail(
      ErrorKind::kInvalid,
      fmt::format("{} is not a certificate of {} {}: it lacks the alternative name DNS:{} "
                  "or URI:{}{}",
                  describe(), to_string(role), host, host, kRoleUriPrefix, to_string(role)));
}

std::string Credentials::describe() const {
  return fmt::format("{} ({})", config_.certificate, identity_.describe());
}

void Credentials::watch(grpc::experimental::TlsCredentialsOptions& options) const {
  options.set_certificate_provider(provider_);
  options.watch_identity_key_cert_pairs();
}

std::shared_ptr<grpc::ServerCredentials> Credentials::for_server(Log log) const {
  if (!config_.tls) return grpc::InsecureServerCredentials();
  grpc::experimental::TlsServerCredentialsOptions options(provider_);
  watch(options);
  options.set_cert_request_type(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);  // the verifier does
  options.set_certificate_verifier(
      ExternalCertificateVerifier::Create<ServerVerifier>(config_.ca, log));
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(std::make_shared<Authorizer>(std::move(log)));
  return credentials;
}

ChannelSecurity Credentials::for_channel(const std::string& host, Role role) const {
  ChannelSecurity security;
  security.handshake = std::make_shared<Handshake>();
  if (!config_.tls) {
    security.credentials = grpc::InsecureChannelCredentials();
    return security;
  }
  grpc::experimental::TlsChannelCredentialsOptions options;
  // A provider of its own: gRPC registers the first user of one before it hands out the
  // certificate. Of channels that share one and connect at once, another may find none yet, and
  // fails.
  options.set_certificate_provider(watch_files(config_));
  options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(false);  // the verifier does
  options.set_certificate_verifier(ExternalCertificateVerifier::Create<ChannelVerifier>(
      config_.ca, host, role, security.handshake));
  security.credentials = grpc::experimental::TlsCredentials(options);
  security.server_name = host;
  return security;
}

std::optional<Identity> peer_of(const grpc::AuthContext& context) {
  const auto certificates = context.FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (certificates.empty()) return std::nullopt;
  auto identity = identify(view(certificates.front()));
  if (!identity) return std::nullopt;
  return *identity;
}

}  // namespace sluice::security
