#include "control/agent/service.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fstream>
#include <spdlog/spdlog.h>
#include <sstream>
#include <sys/utsname.h>
#include <thread>

#include "control/agent/path_check.h"
#include "control/model/controller_identity.h"
#include "control/model/status.h"
#include "control/model/version.h"
#include "control/security/credentials.h"
#include "drivers/guest/definition.h"
#include "drivers/guest/memory/memory_guest.h"

namespace sluice::agent {
namespace {

void fill(const GuestView& view, const std::string& host, const guest::qemu::InstalledQemu& usual,
          v1::GuestInfo& info) {
  info.set_name(view.name);
  info.set_host(host);
  info.set_driver(view.driver);
  info.set_state(view.state);
  info.set_memory_bytes(view.memory_bytes);
  info.set_moving_to(view.moving_to);
  info.set_pid(view.pid);
  info.set_machine_type(view.machine_type);
  info.set_cpu_level(view.cpu_level);
  info.set_cpu_level_from_host(view.cpu_level_from_host);
  info.set_qemu_version(view.qemu_version);
  info.set_usual_qemu(!view.qemu_version.empty() && usual.is(view.qemu_binary));
  if (view.figures) *info.mutable_figures() = to_proto(*view.figures);
}

// Writes updates until the end or until the caller goes away, which ends the watching and not the
// migration.
void stream_updates(const Migration& migration, grpc::ServerContext& context,
                    grpc::ServerWriter<v1::MigrateUpdate>& writer) {
  migration.follow([&](const v1::MigrateUpdate& update) {
    return !context.IsCancelled() && writer.Write(update);
  });
}

std::string_view metadata_of(const grpc::ServerContext& call, const char* name) {
  const auto found = call.client_metadata().find(name);
  if (found == call.client_metadata().end()) return {};
  return {found->second.data(), found->second.size()};
}

// Of the metadata; nothing if it has no epoch, or one that is no number.
std::optional<model::ControllerIdentity> controller_of(const grpc::ServerContext& call) {
  const auto epoch = metadata_of(call, model::kEpochMetadata);
  model::ControllerIdentity controller;
  const auto [rest, status] =
      std::from_chars(epoch.data(), epoch.data() + epoch.size(), controller.epoch);
  if (epoch.empty() || status != std::errc{} || rest != epoch.data() + epoch.size())
    return std::nullopt;
  controller.journal = metadata_of(call, model::kJournalMetadata);
  controller.instance = metadata_of(call, model::kInstanceMetadata);
  std::istringstream replaced{std::string(metadata_of(call, model::kReplacedMetadata))};
  for (std::string journal; std::getline(replaced, journal, ',');)
    controller.replaced.push_back(std::move(journal));
  return controller;
}

// Whoever may only look must not make a host refuse its controllers.
bool may_lead(const grpc::ServerContext& call) {
  const auto who = security::peer_of(*call.auth_context());
  return !who || who->role == security::Role::kController;
}

// Read each time: a patch changes it. Empty if there is none.
std::string first_line_of(const std::string& path) {
  constexpr std::size_t kCharactersMax = 200;
  std::string line;
  if (path.empty() || !std::getline(std::ifstream(path), line)) return {};
  line = line.substr(0, std::min(line.size(), kCharactersMax));
  // What a protocol buffer's string may not hold.
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return line;
}

std::string kernel_release() {
  utsname names{};
  return uname(&names) == 0 ? names.release : "";
}

}  // namespace

AgentService::AgentService(Agent& agent, std::string boot_id, ControllerFence::Obeyed obeyed)
    : agent_(agent),
      boot_id_(std::move(boot_id)),
      rebooter_(agent.context().config, agent.context().registry),
      fence_(agent.context().config.state_dir, std::move(obeyed)),
      hooks_(agent.context().config.hooks_dir, agent.context().config.state_dir) {}

grpc::Status AgentService::admit(const grpc::ServerContext& context) {
  // An agent that stood still finds orders that were given up since, and that somebody may have
  // given to another host.
  if (context.IsCancelled())
    return {grpc::StatusCode::CANCELLED, "who asked for it waits for it no more"};
  const auto controller = controller_of(context);
  if (!controller) return grpc::Status::OK;
  // Who may not lead must not fence those off that do.
  if (!may_lead(context)) {
    return {grpc::StatusCode::PERMISSION_DENIED,
            "only a controller's certificate goes with a controller's epoch"};
  }
  if (auto prepared = hooks::HookRunner::prepare(agent_.context().config.state_dir); !prepared)
    return model::to_status(prepared);
  return model::to_status(fence_.admit(*controller));
}

grpc::Status AgentService::GetHost(grpc::ServerContext* call, const v1::GetHostRequest* request,
                                   v1::HostInfo* reply) {
  // A question is answered in any case; older controllers are refused as soon as a newer one asks.
  if (may_lead(*call)) {
    if (const auto heard = admit(*call); !heard.ok()) {
      spdlog::debug("a controller asks: {}", heard.error_message());
    } else if (controller_of(*call)) {
      agent_.context().cordon.told(request->out_of_service(), Cordon::Clock::now());
    }
  }
  const auto& context = agent_.context();
  const auto& info = context.data_plane.info();
  reply->set_name(context.config.host);
  reply->set_version(fmt::format("{} ({})", model::version(), model::revision()));
  reply->set_port(context.config.data_plane.port);
  reply->set_port_driver(info.driver);
  reply->set_data_address(wire::to_string(info.address.address));
  reply->set_mtu(static_cast<std::uint32_t>(info.mtu));
  reply->set_queues(info.queues);
  reply->set_steering(info.steering);
  for (std::uint32_t i = 0; i < context.data_plane.workers(); ++i) {
    const auto figures = context.data_plane.figures(i);
    reply->set_neighbour_answers(reply->neighbour_answers() + figures.neighbour_answers);
    reply->set_neighbour_requests_ignored(reply->neighbour_requests_ignored() +
                                          figures.neighbour_requests_ignored);
    reply->set_packets_passed_on(reply->packets_passed_on() + figures.packets_passed_on);
  }
  for (const auto core : info.cores) reply->add_worker_cores(core);
  reply->set_hugepages(info.hugepages);
  reply->set_zero_copy(info.zero_copy);
  reply->set_memory_bytes(context.registry.capacity_bytes());
  reply->set_memory_used_bytes(context.registry.used_bytes());
  reply->set_guests(static_cast<std::uint32_t>(context.registry.count()));
  for (const auto& [host, address] : context.config.peers) reply->add_peers(host);
  for (const auto& remark : info.remarks) reply->add_remarks(remark);
  if (const auto remark = rebooter_.remark(Rebooter::Clock::now())) reply->add_remarks(*remark);
  reply->set_boot_id(boot_id_);
  reply->set_kernel(kernel_release());
  for (const auto& hook : hooks_.names()) reply->add_hooks(hook);
  reply->set_link_bits_per_second(context.config.data_plane.cap_bits_per_second);
  auto obeyed = fence_.obeyed();
  reply->set_controller_epoch(obeyed.epoch);
  reply->set_controller_journal(std::move(obeyed.journal));
  reply->set_controller_instance(std::move(obeyed.instance));
  reply->set_cores(std::thread::hardware_concurrency());
  reply->set_cpu_level(context.config.cpu_level);
  reply->set_package_version(first_line_of(context.config.version_file));
  reply->set_qemu_version(usual_qemu_.version());
  if (const auto share = agent_.meter().waited_share()) reply->set_waited_share(*share);
  for (std::uint32_t worker = 0; worker < context.data_plane.workers(); ++worker) {
    const auto drops = context.data_plane.figures(worker).drops;
    for (std::size_t reason = 1; reason < drops.size(); ++reason) {
      if (drops[reason] > 0) {
        (*reply
              ->mutable_frames_dropped())[wire::to_string(static_cast<wire::DropReason>(reason))] +=
            drops[reason];
      }
    }
  }
  return grpc::Status::OK;
}

grpc::Status AgentService::ListGuests(grpc::ServerContext* call,
                                      const v1::ListGuestsRequest* /*request*/,
                                      v1::GuestList* reply) {
  // A definition may hold what is not for every viewer's eyes.
  const bool for_controller = may_lead(*call);
  for (const auto& view : agent_.context().registry.list()) {
    auto& info = *reply->add_guests();
    fill(view, agent_.context().config.host, usual_qemu_, info);
    if (for_controller) info.set_definition_toml(view.definition_toml);
  }
  return grpc::Status::OK;
}

grpc::Status AgentService::describe(const std::string& name, v1::GuestInfo* reply) {
  for (const auto& view : agent_.context().registry.list()) {
    if (view.name == name) fill(view, agent_.context().config.host, usual_qemu_, *reply);
  }
  return grpc::Status::OK;
}

grpc::Status AgentService::StartGuest(grpc::ServerContext* call,
                                      const v1::StartGuestRequest* request, v1::GuestInfo* reply) {
  if (auto admitted = admit(*call); !admitted.ok()) return admitted;
  auto& context = agent_.context();
  const bool by_controller = controller_of(*call).has_value();
  if (auto admitted = context.cordon.admit(by_controller, Cordon::Clock::now()); !admitted)
    return model::to_status(admitted);
  const auto definition = guest::parse_definition(request->definition_toml(), request->file_name());
  if (!definition) return model::to_status(definition.error());
  const auto driver = context.drivers.find(definition->driver);
  if (driver == context.drivers.end()) {
    return model::to_status(
        Error{ErrorKind::kUnsupported, fmt::format("{} cannot run guests of driver \"{}\"",
                                                   context.config.host, definition->driver)});
  }
  {
    auto claim = context.registry.create(definition->name, definition->memory_bytes, "",
                                         [&] { return driver->second->start(*definition); });
    if (!claim) return model::to_status(claim.error());
  }
  spdlog::info("guest {} started", definition->name);
  return describe(definition->name, reply);
}

grpc::Status AgentService::ResumeGuest(grpc::ServerContext* context,
                                       const v1::ResumeGuestRequest* request,
                                       v1::GuestInfo* reply) {
  if (auto admitted = admit(*context); !admitted.ok()) return admitted;
  auto resumed = agent_.obey(request->name(), Order::kResume, request->destination_is_gone());
  if (!resumed && resumed.error().kind == ErrorKind::kNotFound) {
    resumed.error().kind = ErrorKind::kFailed;
    resumed.error().message += "; the state \"forgotten\" of sluice guests names those that do";
  }
  if (!resumed) return model::to_status(resumed.error());
  return describe(request->name(), reply);
}

grpc::Status AgentService::StopGuest(grpc::ServerContext* context,
                                     const v1::StopGuestRequest* request, v1::GuestInfo* reply) {
  if (auto admitted = admit(*context); !admitted.ok()) return admitted;
  (void)describe(request->name(), reply);
  reply->set_state("gone");
  // Of a guest that waits for an operator a controller is told so: this may be all that is left.
  if (!controller_of(*context)) {
    const auto obeyed = agent_.obey(request->name(), Order::kEnd, request->destination_is_gone());
    if (obeyed || obeyed.error().kind != ErrorKind::kNotFound) return model::to_status(obeyed);
  }
  auto claim = agent_.context().registry.claim(request->name(), ClaimPurpose::kStop);
  if (!claim) return model::to_status(claim.error());
  const auto destroyed = claim->destroy();
  if (destroyed) spdlog::info("guest {} stopped", request->name());
  return model::to_status(destroyed);
}

grpc::Status AgentService::AdoptGuest(grpc::ServerContext* /*context*/,
                                      const v1::AdoptGuestRequest* request, v1::GuestInfo* reply) {
  auto& context = agent_.context();
  const auto driver = context.drivers.find("qemu");
  if (driver == context.drivers.end())
    return model::to_status(Error{ErrorKind::kUnsupported, "this agent cannot run QEMU guests"});
  auto adopted = driver->second->adopt(request->qmp_socket());
  if (!adopted) return model::to_status(adopted.error());
  const std::string name = (*adopted)->description().definition.name;
  if (auto added = context.registry.add(std::move(*adopted)); !added)
    return model::to_status(added.error());
  spdlog::info("guest {} adopted", name);
  return describe(name, reply);
}

grpc::Status AgentService::Migrate(grpc::ServerContext* context, const v1::MigrateRequest* request,
                                   grpc::ServerWriter<v1::MigrateUpdate>* writer) {
  if (auto admitted = admit(*context); !admitted.ok()) return admitted;
  const auto migration = agent_.migrate(*request, controller_of(*context).has_value());
  if (!migration) return model::to_status(migration.error());
  stream_updates(**migration, *context, *writer);
  return grpc::Status::OK;
}

grpc::Status AgentService::WatchMigration(grpc::ServerContext* context,
                                          const v1::WatchMigrationRequest* request,
                                          grpc::ServerWriter<v1::MigrateUpdate>* writer) {
  const auto migration = agent_.migration_of(request->guest());
  if (!migration) return model::to_status(migration.error());
  stream_updates(**migration, *context, *writer);
  return grpc::Status::OK;
}

grpc::Status AgentService::VerifyGuest(grpc::ServerContext* /*context*/,
                                       const v1::VerifyGuestRequest* request,
                                       v1::VerifyGuestResult* reply) {
  auto claim = agent_.context().registry.claim(request->name(), ClaimPurpose::kInspect);
  if (!claim) return model::to_status(claim.error());
  const auto result = guest::verify_guest(claim->guest());
  if (!result) return model::to_status(result.error());
  reply->set_pages(result->pages);
  reply->set_mismatches(result->mismatches);
  reply->set_writes(result->writes);
  return grpc::Status::OK;
}

grpc::Status AgentService::CheckPath(grpc::ServerContext* context,
                                     const v1::CheckPathRequest* request, v1::PathReport* reply) {
  if (auto admitted = admit(*context); !admitted.ok()) return admitted;
  auto report = check_path(agent_.context(), request->to());
  if (!report) return model::to_status(report.error());
  *reply = std::move(*report);
  return grpc::Status::OK;
}

grpc::Status AgentService::RunHook(grpc::ServerContext* context, const v1::RunHookRequest* request,
                                   v1::HookResult* reply) {
  if (auto admitted = admit(*context); !admitted.ok()) return admitted;
  const Rebooter::HookTurn turn(rebooter_);
  if (!turn.granted()) {
    return model::to_status(
        Error{ErrorKind::kBusy, fmt::format("{} is about to reboot; hook {} was not run",
                                            agent_.context().config.host, request->name())});
  }
  hooks::Call call{
      request->key(), request->name(), request->timeout_s(), request->idempotent(), {}};
  call.environment = {{"SLUICE_HOST", agent_.context().config.host}};
  for (const auto& [name, value] : request->environment()) call.environment.emplace(name, value);
  spdlog::info("hook {}: {}", call.name, call.key);
  const auto end = hooks_.run(call);
  if (!end) return model::to_status(end.error());
  spdlog::info("hook {}: {}", call.name, end->ok ? "done" : end->output);
  reply->set_ok(end->ok);
  reply->set_output(end->output);
  return grpc::Status::OK;
}

grpc::Status AgentService::Reboot(grpc::ServerContext* context, const v1::RebootRequest* request,
                                  v1::RebootResult* reply) {
  if (auto admitted = admit(*context); !admitted.ok()) return admitted;
  reply->set_boot_id(boot_id_);
  if (request->boot_id() != boot_id_) return grpc::Status::OK;
  if (auto begun = rebooter_.begin(); !begun) return model::to_status(begun);
  reply->set_begun(true);
  return grpc::Status::OK;
}

}  // namespace sluice::agent
