#include "control/client/agent_client.h"

#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

#include "control/client/rpc_failure.h"

namespace sluice::client {
namespace {

using std::chrono::seconds;

// An agent answers within milliseconds, on a machine that is overloaded within seconds; one that is
// gone is found out sooner (model::kConnectTimeout).
constexpr seconds kQuestion{10};
// Filling or checking a guest's memory takes seconds per GiB on a slow machine.
constexpr seconds kLongWork{1800};
// A hook that is killed at its timeout has some time to end.
constexpr seconds kHookMargin{10};
constexpr seconds kReboot{10};
constexpr seconds kPathCheck{30};

// What is no number cannot be written down, nor compared.
double number(double said) { return std::isfinite(said) ? said : 0; }

v1::MigrateSummary with_numbers(v1::MigrateSummary summary) {
  summary.set_seconds(number(summary.seconds()));
  summary.set_goodput_gbps(number(summary.goodput_gbps()));
  summary.set_busy_core_seconds_from(number(summary.busy_core_seconds_from()));
  summary.set_busy_core_seconds_to(number(summary.busy_core_seconds_to()));
  return summary;
}

}  // namespace

AgentClient::AgentClient(HostAddress host, const security::Credentials& credentials,
                         std::optional<model::ControllerIdentity> controller)
    : host_(std::move(host)),
      controller_(std::move(controller)),
      connection_(model::open_channel(host_.name, host_.address, credentials)),
      stub_(v1::Agent::NewStub(connection_.channel)) {}

Error AgentClient::error_of(const grpc::Status& status) const {
  return describe_failure(
      status, connection_, fmt::format("host {}: its agent", host_.name),
      fmt::format("host {}: its agent at {} does not answer; start sluiced there", host_.name,
                  host_.address));
}

void AgentClient::prepare(grpc::ClientContext& context, std::optional<seconds> timeout) const {
  if (controller_) {
    context.AddMetadata(model::kEpochMetadata, std::to_string(controller_->epoch));
    context.AddMetadata(model::kJournalMetadata, controller_->journal);
    context.AddMetadata(model::kInstanceMetadata, controller_->instance);
    if (!controller_->replaced.empty()) {
      context.AddMetadata(model::kReplacedMetadata,
                          fmt::format("{}", fmt::join(controller_->replaced, ",")));
    }
  }
  if (timeout) set_deadline(context, *timeout);
}

template <typename Request, typename Reply>
Expected<Reply> AgentClient::call(Method<Request, Reply> method, const Request& request,
                                  seconds timeout) {
  grpc::ClientContext context;
  prepare(context, timeout);
  Reply reply;
  if (const auto status = (stub_.get()->*method)(&context, request, &reply); !status.ok())
    return tl::unexpected(error_of(status));
  return reply;
}

Expected<v1::HostInfo> AgentClient::get_host() { return get_host_and_tell(""); }

Expected<v1::HostInfo> AgentClient::get_host_and_tell(const std::string& out_of_service) {
  v1::GetHostRequest request;
  request.set_out_of_service(out_of_service);
  auto host = call(&v1::Agent::Stub::GetHost, request, kQuestion);
  if (host && !std::isfinite(host->waited_share())) host->clear_waited_share();
  return host;
}

Expected<v1::GuestList> AgentClient::list_guests() {
  return call(&v1::Agent::Stub::ListGuests, v1::ListGuestsRequest(), kQuestion);
}

Expected<v1::GuestInfo> AgentClient::start_guest(const std::string& definition_toml,
                                                 const std::string& file_name) {
  v1::StartGuestRequest request;
  request.set_definition_toml(definition_toml);
  request.set_file_name(file_name);
  return call(&v1::Agent::Stub::StartGuest, request, kLongWork);
}

Expected<v1::GuestInfo> AgentClient::stop_guest(const std::string& name, bool destination_is_gone) {
  v1::StopGuestRequest request;
  request.set_name(name);
  request.set_destination_is_gone(destination_is_gone);
  return call(&v1::Agent::Stub::StopGuest, request, kLongWork);
}

Expected<v1::GuestInfo> AgentClient::resume_guest(const std::string& name,
                                                  bool destination_is_gone) {
  v1::ResumeGuestRequest request;
  request.set_name(name);
  request.set_destination_is_gone(destination_is_gone);
  return call(&v1::Agent::Stub::ResumeGuest, request, kLongWork);
}

Expected<v1::GuestInfo> AgentClient::adopt_guest(const std::string& qmp_socket) {
  v1::AdoptGuestRequest request;
  request.set_qmp_socket(qmp_socket);
  return call(&v1::Agent::Stub::AdoptGuest, request, kLongWork);
}

Expected<v1::VerifyGuestResult> AgentClient::verify_guest(const std::string& name) {
  v1::VerifyGuestRequest request;
  request.set_name(name);
  return call(&v1::Agent::Stub::VerifyGuest, request, kLongWork);
}

Expected<v1::HookResult> AgentClient::run_hook(const v1::RunHookRequest& request) {
  return call(&v1::Agent::Stub::RunHook, request, seconds(request.timeout_s()) + kHookMargin);
}

Expected<v1::PathReport> AgentClient::check_path(const std::string& to) {
  v1::CheckPathRequest request;
  request.set_to(to);
  return call(&v1::Agent::Stub::CheckPath, request, kPathCheck);
}

Expected<v1::RebootResult> AgentClient::reboot(const std::string& boot_id) {
  v1::RebootRequest request;
  request.set_boot_id(boot_id);
  return call(&v1::Agent::Stub::Reboot, request, kReboot);
}

AgentClient::Summary AgentClient::migrate(const v1::MigrateRequest& request,
                                          const OnUpdate& on_update, Interrupts* interrupts) {
  grpc::ClientContext context;
  prepare(context, std::nullopt);
  return follow(context, stub_->Migrate(&context, request), request.guest(), on_update, interrupts);
}

AgentClient::Summary AgentClient::watch(const std::string& guest, const OnUpdate& on_update,
                                        Interrupts* interrupts) {
  grpc::ClientContext context;
  v1::WatchMigrationRequest request;
  request.set_guest(guest);
  return follow(context, stub_->WatchMigration(&context, request), guest, on_update, interrupts);
}

AgentClient::Summary AgentClient::follow(grpc::ClientContext& context,
                                         std::unique_ptr<Reader> reader, const std::string& guest,
                                         const OnUpdate& on_update, Interrupts* interrupts) {
  std::optional<Interrupts::Listener> listener;
  if (interrupts != nullptr) listener.emplace(*interrupts, [&context] { context.TryCancel(); });

  std::optional<v1::MigrateSummary> summary;
  v1::MigrateUpdate update;
  while (reader->Read(&update)) {
    if (update.has_summary()) {
      summary = with_numbers(update.summary());
    } else {
      on_update(update);
    }
  }
  const grpc::Status status = reader->Finish();
  listener.reset();
  // A summary that came is the outcome, however the stream ended after it.
  if (summary) return summary;
  if (interrupts != nullptr && interrupts->raised()) return std::nullopt;
  if (status.ok()) {
    return tl::unexpected(settle(
        guest, {ErrorKind::kFailed, "the agent of " + host_.name + " ended without a summary"}));
  }
  const Error error = error_of(status);
  // UNAVAILABLE is both: an agent that names an unreachable peer, and an agent that is gone.
  if (error.kind == ErrorKind::kUnreachable) return tl::unexpected(settle(guest, error));
  return tl::unexpected(error);
}

Error AgentClient::settle(const std::string& guest, const Error& lost) {
  const auto listed = list_guests();
  if (listed) {
    for (const v1::GuestInfo& info : listed->guests()) {
      if (info.name() == guest && info.state() == "running")
        return {ErrorKind::kFailed, lost.message};
    }
  }
  return {ErrorKind::kUnknownOutcome,
          fmt::format("the outcome of {}'s move is not known: {}; then ask with: sluice guests",
                      guest, lost.message)};
}

}  // namespace sluice::client
