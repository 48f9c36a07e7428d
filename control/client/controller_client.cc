#include "control/client/controller_client.h"

#include <chrono>
#include <fmt/format.h>
#include <mutex>
#include <thread>
#include <utility>

#include "control/client/rpc_failure.h"

namespace sluice::client {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kQuestion{10};
// Hosts are asked, and a plan for all of them is made.
constexpr seconds kPlanning{60};
constexpr seconds kPatience{60};
constexpr std::chrono::milliseconds kRetry{250};

using Stub = v1::Controller::Stub;

template <typename Request, typename Reply>
grpc::Status call(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                  const Request& request, Reply& reply, seconds timeout) {
  grpc::ClientContext context;
  set_deadline(context, timeout);
  return (stub.*method)(&context, request, &reply);
}

// Ctrl-C ends the call that is under way, or the wait for the next.
class Cancellation {
 public:
  explicit Cancellation(Interrupts& interrupts)
      : listener_(interrupts, [this] {
          const std::scoped_lock lock(mutex_);
          raised_ = true;
          if (context_ != nullptr) context_->TryCancel();
        }) {}

  // False if it was raised.
  bool enter(grpc::ClientContext* context) {
    const std::scoped_lock lock(mutex_);
    context_ = context;
    return !raised_;
  }
  bool leave() { return enter(nullptr); }

 private:
  std::mutex mutex_;
  grpc::ClientContext* context_ = nullptr;
  bool raised_ = false;
  Interrupts::Listener listener_;  // last: uses all of the above
};

bool is_at_end(const v1::RunStatus& run) {
  return run.state() == "paused" || run.state() == "done" || run.state() == "aborted";
}

}  // namespace

ControllerClient::ControllerClient(std::string name, std::string address,
                                   const security::Credentials& credentials)
    : name_(std::move(name)),
      address_(std::move(address)),
      connection_(model::open_channel(name_, address_, credentials, security::Role::kController)),
      stub_(v1::Controller::NewStub(connection_.channel)) {}

Error ControllerClient::error_of(const grpc::Status& status) const {
  return describe_failure(
      status, connection_, "the controller " + name_,
      fmt::format("the controller {} at {} does not answer; start sluice-controller there", name_,
                  address_));
}

Error ControllerClient::error_of_change(const grpc::Status& status, const std::string& what,
                                        const std::string& question) const {
  Error error = error_of(status);
  if (!may_have_happened(status)) return error;
  return {ErrorKind::kUnknownOutcome,
          fmt::format("it is not known whether {}: {}; then ask with: {}", what, error.message,
                      question)};
}

Expected<v1::ClusterInfo> ControllerClient::get_cluster() {
  v1::ClusterInfo reply;
  const v1::GetClusterRequest request;
  if (auto status = call(*stub_, &Stub::GetCluster, request, reply, kQuestion); !status.ok())
    return tl::unexpected(error_of(status));
  return reply;
}

Expected<v1::ClusterInfo> ControllerClient::cordon(const std::string& host) {
  v1::ClusterInfo reply;
  v1::MarkRequest request;
  request.set_host(host);
  if (auto status = call(*stub_, &Stub::Cordon, request, reply, kQuestion); !status.ok())
    return tl::unexpected(error_of_change(status, host + " is cordoned", "sluice hosts"));
  return reply;
}

Expected<v1::ClusterInfo> ControllerClient::uncordon(const std::string& host) {
  v1::ClusterInfo reply;
  v1::MarkRequest request;
  request.set_host(host);
  if (auto status = call(*stub_, &Stub::Uncordon, request, reply, kQuestion); !status.ok())
    return tl::unexpected(error_of_change(status, host + " takes guests again", "sluice hosts"));
  return reply;
}

