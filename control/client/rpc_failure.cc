#include "control/client/rpc_failure.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <optional>
#include <string_view>
#include <utility>

#include "control/model/status.h"

namespace sluice::client {

void set_deadline(grpc::ClientContext& context, std::chrono::seconds timeout) {
  context.set_deadline(std::chrono::system_clock::now() + timeout);
}

// gRPC spells a missing peer in many words; what a peer says itself is left as it is.
bool is_transport_failure(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
      status.error_code() == grpc::StatusCode::CANCELLED)
    return true;
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return false;
  constexpr std::array<std::string_view, 10> kWords = {
      "failed to connect", "Socket closed", "Connection reset",      "recvmsg",
      "Broken pipe",       "GOAWAY",        "DNS resolution failed", "keepalive watchdog timeout",
      "Transport closed",  "Stream removed"};
  const std::string message = status.error_message();
  return std::any_of(kWords.begin(), kWords.end(), [&](std::string_view word) {
    return message.find(word) != std::string::npos;
  });
}

// By the code alone: gRPC has no list of its words. A peer's own refusals have other codes, and one
// that says UNAVAILABLE is taken for one that could not say more.
bool may_have_happened(const grpc::Status& status) {
  constexpr std::array<grpc::StatusCode, 5> kCodes = {
      grpc::StatusCode::DEADLINE_EXCEEDED, grpc::StatusCode::CANCELLED,
      grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::UNKNOWN, grpc::StatusCode::INTERNAL};
  if (std::find(kCodes.begin(), kCodes.end(), status.error_code()) == kCodes.end()) return false;
  const std::string message = status.error_message();
  return message.find("failed to connect") == std::string::npos &&
         message.find("DNS resolution failed") == std::string::npos;
}

Error describe_failure(const grpc::Status& status, const model::Connection& connection,
                       const std::string& who, const std::string& silence) {
  Error error = model::to_error(status);
  if (auto reason = is_transport_failure(status) ? connection.distrust(status.error_message())
                                                 : std::nullopt) {
    error = {ErrorKind::kPermission, std::move(*reason)};
  } else if (is_transport_failure(status)) {
    error.kind = ErrorKind::kUnreachable;
    error.message = silence;
  } else if (error.message.empty()) {
    error.message = fmt::format("{} gave no reason (gRPC status {})", who,
                                static_cast<int>(status.error_code()));
  }
  std::replace(error.message.begin(), error.message.end(), '\n', ' ');
  return error;
}

}  // namespace sluice::client
