#include "control/controller/service.h"

#include <chrono>
#include <thread>

#include "control/model/status.h"
#include "control/security/credentials.h"

namespace sluice::controller {
namespace {

constexpr std::chrono::milliseconds kWatchInterval{250};

// The subject of the caller's certificate, such as "CN=anna"; empty without TLS.
std::string operator_of(const grpc::ServerContext& context) {
  const auto peer = security::peer_of(*context.auth_context());
  return peer ? peer->subject : "";
}

template <typename Reply>
grpc::Status answer(Expected<Reply> result, Reply* reply) {
  if (!result) return model::to_status(result.error());
  *reply = std::move(*result);
  return grpc::Status::OK;
}

}  // namespace

grpc::Status ControllerService::GetCluster(grpc::ServerContext* /*context*/,
                                           const v1::GetClusterRequest* /*request*/,
                                           v1::ClusterInfo* reply) {
  *reply = controller_.cluster();
  return grpc::Status::OK;
}

grpc::Status ControllerService::Cordon(grpc::ServerContext* context, const v1::MarkRequest* request,
                                       v1::ClusterInfo* reply) {
  if (auto done = controller_.cordon(request->host(), operator_of(*context)); !done)
    return model::to_status(done);
  *reply = controller_.cluster();
  return grpc::Status::OK;
}

grpc::Status ControllerService::Uncordon(grpc::ServerContext* context,
                                         const v1::MarkRequest* request, v1::ClusterInfo* reply) {
  if (auto done = controller_.uncordon(request->host(), operator_of(*context)); !done)
    return model::to_status(done);
  *reply = controller_.cluster();
  return grpc::Status::OK;
}

grpc::Status ControllerService::GetPreview(grpc::ServerContext* /*context*/,
                                           const v1::PreviewRequest* request, v1::Preview* reply) {
  return answer(controller_.preview(request->plan_toml(), request->file_name()), reply);
}

grpc::Status ControllerService::StartRun(grpc::ServerContext* context,
                                         const v1::StartRunRequest* request, v1::RunStatus* reply) {
  const auto run =
      controller_.start_run(request->plan_toml(), request->file_name(), operator_of(*context));
  if (!run) return model::to_status(run.error());
  return answer(controller_.status(*run), reply);
}

grpc::Status ControllerService::ListRuns(grpc::ServerContext* /*context*/,
                                         const v1::ListRunsRequest* /*request*/,
                                         v1::RunList* reply) {
  *reply = controller_.runs();
  return grpc::Status::OK;
}

grpc::Status ControllerService::GetRun(grpc::ServerContext* /*context*/,
                                       const v1::GetRunRequest* request, v1::RunStatus* reply) {
  return answer(controller_.status(request->run()), reply);
}

grpc::Status ControllerService::WatchRun(grpc::ServerContext* context,
                                         const v1::GetRunRequest* request,
                                         grpc::ServerWriter<v1::RunStatus>* writer) {
  std::string run = request->run();
  std::string last;
  while (!context->IsCancelled()) {
    auto status = controller_.status(run);
    if (!status) return model::to_status(status.error());
    run = status->run();  // that one now, also if another begins
    if (const std::string text = status->SerializeAsString(); text != last) {
      last = text;
      if (!writer->Write(*status)) break;
    }
    const std::string& state = status->state();
    if (state == "done" || state == "aborted" || (state == "paused" && status->at_rest())) break;
    std::this_thread::sleep_for(kWatchInterval);
  }
  return grpc::Status::OK;
}

grpc::Status ControllerService::CommandRun(grpc::ServerContext* context,
                                           const v1::CommandRunRequest* request,
                                           v1::RunStatus* reply) {
  patch::RunEvent event{};
  switch (request->command()) {
    case v1::CommandRunRequest::PAUSE:
      event = patch::RunEvent::kPause;
      break;
    case v1::CommandRunRequest::RESUME:
      event = patch::RunEvent::kResume;
      break;
    case v1::CommandRunRequest::ABORT:
      event = patch::RunEvent::kAbort;
      break;
    default:
      return model::to_status(Error{ErrorKind::kInvalid, "there is no such command for a run"});
  }
  const auto run = controller_.command(request->run(), event, operator_of(*context));
  if (!run) return model::to_status(run.error());
  return answer(controller_.status(*run), reply);
}

grpc::Status ControllerService::GetReport(grpc::ServerContext* /*context*/,
                                          const v1::GetRunRequest* request, v1::Report* reply) {
  return answer(controller_.report(request->run()), reply);
}

}  // namespace sluice::controller
