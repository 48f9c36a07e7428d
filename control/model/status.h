// sluice::Error and grpc::Status are two spellings of one thing; the table stands at the head of
// control/proto/sluice.proto.
#pragma once

#include <cstdint>
#include <grpcpp/support/status.h>

#include "dataplane/base/expected.h"

namespace sluice::model {

[[nodiscard]] grpc::Status to_status(const Error& error);
template <typename T>
[[nodiscard]] grpc::Status to_status(const Expected<T>& result) {
  return result ? grpc::Status::OK : to_status(result.error());
}

// Codes outside of the table come from gRPC itself: DEADLINE_EXCEEDED and CANCELLED are
// kUnreachable, the rest kFailed. `status` is not OK.
[[nodiscard]] Error to_error(const grpc::Status& status);

// The kind that a number in a message stands for (MigrateSummary.error_kind, Failed.error_kind);
// kFailed if it is none.
[[nodiscard]] ErrorKind kind_of(std::uint32_t number);

}  // namespace sluice::model
