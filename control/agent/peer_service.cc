#include "control/agent/peer_service.h"

#include "control/agent/migration_destination.h"
#include "control/model/status.h"

namespace sluice::agent {
namespace {

class GrpcSourceLink final : public SourceLink {
 public:
  using Stream = grpc::ServerReaderWriter<v1::DestinationMessage, v1::SourceMessage>;
  explicit GrpcSourceLink(Stream& stream) : stream_(stream) {}

  bool read(v1::SourceMessage& message) override { return stream_.Read(&message); }
  bool write(const v1::DestinationMessage& message) override { return stream_.Write(message); }

 private:
  Stream& stream_;
};

}  // namespace

grpc::Status PeerService::Receive(grpc::ServerContext* /*context*/,
                                  GrpcSourceLink::Stream* stream) {
  GrpcSourceLink link(*stream);
  MigrationDestination(agent_, link).run();
  return grpc::Status::OK;
}

grpc::Status PeerService::GetOutcome(grpc::ServerContext* /*context*/,
                                     const v1::OutcomeRequest* request, v1::Outcome* reply) {
  if (request->to() != agent_.config.host)
    return model::to_status(wrong_host(request->to(), agent_.config.host));
  switch (agent_.outcomes.outcome(request->session())) {
    case Ownership::kNever:
      reply->set_kind(v1::Outcome::NEVER_OWNED);
      break;
    case Ownership::kUndecided:
      reply->set_kind(v1::Outcome::UNDECIDED);
      break;
    case Ownership::kOwned:
      reply->set_kind(v1::Outcome::OWNED);
      break;
  }
  return grpc::Status::OK;
}

}  // namespace sluice::agent
