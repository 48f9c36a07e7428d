// What one agent asks of another.
#pragma once

#include <chrono>
#include <optional>

#include "control/agent/context.h"
#include "control/agent/path_check.h"
#include "control/proto/sluice.grpc.pb.h"
#include "control/security/certificate.h"

namespace sluice::agent {

class PeerService final : public v1::Peer::Service {
 public:
  // A source that does not end its probes is cut off after `answers_time_max`.
  explicit PeerService(AgentContext& agent,
                       std::chrono::milliseconds answers_time_max = kAnswersTimeMax)
      : agent_(agent), answers_time_max_(answers_time_max) {}

  grpc::Status Receive(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::DestinationMessage, v1::SourceMessage>* stream) override;
  grpc::Status GetOutcome(grpc::ServerContext* context, const v1::OutcomeRequest* request,
                          v1::Outcome* reply) override;
  grpc::Status AnswerProbes(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::ProbesExpected, v1::ProbesAnnounced>* stream) override;

 private:
  AgentContext& agent_;
  const std::chrono::milliseconds answers_time_max_;
};

// What became of a session, for the host that was its source and about the guest that it was of;
// PERMISSION_DENIED for any other. `caller` is nothing without TLS.
[[nodiscard]] grpc::Status answer_outcome(const AgentContext& agent,
                                          const std::optional<security::Identity>& caller,
                                          const v1::OutcomeRequest& request, v1::Outcome& reply);

}  // namespace sluice::agent
