#include "control/controller/executor.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <future>
#include <spdlog/spdlog.h>
#include <utility>

namespace sluice::controller {
namespace {

using patch::ActionKind;
using patch::Intent;
using patch::Outcome;

constexpr std::chrono::milliseconds kRetry{500};
constexpr std::chrono::seconds kPathPause{2};
constexpr int kBusyTries = 20;

// What an agent says of a hook that it has not begun. Other failures may be those of the answer.
bool refuses_hook(ErrorKind kind) {
  return kind == ErrorKind::kNotFound || kind == ErrorKind::kInvalid || kind == ErrorKind::kBusy ||
         kind == ErrorKind::kNoCapacity || kind == ErrorKind::kPermission;
}

// The question or its answer: a connection that breaks may also end as UNKNOWN.
bool is_lost(ErrorKind kind) {
  return kind == ErrorKind::kUnreachable || kind == ErrorKind::kUnknownOutcome;
}

// Of its frames. An agent that does not say how many it has sent leaves nothing to compare: many
// are smaller than the MTU.
double lost_share(const v1::MigrateSummary& end) {
  if (end.frames_sent() == 0) return 0;
  return static_cast<double>(end.frames_lost()) / static_cast<double>(end.frames_sent());
}

}  // namespace

Executor::Executor(const Config& config, const security::Credentials& credentials,
                   const model::ControllerIdentity& self, Inventory& inventory, OnEnd on_end,
                   OnSuperseded on_superseded, std::chrono::milliseconds silence_max)
    : journal_id_(self.journal),
      inventory_(inventory),
      on_end_(std::move(on_end)),
      on_superseded_(std::move(on_superseded)),
      silence_max_(silence_max),
      hooks_(config.hooks_dir, config.state_dir) {
  for (const auto& host : config.hosts)
    agents_[host.name] = std::make_unique<client::AgentClient>(host, credentials, self);
}

Executor::~Executor() {
  const std::lock_guard lock(mutex_);
  for (auto& action : actions_) action.thread.request_stop();
}

void Executor::begin(const patch::Run& run, const Intent& intent, bool again) {
  Task task{run.id(),
            intent,
            again,
            run.definition_of(intent),
            run.hook_environment(intent),
            intent.guest == run.canary_name(intent.host)};
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
                        note(task, "");
                        if (!stop.stop_requested()) on_end_(task.run, outcome);
                        has_ended = true;
                      })});
}

void Executor::note(const Task& task, const std::string& waits_for) {
  const std::lock_guard lock(mutex_);
  if (waits_for.empty()) {
    waiting_.erase({task.run, task.intent.id});
  } else {
    waiting_[{task.run, task.intent.id}] = waits_for;
  }
}

std::map<std::uint64_t, std::string> Executor::waiting(const std::string& run) const {
  const std::lock_guard lock(mutex_);
  std::map<std::uint64_t, std::string> waiting;
  for (const auto& [action, text] : waiting_) {
    if (action.first == run) waiting[action.second] = text;
  }
  return waiting;
}

Expected<client::AgentClient*> Executor::agent(const std::string& host) const {
  if (const auto found = agents_.find(host); found != agents_.end()) return found->second.get();
  return fail(ErrorKind::kNotFound,
              fmt::format("{} is not in [hosts] of the controller's configuration any more: put it "
                          "back and start the controller again, or abort the run",
                          host));
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
      return reboot(task, stop);
    case ActionKind::kCheckPaths:
      return check_paths(task, stop);
    case ActionKind::kStartGuest:
      return start_guest(task, stop);
    case ActionKind::kStopGuest:
      return stop_guest(task, stop);
    default:
      return {task.intent.id, false, "an action of this kind is not known"};
  }
}

bool Executor::runs(const GuestState& state) {
  return state && (*state == "running" || *state == "paused");
}

bool Executor::is_absent(const GuestState& state) {
  return state && (state->empty() || *state == "gone");
}

Executor::GuestState Executor::state_at(const std::string& host, const std::string& guest) const {
  const auto hosts = inventory_.hosts();
  const auto view = hosts.find(host);
  return view == hosts.end() ? std::nullopt : state_in(view->second, guest);
}

