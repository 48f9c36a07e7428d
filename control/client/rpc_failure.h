// What a failed call comes to, for a person. Any thread.
#pragma once

#include <chrono>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>
#include <string>

#include "control/model/channel.h"
#include "dataplane/base/expected.h"

namespace sluice::client {

void set_deadline(grpc::ClientContext& context, std::chrono::seconds timeout);

// The peer did not answer, as opposed to an answer that is a refusal.
[[nodiscard]] bool is_transport_failure(const grpc::Status& status);

// The peer may have got the question and done what it asks for: only its answer is missing. False
// for a refusal, and where there was no connection to ask by.
[[nodiscard]] bool may_have_happened(const grpc::Status& status);

// One line. A peer that did not answer is kUnreachable (`silence` is the line then), or
// kPermission if certificates are why. `who` begins the line where the peer gave no reason.
[[nodiscard]] Error describe_failure(const grpc::Status& status,
                                     const model::Connection& connection, const std::string& who,
                                     const std::string& silence);

}  // namespace sluice::client