Expected<v1::Preview> ControllerClient::get_preview(const std::string& plan_toml,
                                                    const std::string& file_name) {
  v1::Preview reply;
  v1::PreviewRequest request;
  request.set_plan_toml(plan_toml);
  request.set_file_name(file_name);
  if (auto status = call(*stub_, &Stub::GetPreview, request, reply, kPlanning); !status.ok())
    return tl::unexpected(error_of(status));
  return reply;
}

Expected<v1::RunStatus> ControllerClient::start_run(const std::string& plan_toml,
                                                    const std::string& file_name) {
  v1::RunStatus reply;
  v1::StartRunRequest request;
  request.set_plan_toml(plan_toml);
  request.set_file_name(file_name);
  const grpc::Status status = call(*stub_, &Stub::StartRun, request, reply, kPlanning);
  if (!status.ok())
    return tl::unexpected(error_of_change(status, "the run began", "sluice patch list"));
  return reply;
}

Expected<v1::RunList> ControllerClient::list_runs() {
  v1::RunList reply;
  const v1::ListRunsRequest request;
  if (auto status = call(*stub_, &Stub::ListRuns, request, reply, kQuestion); !status.ok())
    return tl::unexpected(error_of(status));
  return reply;
}

Expected<v1::RunStatus> ControllerClient::get_run(const std::string& run) {
  v1::RunStatus reply;
  v1::GetRunRequest request;
  request.set_run(run);
  if (auto status = call(*stub_, &Stub::GetRun, request, reply, kQuestion); !status.ok())
    return tl::unexpected(error_of(status));
  return reply;
}

Expected<v1::RunStatus> ControllerClient::command_run(const std::string& run,
                                                      v1::CommandRunRequest::Command command) {
  v1::RunStatus reply;
  v1::CommandRunRequest request;
  request.set_run(run);
  request.set_command(command);
  if (auto status = call(*stub_, &Stub::CommandRun, request, reply, kQuestion); !status.ok()) {
    return tl::unexpected(error_of_change(status, "the run was told so",
                                          "sluice patch status" + (run.empty() ? "" : " " + run)));
  }
  return reply;
}

Expected<v1::Report> ControllerClient::get_report(const std::string& run) {
  v1::Report reply;
  v1::GetRunRequest request;
  request.set_run(run);
  if (auto status = call(*stub_, &Stub::GetReport, request, reply, kQuestion); !status.ok())
    return tl::unexpected(error_of(status));
  return reply;
}

Expected<std::optional<v1::RunStatus>> ControllerClient::watch_run(const std::string& run,
                                                                   const Watcher& watcher,
                                                                   Interrupts& interrupts) {
  Cancellation cancellation(interrupts);
  v1::GetRunRequest request;
  request.set_run(run);
  std::optional<v1::RunStatus> last;
  auto heard = steady_clock::now();
  bool silent = false;
  for (;;) {
    grpc::ClientContext context;
    if (!cancellation.enter(&context)) return std::nullopt;
    const auto reader = stub_->WatchRun(&context, request);
    v1::RunStatus update;
    while (reader->Read(&update)) {
      heard = steady_clock::now();
      silent = false;
      last = update;
      watcher.on_status(update);
    }
    const grpc::Status status = reader->Finish();
    if (!cancellation.leave()) return std::nullopt;
    if (status.ok() && last && is_at_end(*last)) return last;
    // A controller that is told to stop ends its streams in good order.
    const bool stopped = status.ok() || status.error_code() == grpc::StatusCode::CANCELLED;
    const Error error =
        stopped ? Error{ErrorKind::kUnreachable, fmt::format("the controller {} stopped", name_)}
                : error_of(status);
    if (error.kind != ErrorKind::kUnreachable || steady_clock::now() - heard > kPatience) {
      return fail(
          ErrorKind::kUnknownOutcome,
          fmt::format("the outcome of {} is not known: {}; it goes on then; follow it with: "
                      "sluice patch status {} --watch",
                      run, error.message, run));
    }
    if (!std::exchange(silent, true)) watcher.on_silence(error.message);
    std::this_thread::sleep_for(kRetry);
  }
}

}  // namespace sluice::client
