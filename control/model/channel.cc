#include "control/model/channel.h"

#include <algorithm>
#include <fmt/format.h>
#include <grpcpp/create_channel.h>

namespace sluice::model {
namespace {

constexpr int kKeepaliveIntervalMs = 1000;
constexpr int kKeepaliveTimeoutMs = 3000;
constexpr std::chrono::milliseconds kConnectPoll{50};

}  // namespace

Expected<void> Connection::connect(std::chrono::milliseconds timeout) const {
  const auto deadline = std::chrono::system_clock::now() + timeout;
  int closed_polls = 0;
  while (!channel->WaitForConnected(
      std::min(std::chrono::system_clock::now() + kConnectPoll, deadline))) {
    if (const auto refusal = handshake->refusal(); !refusal.empty())
      return fail(ErrorKind::kPermission, refused_by_us(refusal));
    // Once could be the moment between the handshake and the connection.
    const bool closed =
        handshake->believed() && channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE;
    if (closed && ++closed_polls == 2) return fail(ErrorKind::kPermission, refused_by_peer());
    if (std::chrono::system_clock::now() >= deadline) {
      return fail(
          ErrorKind::kUnreachable,
          fmt::format("host {} does not answer at {}; is its agent running?", host, address));
    }
  }
  return {};
}

std::optional<std::string> Connection::distrust(std::string_view status_message) const {
  if (!status_message.starts_with("failed to connect")) return std::nullopt;
  if (const auto refusal = handshake->refusal(); !refusal.empty()) return refused_by_us(refusal);
  const auto says = [&](std::string_view word) {
    return status_message.find(word) != std::string_view::npos;
  };
  const bool closed =
      says("Socket closed") || says("Connection reset") || says("recvmsg") || says("Broken pipe");
  if (closed && handshake->believed()) return refused_by_peer();
  if (closed || says("andshake failed")) {
    return fmt::format(
        "host {} at {} does not shake hands; is [security] tls = false at one end only?", host,
        address);
  }
  return std::nullopt;
}

std::string Connection::refused_by_us(const std::string& reason) const {
  return fmt::format("host {} at {} {}", host, address, reason);
}

std::string Connection::refused_by_peer() const {
  return fmt::format(
      "host {} at {} closed the connection when it saw certificate {}; the log of its agent says "
      "why",
      host, address, own_certificate);
}

Connection open_channel(const std::string& host, const std::string& address,
                        const security::Credentials& credentials, security::Role role) {
  const auto security = credentials.for_channel(host, role);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A connection of its own: one that is shared would remember the peer's earlier failures and back
  // off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // gRPC means the time for one attempt.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   static_cast<int>(std::chrono::milliseconds(kConnectTimeout).count()));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  if (!security.server_name.empty()) arguments.SetSslTargetNameOverride(security.server_name);
  return {grpc::CreateCustomChannel(address, security.credentials, arguments), security.handshake,
          host, address, credentials.describe()};
}

void set_keepalive(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveIntervalMs / 2);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  // Two agents must never share an address without noticing.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
}

}  // namespace sluice::model
