#include "control/agent/peer_service.h"

#include <condition_variable>
#include <fmt/format.h>
#include <mutex>
#include <optional>
#include <spdlog/spdlog.h>
#include <thread>

#include "control/agent/migration_destination.h"
#include "control/model/status.h"
#include "control/security/credentials.h"

namespace sluice::agent {
namespace {

Expected<void> speaks_for(const std::optional<security::Identity>& sender,
                          const std::string& host) {
  if (!sender || sender->speaks_for(host)) return {};
  return fail(ErrorKind::kPermission,
              fmt::format("certificate {} does not speak for host {}", sender->subject, host));
}

class GrpcSourceLink final : public SourceLink {
 public:
  using Stream = grpc::ServerReaderWriter<v1::DestinationMessage, v1::SourceMessage>;
  GrpcSourceLink(Stream& stream, const grpc::ServerContext& context)
      : stream_(stream), sender_(security::peer_of(*context.auth_context())) {}

  bool read(v1::SourceMessage& message) override { return stream_.Read(&message); }
  bool write(const v1::DestinationMessage& message) override { return stream_.Write(message); }
  Expected<void> speaks_for(const std::string& host) const override {
    return sluice::agent::speaks_for(sender_, host);
  }

 private:
  Stream& stream_;
  const std::optional<security::Identity> sender_;  // nothing without TLS
};

class GrpcProbeLink final : public ProbeLink {
 public:
  using Stream = grpc::ServerReaderWriter<v1::ProbesExpected, v1::ProbesAnnounced>;
  GrpcProbeLink(Stream& stream, const grpc::ServerContext& context)
      : stream_(stream), sender_(security::peer_of(*context.auth_context())) {}

  void expect(const v1::ProbesExpected& expected) override {
    if (!stream_.Write(expected)) return;
    v1::ProbesAnnounced no_more;
    while (stream_.Read(&no_more)) {
    }
  }
  Expected<void> speaks_for(const std::string& host) const override {
    return sluice::agent::speaks_for(sender_, host);
  }

 private:
  Stream& stream_;
  const std::optional<security::Identity> sender_;  // nothing without TLS
};

// Cancels a call that has not ended in time: only so does its read return.
class CallLimit {
 public:
  CallLimit(grpc::ServerContext& context, std::chrono::milliseconds time_max)
      : timer_([&context, time_max](const std::stop_token& stop) {
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any never;
          never.wait_for(lock, stop, time_max, [] { return false; });
          if (stop.stop_requested()) return;
          spdlog::warn("{} has not ended its check of the path to here within {} s: it is cut off",
                       context.peer(), std::chrono::duration<double>(time_max).count());
          context.TryCancel();
        }) {}

 private:
  std::jthread timer_;
};

}  // namespace

grpc::Status PeerService::AnswerProbes(grpc::ServerContext* context,
                                       GrpcProbeLink::Stream* stream) {
  const CallLimit limit(*context, answers_time_max_);
  v1::ProbesAnnounced announced;
  if (!stream->Read(&announced)) return grpc::Status::OK;
  GrpcProbeLink link(*stream, *context);
  const auto answered = answer_probes(agent_, announced, link);
  wipe(*announced.mutable_secret());
  return model::to_status(answered);
}

grpc::Status PeerService::Receive(grpc::ServerContext* context, GrpcSourceLink::Stream* stream) {
  GrpcSourceLink link(*stream, *context);
  MigrationDestination(agent_, link).run();
  return grpc::Status::OK;
}

grpc::Status PeerService::GetOutcome(grpc::ServerContext* context,
                                     const v1::OutcomeRequest* request, v1::Outcome* reply) {
  return answer_outcome(agent_, security::peer_of(*context->auth_context()), *request, *reply);
}

grpc::Status answer_outcome(const AgentContext& agent,
                            const std::optional<security::Identity>& caller,
                            const v1::OutcomeRequest& request, v1::Outcome& reply) {
  if (request.to() != agent.config.host)
    return model::to_status(wrong_host(request.to(), agent.config.host));
  reply.set_records_id(agent.outcomes.store_id());
  reply.set_kind(v1::Outcome::NEVER_OWNED);
  const auto found = agent.outcomes.look_up(request.session());
  // Another's session of the same number: this one was never owned, or its record would be here.
  if (!found.guest.empty() && found.guest != request.guest()) return grpc::Status::OK;
  if (!found.from.empty()) {
    if (auto speaks = speaks_for(caller, found.from); !speaks) return model::to_status(speaks);
  }
  switch (found.ownership) {
    case Ownership::kNever:
      break;
    case Ownership::kUndecided:
      reply.set_kind(v1::Outcome::UNDECIDED);
      break;
    case Ownership::kOwned:
      reply.set_kind(v1::Outcome::OWNED);
      break;
    case Ownership::kLost:
      // As a host that has another store than that of the session: an operator decides.
      reply.set_records_id(0);
      break;
  }
  return grpc::Status::OK;
}

}  // namespace sluice::agent
