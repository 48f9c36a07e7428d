#include "control/controller/executor.h"

#include <chrono>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

#include "drivers/guest/definition.h"

namespace sluice::controller {
namespace {

using patch::ActionKind;
using patch::Intent;
using patch::Outcome;

constexpr std::chrono::milliseconds kRetry{500};
// How long an agent may be silent before what it was to do has failed.
constexpr std::chrono::seconds kSilence{60};

// A canary takes its plan's definition under a name of its own.
Expected<std::string> rename(const std::string& definition, const std::string& name) {
  auto parsed = guest::parse_definition(definition, "guest " + name);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  parsed->name = name;
  return guest::to_toml(*parsed);
}

}  // namespace

Executor::Executor(const Config& config, const security::Credentials& credentials,
                   std::uint64_t epoch, Inventory& inventory, OnEnd on_end,
                   OnSuperseded on_superseded)
    : inventory_(inventory),
      on_end_(std::move(on_end)),
      on_superseded_(std::move(on_superseded)),
      hooks_(config.hooks_dir, config.state_dir) {
  for (const auto& host : config.hosts)
    agents_[host.name] = std::make_unique<client::AgentClient>(host, credentials, epoch);
}

Executor::~Executor() {
  const std::lock_guard lock(mutex_);
  for (auto& action : actions_) action.thread.request_stop();
}

void Executor::begin(const patch::Run& run, const Intent& intent, bool again) {
  Task task{run.id(), intent, again, run.definition_of(intent)};
  spdlog::info("{} {}: {} {}{}{}", run.id(), intent.id, patch::to_string(intent.kind),
               intent.purpose, intent.to.empty() ? "" : " to " + intent.to,
               again ? ", taken up again" : "");
  const std::lock_guard lock(mutex_);
  std::erase_if(actions_, [](const Action& action) { return action.ended->load(); });
  auto ended = std::make_unique<std::atomic<bool>>(false);
  std::atomic<bool>& has_ended = *ended;
  actions_.push_back({std::move(ended), std::jthread([this, task = std::move(task),
                                                      &has_ended](const std::stop_token& stop) {
                        const Outcome outcome = perform(task, stop);
                        if (!stop.stop_requested()) on_end_(task.run, outcome);
                        has_ended = true;
                      })});
}

Outcome Executor::failed(const Task& task, const Error& error) const {
  if (error.kind == ErrorKind::kPermission && error.message.find("epoch") != std::string::npos)
    on_superseded_(error.message);
  return {task.intent.id, false, error.message};
}

Outcome Executor::perform(const Task& task, const std::stop_token& stop) {
  switch (task.intent.kind) {
    case ActionKind::kMigrate:
      return migrate(task, stop);
    case ActionKind::kHook:
      return run_hook(task, stop);
    case ActionKind::kReboot:
      return reboot(task);
    case ActionKind::kStartGuest:
      return start_guest(task);
    case ActionKind::kStopGuest:
      return stop_guest(task);
    default:
      return {task.intent.id, false, "an action of this kind is not known"};
  }
}

std::string Executor::locate(const std::string& guest, bool* moving) {
  for (const auto& [name, agent] : agents_) inventory_.refresh(name);
  const auto placed = place_guests(inventory_.hosts());
  const auto found = placed.find(guest);
  if (found == placed.end()) return {};
  *moving = found->second.state() == "moving";
  return found->second.host();
}

Outcome Executor::migrate(const Task& task, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  bool moving = false;
  if (task.again && locate(intent.guest, &moving) == intent.to && !moving)
    return {intent.id, true, "it had arrived already"};
  v1::MigrateRequest request;
  request.set_guest(intent.guest);
  request.set_to(intent.to);
  request.set_mode(intent.live ? v1::MIGRATION_MODE_LIVE : v1::MIGRATION_MODE_QUICK);
  request.set_proof(v1::PROOF_MODE_SENT);
  const auto ignore = [](const v1::MigrateUpdate&) {};
  client::Interrupts interrupts;
  const std::stop_callback stopped(stop, [&interrupts] { interrupts.raise(); });
  auto summary = agent(intent.from).migrate(request, ignore, &interrupts);
  if (!summary && summary.error().kind == ErrorKind::kBusy)
    summary = agent(intent.from).watch(intent.guest, ignore, &interrupts);
  if (!summary) {
    if (summary.error().kind == ErrorKind::kUnknownOutcome ||
        summary.error().kind == ErrorKind::kUnreachable)
      return settle(task, summary.error().message, stop);
    return failed(task, summary.error());
  }
  if (!*summary) return settle(task, "the migration could not be followed", stop);
  const v1::MigrateSummary& end = **summary;
  if (end.status() == "unknown") return settle(task, end.error(), stop);
  inventory_.refresh(intent.from);
  inventory_.refresh(intent.to);
  return {intent.id,
          end.status() == "completed",
          end.error(),
          end.seconds(),
          static_cast<double>(end.downtime_us()) / 1000,
          end.goodput_gbps()};
}

// Never guessed: both hosts are asked until one of them runs the guest for certain.
Outcome Executor::settle(const Task& task, const std::string& why, const std::stop_token& stop) {
  spdlog::warn("{} {}: where {} is will be asked until it is known: {}", task.run, task.intent.id,
               task.intent.guest, why);
  while (!stop.stop_requested()) {
    bool moving = false;
    const std::string host = locate(task.intent.guest, &moving);
    const auto hosts = inventory_.hosts();
    const auto view = hosts.find(host);
    const bool known = view != hosts.end() && view->second.reachable && !moving;
    if (known && host == task.intent.to) return {task.intent.id, true, "settled: " + why};
    if (known && host == task.intent.from) return {task.intent.id, false, why};
    std::this_thread::sleep_for(kRetry);
  }
  return {task.intent.id, false, why};
}

Outcome Executor::run_hook(const Task& task, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  const std::map<std::string, std::string> environment = {
      {"SLUICE_RUN", task.run}, {"SLUICE_HOST", intent.host}, {"SLUICE_PURPOSE", intent.purpose}};
  const std::string key = fmt::format("{}-{}", task.run, intent.id);
  if (intent.hook.on_controller) {
    const auto end = hooks_.run(
        {key, intent.hook.name, intent.hook.timeout_s, intent.hook.idempotent, environment});
    if (!end) return failed(task, end.error());
    return {intent.id, end->ok, end->output};
  }
  v1::RunHookRequest request;
  request.set_key(key);
  request.set_name(intent.hook.name);
  request.set_timeout_s(intent.hook.timeout_s);
  request.set_idempotent(intent.hook.idempotent);
  for (const auto& [name, value] : environment) (*request.mutable_environment())[name] = value;
  // The agent runs it once for the key, however often it is asked.
  while (true) {
    const auto result = agent(intent.host).run_hook(request);
    if (result) return {intent.id, result->ok(), result->output()};
    const bool unreachable = result.error().kind == ErrorKind::kUnreachable;
    if (!unreachable || stop.stop_requested() || inventory_.silent_for(intent.host) > kSilence)
      return failed(task, result.error());
    std::this_thread::sleep_for(kRetry);
  }
}

// Whether it came back is seen by its boot id, not here.
Outcome Executor::reboot(const Task& task) {
  const auto result = agent(task.intent.host).reboot(task.intent.boot_id);
  if (result) return {task.intent.id, true, result->begun() ? "" : "it had rebooted already"};
  if (result.error().kind == ErrorKind::kUnreachable)
    return {task.intent.id, true, "its agent does not answer: it may be rebooting"};
  return failed(task, result.error());
}

Outcome Executor::start_guest(const Task& task) {
  const Intent& intent = task.intent;
  const auto definition = rename(task.definition, intent.guest);
  if (!definition) return failed(task, definition.error());
  const auto started = agent(intent.host).start_guest(*definition, "guest " + intent.guest);
  inventory_.refresh(intent.host);
  if (started) return {intent.id, true, ""};
  bool moving = false;
  if (task.again && locate(intent.guest, &moving) == intent.host)
    return {intent.id, true, "it ran already"};
  return failed(task, started.error());
}

Outcome Executor::stop_guest(const Task& task) {
  const Intent& intent = task.intent;
  bool moving = false;
  const std::string host = locate(intent.guest, &moving);
  if (host.empty()) return {intent.id, true, "it is not there"};
  const auto stopped = agent(host).stop_guest(intent.guest);
  inventory_.refresh(host);
  if (!stopped && stopped.error().kind != ErrorKind::kNotFound)
    return failed(task, stopped.error());
  return {intent.id, true, ""};
}

}  // namespace sluice::controller