Executor::GuestState Executor::state_in(const HostView& view, const std::string& guest) {
  if (!view.reachable) return std::nullopt;
  for (const auto& info : view.guests) {
    if (info.name() == guest) return info.state();
  }
  return "";
}

void Executor::refresh_all() {
  std::vector<std::string> names;
  for (const auto& [name, agent] : agents_) names.push_back(name);
  inventory_.refresh(names);
}

std::string Executor::say(const std::string& host, const GuestState& state) const {
  if (const auto known = agent(host); !known) return known.error().message;
  if (!state) return host + " does not answer";
  if (state->empty()) return host + " does not have it";
  if (*state == "forgotten") {
    return fmt::format(
        "on {} it waits for an operator: see sluice guest resume and sluice guest stop", host);
  }
  if (*state == "silent")
    return fmt::format("{} has it, but its QEMU does not answer; see the agent's log there", host);
  return fmt::format("{} has it as \"{}\"", host, *state);
}

client::AgentClient::Summary Executor::follow(const Intent& intent, bool begin,
                                              const std::stop_token& stop, bool* progress) {
  const auto source = agent(intent.from);
  if (!source) return tl::unexpected<Error>(source.error());
  const auto heard = [progress](const v1::MigrateUpdate&) { *progress = true; };
  client::Interrupts interrupts;
  const std::stop_callback stopped(stop, [&interrupts] { interrupts.raise(); });
  if (!begin) return (*source)->watch(intent.guest, heard, &interrupts);
  v1::MigrateRequest request;
  request.set_guest(intent.guest);
  request.set_to(intent.to);
  request.set_mode(intent.live ? v1::MIGRATION_MODE_LIVE : v1::MIGRATION_MODE_QUICK);
  request.set_proof(v1::PROOF_MODE_SENT);
  return (*source)->migrate(request, heard, &interrupts);
}

std::optional<Outcome> Executor::outcome_of(const Intent& intent,
                                            const v1::MigrateSummary& summary) {
  if (summary.status() == "unknown") return std::nullopt;
  inventory_.refresh({intent.from, intent.to, summary.to()});
  // Its figures say nothing of the host that this run has patched.
  if (summary.to() != intent.to) {
    return Outcome{intent.id, false,
                   fmt::format("somebody else was moving {} to {}", intent.guest, summary.to())};
  }
  return Outcome{intent.id,
                 summary.status() == "completed",
                 summary.error(),
                 summary.seconds(),
                 static_cast<double>(summary.downtime_us()) / 1000,
                 summary.goodput_gbps(),
                 /*unsettled=*/false,
                 lost_share(summary)};
}

Outcome Executor::migrate(const Task& task, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  if (task.again) {
    inventory_.refresh({intent.from, intent.to});
    if (runs(state_at(intent.to, intent.guest))) return {intent.id, true, "it had arrived already"};
  }
  bool progress = false;
  auto summary = follow(intent, /*begin=*/true, stop, &progress);
  // Busy with a move that was begun before, or with the end of that by which it came.
  for (int tries = 1; !summary && summary.error().kind == ErrorKind::kBusy; ++tries) {
    auto watched = follow(intent, /*begin=*/false, stop, &progress);
    const bool moves = watched || watched.error().kind != ErrorKind::kNotFound;
    if (moves) summary = std::move(watched);
    if (moves || tries == kBusyTries || stop.stop_requested()) break;
    std::this_thread::sleep_for(kRetry);
    summary = follow(intent, /*begin=*/true, stop, &progress);
  }
  if (!summary) {
    // A source that does not have it may have given it away before.
    const auto kind = summary.error().kind;
    if (kind == ErrorKind::kUnknownOutcome || kind == ErrorKind::kUnreachable ||
        kind == ErrorKind::kNotFound || kind == ErrorKind::kBusy)
      return settle(task, summary.error().message, stop);
    return failed(task, summary.error());
  }
  if (!*summary) return settle(task, "the migration could not be followed", stop);
  if (auto outcome = outcome_of(intent, **summary)) return *outcome;
  return settle(task, (*summary)->error(), stop);
}

