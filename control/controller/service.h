// What the command line asks of the controller.
#pragma once

#include "control/controller/controller.h"
#include "control/proto/sluice.grpc.pb.h"

namespace sluice::controller {

class ControllerService final : public v1::Controller::Service {
 public:
  // `controller` outlives the server.
  explicit ControllerService(Controller& controller) : controller_(controller) {}

  grpc::Status GetCluster(grpc::ServerContext* context, const v1::GetClusterRequest* request,
                          v1::ClusterInfo* reply) override;
  grpc::Status Cordon(grpc::ServerContext* context, const v1::MarkRequest* request,
                      v1::ClusterInfo* reply) override;
  grpc::Status Uncordon(grpc::ServerContext* context, const v1::MarkRequest* request,
                        v1::ClusterInfo* reply) override;
  grpc::Status GetPreview(grpc::ServerContext* context, const v1::PreviewRequest* request,
                          v1::Preview* reply) override;
  grpc::Status StartRun(grpc::ServerContext* context, const v1::StartRunRequest* request,
                        v1::RunStatus* reply) override;
  grpc::Status ListRuns(grpc::ServerContext* context, const v1::ListRunsRequest* request,
                        v1::RunList* reply) override;
  grpc::Status GetRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                      v1::RunStatus* reply) override;
  grpc::Status WatchRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                        grpc::ServerWriter<v1::RunStatus>* writer) override;
  grpc::Status CommandRun(grpc::ServerContext* context, const v1::CommandRunRequest* request,
                          v1::RunStatus* reply) override;
  grpc::Status GetReport(grpc::ServerContext* context, const v1::GetRunRequest* request,
                         v1::Report* reply) override;

 private:
  Controller& controller_;
};

}  // namespace sluice::controller
