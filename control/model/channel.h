// How agents are connected to, by each other and by the command line: a dead peer shows within four
// seconds, a closed connection at once.
#pragma once

#include <chrono>
#include <grpcpp/channel.h>
#include <grpcpp/server_builder.h>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control/security/credentials.h"

namespace sluice::model {

// Until a connection stands, on a busy machine too. A host that is switched off refuses nothing, so
// it takes as long to be called unreachable.
inline constexpr std::chrono::seconds kConnectTimeout{5};

// Digests of a guest of terabytes fit.
inline constexpr int kMessageBytesMax = 64 << 20;

struct Connection {
  std::shared_ptr<grpc::Channel> channel;
  std::shared_ptr<security::Handshake> handshake;  // never nullptr
  std::string host;
  std::string address;
  std::string own_certificate;  // as an operator would name it

  // Waits until the connection stands: kUnreachable after `timeout`, kPermission as soon as either
  // end has refused the other's certificate.
  [[nodiscard]] Expected<void> connect(std::chrono::milliseconds timeout) const;
  // Why a call that ended with this message failed, if certificates are why: one line that names
  // the host and the certificate.
  [[nodiscard]] std::optional<std::string> distrust(std::string_view status_message) const;

 private:
  [[nodiscard]] std::string refused_by_us(const std::string& reason) const;
  [[nodiscard]] std::string refused_by_peer() const;
};

// Connects when it is used. The server must present the certificate of `host` in `role`, whatever
// its address.
[[nodiscard]] Connection open_channel(const std::string& host, const std::string& address,
                                      const security::Credentials& credentials,
                                      security::Role role = security::Role::kHost);
// The same on the server's side.
void set_keepalive(grpc::ServerBuilder& builder);

}  // namespace sluice::model