std::optional<Outcome> Executor::settled(const Intent& intent, const std::string& why,
                                         std::string* words, bool* moving) {
  inventory_.refresh({intent.from, intent.to});
  const auto from = state_at(intent.from, intent.guest);
  const auto to = state_at(intent.to, intent.guest);
  *moving = from == "moving";
  *words = fmt::format("where {} runs is not known: {}, {} ({})", intent.guest,
                       say(intent.from, from), say(intent.to, to), why);
  if (runs(to)) return Outcome{intent.id, true, "settled: " + why};
  // Neither is guessed: a guest that is under way is on both hosts.
  if (runs(from) || (is_absent(from) && is_absent(to))) return Outcome{intent.id, false, why};
  if (from != "forgotten" && to != "forgotten") return std::nullopt;
  Outcome outcome{intent.id, false, *words};
  outcome.unsettled = true;
  return outcome;
}

// Never guessed: both hosts are asked until one of them runs the guest for certain. The run goes on
// without it when nobody has had a word of it for long, or it takes an operator.
Outcome Executor::settle(const Task& task, const std::string& why, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  auto heard = inventory_.clock().now();
  std::string words;
  std::string said;
  while (!stop.stop_requested()) {
    bool moving = false;
    if (auto outcome = settled(intent, why, &words, &moving)) return *outcome;
    if (said != words) spdlog::warn("{} {}: {}", task.run, intent.id, words);
    said = words;
    note(task, words);
    // It may be under way still, or its agent says so while it asks the other one.
    bool progress = false;
    if (moving) {
      const auto summary = follow(intent, /*begin=*/false, stop, &progress);
      if (summary && *summary) {
        if (auto outcome = outcome_of(intent, **summary)) return *outcome;
      }
    }
    if (progress) heard = inventory_.clock().now();
    if (inventory_.clock().now() - heard > silence_max_) break;
    std::this_thread::sleep_for(kRetry);
  }
  Outcome outcome{intent.id, false, words};
  outcome.unsettled = true;
  return outcome;
}

Outcome Executor::run_hook(const Task& task, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  const std::string key = fmt::format("{}-{}-{}", journal_id_, task.run, intent.id);
  if (intent.hook.on_controller) {
    const auto end = hooks_.run(
        {key, intent.hook.name, intent.hook.timeout_s, intent.hook.idempotent, task.environment});
    if (end) return {intent.id, end->ok, end->output};
    Outcome outcome = failed(task, end.error());
    // An earlier controller's process may be about to begin it.
    outcome.not_begun = !task.again;
    return outcome;
  }
  const auto host = agent(intent.host);
  if (!host) return failed(task, host.error());
  v1::RunHookRequest request;
  request.set_key(key);
  request.set_name(intent.hook.name);
  request.set_timeout_s(intent.hook.timeout_s);
  request.set_idempotent(intent.hook.idempotent);
  for (const auto& [name, value] : task.environment) (*request.mutable_environment())[name] = value;
  // The agent runs it once for the key, however often it is asked. As long as it may run, nothing
  // else must be begun on the host.
  const auto longest = silence_max_ + std::chrono::seconds(intent.hook.timeout_s);
  const auto until = inventory_.clock().now() + longest;
  // Once a question may have come through whose answer was lost, no refusal says that it has not
  // begun.
  bool may_have_begun = task.again;
  while (true) {
    const auto result = (*host)->run_hook(request);
    if (result) return {intent.id, result->ok(), hooks::bounded_output(result->output())};
    const ErrorKind kind = result.error().kind;
    // Of an agent that is heard, and never says what became of it, it has ended by then.
    const bool given_up = inventory_.silent_for(intent.host) > longest ||
                          (kind == ErrorKind::kUnknownOutcome && inventory_.clock().now() > until);
    if (!is_lost(kind) || stop.stop_requested() || given_up) {
      Outcome outcome = failed(task, result.error());
      outcome.not_begun = !may_have_begun && refuses_hook(kind);
      return outcome;
    }
    may_have_begun = true;
    note(task, result.error().message);
    std::this_thread::sleep_for(kRetry);
  }
}

