// A controller that does what a test tells it to, on a unix socket, in this process.
#pragma once

#include <chrono>
#include <functional>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "control/model/channel.h"
#include "control/proto/sluice.grpc.pb.h"
#include "control/security/credentials.h"

namespace sluice::cli {

class FakeController final : public v1::Controller::Service {
 public:
  using StatusWriter = grpc::ServerWriter<v1::RunStatus>;
  using Script = std::function<grpc::Status(StatusWriter&)>;

  FakeController(const std::string& directory, const security::Credentials& credentials)
      : address_("unix:" + directory + "/controller.sock"), credentials_(credentials) {
    run.set_run("7");
    run.set_name("drain h1");
    run.set_state("done");
    run.set_begun_ms(1'700'000'000'000);
    v1::HostRunStatus& host = *run.add_hosts();
    host.set_host("h1");
    host.set_state("done");
    host.set_guests_before(3);
    start();
  }
  ~FakeController() override { stop(); }

  void start() {
    grpc::ServerBuilder builder;
    model::set_keepalive(builder);
    builder.AddListeningPort(address_, credentials_.for_server([](const std::string&) {}));
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  void stop() { server_->Shutdown(std::chrono::system_clock::now()); }
  [[nodiscard]] const std::string& address() const { return address_; }

  // Set before the command that meets them.
  v1::RunStatus run;  // the end of every run
  v1::ClusterInfo cluster;
  bool drain_only = true;  // what is previewed
  grpc::Status refusal;    // of everything but WatchRun
  bool silent = false;     // takes a mark, and never answers
  Script script;           // instead of running, then `run`

  // What came in.
  v1::StartRunRequest started;
  v1::PreviewRequest previewed;
  v1::CommandRunRequest commanded;
  std::string asked_run;

  grpc::Status GetCluster(grpc::ServerContext*, const v1::GetClusterRequest*,
                          v1::ClusterInfo* reply) override {
    *reply = cluster;
    return refusal;
  }
  grpc::Status Cordon(grpc::ServerContext* context, const v1::MarkRequest* request,
                      v1::ClusterInfo* reply) override {
    while (silent && !context->IsCancelled())
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return mark(*request, "operator", *reply);
  }
  grpc::Status Uncordon(grpc::ServerContext*, const v1::MarkRequest* request,
                        v1::ClusterInfo* reply) override {
    return mark(*request, "", *reply);
  }
  grpc::Status GetPreview(grpc::ServerContext*, const v1::PreviewRequest* request,
                          v1::Preview* reply) override {
    previewed = *request;
    v1::PreviewHost& host = *reply->add_hosts();
    host.set_host("h1");
    host.set_seconds(4.5);
    host.set_low_seconds(4.2);
    host.set_high_seconds(6);
    host.set_bound_seconds(4);
    host.add_shut_down("old");
    host.set_bound_reason("the link of h1");
    v1::PreviewMove& move = *host.add_moves();
    move.set_guest("db");
    move.set_from("h1");
    move.set_to("h2");
    move.set_start_seconds(1);
    move.set_seconds(3.5);
    move.set_low_seconds(3.2);
    move.set_high_seconds(5);
    move.set_memory_bytes(std::uint64_t{2} << 30);
    reply->set_drain_only(drain_only);
    reply->set_seconds(4.5);
    reply->set_bound_seconds(4);
    reply->set_hosts_at_once(1);
    reply->set_patch_seconds(drain_only ? 0 : 300);
    reply->set_patch_seconds_from("as in run r3, of 4 hosts");
    reply->set_begins("Sat 2026-11-21 22:00 Europe/Berlin");
    return refusal;
  }
  grpc::Status StartRun(grpc::ServerContext*, const v1::StartRunRequest* request,
                        v1::RunStatus* reply) override {
    if (!refusal.ok()) return refusal;
    started = *request;
    *reply = run;
    reply->set_state("admitted");
    return grpc::Status::OK;
  }
  grpc::Status ListRuns(grpc::ServerContext*, const v1::ListRunsRequest*,
                        v1::RunList* reply) override {
    *reply->add_runs() = run;
    return refusal;
  }
  grpc::Status GetRun(grpc::ServerContext*, const v1::GetRunRequest* request,
                      v1::RunStatus* reply) override {
    asked_run = request->run();
    *reply = run;
    return refusal;
  }
  grpc::Status WatchRun(grpc::ServerContext*, const v1::GetRunRequest* request,
                        StatusWriter* writer) override {
    asked_run = request->run();
    if (script) return script(*writer);
    v1::RunStatus running = run;
    running.set_state("running");
    running.mutable_hosts(0)->set_state("draining");
    v1::TaskStatus& task = *running.add_tasks();
    task.set_id(1);
    task.set_action("migrate");
    task.set_guest("db");
    task.set_from("h1");
    task.set_to("h2");
    task.set_state("under way");
    writer->Write(running);
    task.set_state("done");
    task.set_seconds(1.25);
    task.set_downtime_ms(12.4);
    writer->Write(running);
    writer->Write(run);
    return grpc::Status::OK;
  }
  grpc::Status CommandRun(grpc::ServerContext*, const v1::CommandRunRequest* request,
                          v1::RunStatus* reply) override {
    commanded = *request;
    *reply = run;
    return refusal;
  }
  grpc::Status GetReport(grpc::ServerContext*, const v1::GetRunRequest* request,
                         v1::Report* reply) override {
    asked_run = request->run();
    reply->set_markdown("# Run 7\n");
    reply->set_json("{\"run\": \"7\"}\n");
    return refusal;
  }

 private:
  grpc::Status mark(const v1::MarkRequest& request, const std::string& by, v1::ClusterInfo& reply) {
    if (!refusal.ok()) return refusal;
    v1::ClusterHost& host = *cluster.add_hosts();
    host.set_name(request.host());
    host.set_cordoned_by(by);
    host.set_reachable(true);
    reply = cluster;
    return grpc::Status::OK;
  }

  const std::string address_;
  const security::Credentials& credentials_;
  std::unique_ptr<grpc::Server> server_;  // last: serves from all of the above
};

}  // namespace sluice::cli
