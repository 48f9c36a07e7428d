#include "control/model/status.h"

#include <array>
#include <string>
#include <utility>

namespace sluice::model {
namespace {

constexpr std::array<std::pair<ErrorKind, grpc::StatusCode>, 9> kTable = {{
    {ErrorKind::kInvalid, grpc::StatusCode::INVALID_ARGUMENT},
    {ErrorKind::kNotFound, grpc::StatusCode::NOT_FOUND},
    {ErrorKind::kBusy, grpc::StatusCode::ABORTED},
    {ErrorKind::kUnsupported, grpc::StatusCode::UNIMPLEMENTED},
    {ErrorKind::kNoCapacity, grpc::StatusCode::RESOURCE_EXHAUSTED},
    {ErrorKind::kPermission, grpc::StatusCode::PERMISSION_DENIED},
    {ErrorKind::kUnreachable, grpc::StatusCode::UNAVAILABLE},
    {ErrorKind::kFailed, grpc::StatusCode::FAILED_PRECONDITION},
    {ErrorKind::kUnknownOutcome, grpc::StatusCode::UNKNOWN},
}};

}  // namespace

grpc::Status to_status(const Error& error) {
  for (const auto& [kind, code] : kTable) {
    if (kind == error.kind) return {code, error.message};
  }
  return {grpc::StatusCode::FAILED_PRECONDITION, error.message};
}

Error to_error(const grpc::Status& status) {
  for (const auto& [kind, code] : kTable) {
    if (code == status.error_code()) return {kind, status.error_message()};
  }
  const bool lost = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
                    status.error_code() == grpc::StatusCode::CANCELLED;
  return {lost ? ErrorKind::kUnreachable : ErrorKind::kFailed, status.error_message()};
}

ErrorKind kind_of(std::uint32_t number) {
  for (const auto& [kind, code] : kTable) {
    if (static_cast<std::uint32_t>(kind) == number) return kind;
  }
  return ErrorKind::kFailed;
}

}  // namespace sluice::model
