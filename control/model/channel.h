// How agents are connected to, by each other and by the command line: a dead peer shows within four
// seconds, a closed connection at once.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/server_builder.h>
#include <memory>
#include <string>

namespace sluice::model {

// Digests of a guest of terabytes fit.
inline constexpr int kMessageBytesMax = 64 << 20;

[[nodiscard]] std::shared_ptr<grpc::Channel> open_channel(const std::string& address);
// The same on the server's side.
void set_keepalive(grpc::ServerBuilder& builder);

}  // namespace sluice::model