// Whether it came back is seen by its boot id, not here. A question that was lost is asked again: a
// host that has another boot id is not rebooted. So is one that is busy: a guest that has left may
// not have been let go yet.
Outcome Executor::reboot(const Task& task, const std::stop_token& stop) {
  const auto host = agent(task.intent.host);
  if (!host) return failed(task, host.error());
  const auto ask = [&]() -> Expected<std::string> {
    const auto result = (*host)->reboot(task.intent.boot_id);
    if (!result) return tl::unexpected<Error>(result.error());
    return result->begun() ? "" : "it had rebooted already";
  };
  const auto asked = insist(task, ask, stop);
  if (asked) return {task.intent.id, true, *asked};
  if (is_lost(asked.error().kind)) {
    Outcome outcome{task.intent.id, true, "its agent does not answer: it may be rebooting"};
    outcome.unheard = true;
    return outcome;
  }
  return failed(task, asked.error());
}

// A host that has just come back may need a moment until its port carries frames.
std::optional<std::string> Executor::path_fault(const std::string& from, const std::string& to,
                                                const std::stop_token& stop) {
  const auto asked = agent(from);
  if (!asked) return std::nullopt;
  constexpr int kTries = 2;  // each lasts as long as an agent waits for a first answer
  for (int tries = 1;; ++tries) {
    const auto report = (*asked)->check_path(to);
    if (report) return report->remark();
    const bool passes = report.error().kind == ErrorKind::kUnreachable ||
                        report.error().kind == ErrorKind::kBusy ||
                        report.error().kind == ErrorKind::kNoCapacity;
    if (!passes) {
      spdlog::warn("the path from {} to {} was not checked: {}", from, to, report.error().message);
      return std::nullopt;
    }
    if (tries == kTries || stop.stop_requested()) return report.error().message;
    std::this_thread::sleep_for(kPathPause);
    inventory_.refresh({from, to});
    for (const auto& host : {from, to}) {
      // It is not this path's fault: another host may be rebooting meanwhile.
      if (!inventory_.hosts().at(host).reachable) return std::nullopt;
    }
  }
}

// A fault on the way to every peer is the host's own; one on the way to some of them is theirs, and
// only named.
Outcome Executor::check_paths(const Task& task, const std::stop_token& stop) {
  const std::string& host = task.intent.host;
  const auto peers = peers_to_check(inventory_.hosts(), host);
  // All at once: a path that carries nothing takes its time to be found out.
  std::vector<std::future<std::optional<std::string>>> checks;
  checks.reserve(peers.size());
  for (const auto& peer : peers) {
    checks.push_back(std::async(std::launch::async, [&] {
      const auto there = path_fault(host, peer, stop);
      return there && there->empty() ? path_fault(peer, host, stop) : there;
    }));
  }
  std::vector<std::string> good;
  std::vector<std::string> faults;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const auto fault = checks[i].get();
    if (fault && fault->empty()) good.push_back(peers[i]);
    if (fault && !fault->empty()) faults.push_back(*fault);
  }
  if (peers.empty()) return {task.intent.id, true, "no other host answers"};
  if (good.empty() && faults.empty()) return {task.intent.id, true, "no path could be checked"};
  if (good.empty()) return {task.intent.id, false, faults.front()};
  std::string detail = fmt::format("full frames to and from {}", fmt::join(good, ", "));
  for (const auto& fault : faults) detail += "; " + fault;
  return {task.intent.id, true, detail};
}

Expected<std::string> Executor::insist(const Task& task,
                                       const std::function<Expected<std::string>()>& ask,
                                       const std::stop_token& stop) {
  const auto until = inventory_.clock().now() + silence_max_;
  while (true) {
    auto answer = ask();
    if (answer) return answer;
    const auto kind = answer.error().kind;
    const bool may_change = kind == ErrorKind::kBusy || is_lost(kind);
    if (!may_change || stop.stop_requested() || inventory_.clock().now() > until) return answer;
    note(task, answer.error().message);
    std::this_thread::sleep_for(kRetry);
  }
}

}  // namespace sluice::controller
