// Folding the journal and asking it.
#include "control/patch/run.h"

#include <algorithm>
#include <fmt/format.h>

namespace sluice::patch {

Expected<void> Run::apply(const Record& record) {
  const bool creates = std::holds_alternative<Created>(record.body);
  if (creates == created_) {
    return fail(ErrorKind::kInvalid, fmt::format("run {}: {}", id_,
                                                 created_ ? "is created a second time"
                                                          : "has no plan at its beginning"));
  }
  return fold(record);
}

Expected<void> Run::fold(const Record& record) {
  if (const auto* created = std::get_if<Created>(&record.body)) {
    fold(*created, record.at_ms);
  } else if (const auto* run_step = std::get_if<RunStep>(&record.body)) {
    auto folded = fold(*run_step);
    if (is_final(state_)) ended_ms_ = record.at_ms;
    return folded;
  } else if (const auto* host_step = std::get_if<HostStep>(&record.body)) {
    return fold(*host_step, record.at_ms);
  } else if (const auto* intent = std::get_if<Intent>(&record.body)) {
    return fold(*intent);
  } else if (const auto* outcome = std::get_if<Outcome>(&record.body)) {
    return fold(*outcome, record.at_ms);
  } else if (const auto* baseline = std::get_if<Baseline>(&record.body)) {
    return fold(*baseline);
  } else if (const auto* mark = std::get_if<MarkStep>(&record.body)) {
    return fold(*mark);
  } else if (const auto* step = std::get_if<RefillStep>(&record.body)) {
    return fold(*step, record.at_ms);
  }
  return {};
}

void Run::fold(const Created& created, TimeMs at_ms) {
  created_ = true;
  begun_ms_ = at_ms;
  begun_by_ = created.by;
  estimates_ = created.estimates;
  whole_ = created.whole;
  auto plan = parse_admitted_plan(created.plan_toml, "plan of run " + id_);
  const auto resolved =
      plan ? resolve(*plan, created.resolution) : tl::unexpected<Error>(plan.error());
  if (resolved) {
    plan_ = std::move(*plan);
    for (const auto& host : plan_.hosts) add_host(host, at_ms);
    return;
  }
  unreadable_ =
      fmt::format("{}; this version cannot read it: go on with the one that began the run",
                  resolved.error().message);
  plan_.name = "a plan that cannot be read";
  std::vector<std::string> hosts;
  for (const auto& [host, estimate] : estimates_) hosts.push_back(host);
  std::sort(hosts.begin(), hosts.end(), natural_less);
  for (const auto& host : hosts) {
    plan_.hosts.push_back(host);
    add_host(host, at_ms);
  }
}

void Run::add_host(const std::string& name, TimeMs at_ms) {
  hosts_[name].entered_ms = at_ms;
  canaries_.insert(canary_name(name));
}

Expected<HostRun*> Run::host_of(const std::string& name) {
  if (const auto found = hosts_.find(name); found != hosts_.end()) return &found->second;
  if (unreadable_.empty())
    return fail(ErrorKind::kInvalid, fmt::format("run {}: {} is not one of its hosts", id_, name));
  plan_.hosts.push_back(name);
  add_host(name, begun_ms_);
  return &hosts_.at(name);
}

Expected<void> Run::fold(const RunStep& step) {
  const auto after = next(state_, step.event);
  if (!after) {
    return fail(ErrorKind::kInvalid, fmt::format("run {} is {}: it cannot {}", id_,
                                                 to_string(state_), to_string(step.event)));
  }
  state_ = *after;
  reason_ = step.reason;
  if (step.event == RunEvent::kResume) failures_accepted_ = failures();
  return {};
}

Expected<void> Run::fold(const HostStep& step, TimeMs at_ms) {
  const auto found = host_of(step.host);
  if (!found) return tl::unexpected<Error>(found.error());
  HostRun& host = **found;
  const auto after = next(host.state, step.event);
  if (!after) {
    return fail(ErrorKind::kInvalid, fmt::format("run {}: {} is not legal for host {}", id_,
                                                 to_string(step.event), step.host));
  }
  host.state = *after;
  host.entered_ms = at_ms;
  host.gate_ms = at_ms;
  if (step.event == HostEvent::kReady) host.touched = true;
  if (step.event == HostEvent::kFailure && host.failure.empty()) host.failure = step.reason;
  return {};
}

Expected<void> Run::fold(const Baseline& baseline) {
  const auto host = host_of(baseline.host);
  if (!host) return tl::unexpected<Error>(host.error());
  (*host)->baseline = baseline;
  for (const auto& guest : baseline.guests) {
    const auto [home, first] = home_.emplace(guest, baseline.host);
    if (!first && is_final(hosts_.at(home->second).state)) home->second = baseline.host;
  }
  return {};
}

Expected<void> Run::fold(const RefillStep& step, TimeMs at_ms) {
  const auto host = host_of(step.host);
  if (!host) return tl::unexpected<Error>(host.error());
  (*host)->refill_step = step.step;
  (*host)->gate_ms = at_ms;
  return {};
}

Expected<void> Run::fold(const MarkStep& mark) {
  const auto found = host_of(mark.host);
  if (!found) return tl::unexpected<Error>(found.error());
  HostRun& host = **found;
  if (mark.mark == Mark::kMended && (host.state != HostState::kQuarantined || host.mended)) {
    return fail(ErrorKind::kInvalid,
                fmt::format("run {}: {} is not in quarantine", id_, mark.host));
  }
  marks_.push_back(mark);
  if (mark.mark == Mark::kMended) {
    host.mended = true;
    host.quarantined = false;
  } else if (mark.mark == Mark::kQuarantine) {
    host.quarantined = true;
  }
  if (mark.mark != Mark::kQuarantine) host.cordoned_here = mark.mark == Mark::kCordon;
  return {};
}

Expected<void> Run::fold(const Intent& intent) {
  if (intent.id != intents_.size() + 1 || !host_of(intent.host)) {
    return fail(ErrorKind::kInvalid,
                fmt::format("run {}: intent {} is out of order", id_, intent.id));
  }
  intents_[intent.id] = intent;
  latest_[{intent.host, intent.purpose}] = intent.id;
  open_.insert(intent.id);
  if (intent.kind == ActionKind::kMigrate) arrivals_[intent.to].push_back(intent.id);
  return {};
}

Expected<void> Run::fold(const Outcome& outcome, TimeMs at_ms) {
  if (intents_.count(outcome.id) == 0 || outcomes_.count(outcome.id) != 0) {
    return fail(ErrorKind::kInvalid,
                fmt::format("run {}: no intent {} waits for an outcome", id_, outcome.id));
  }
  outcomes_[outcome.id] = outcome;
  ended_at_ms_[outcome.id] = at_ms;
  open_.erase(outcome.id);
  if (outcome.unsettled) unsettled_[intents_.at(outcome.id).guest] = outcome.id;
  return {};
}

std::vector<const Intent*> Run::open_intents() const {
  std::vector<const Intent*> open;
  open.reserve(open_.size());
  for (const auto id : open_) open.push_back(&intents_.at(id));
  return open;
}

Task Run::task(std::uint64_t id) const {
  Task task;
  if (const auto intent = intents_.find(id); intent != intents_.end())
    task.intent = &intent->second;
  if (const auto outcome = outcomes_.find(id); outcome != outcomes_.end()) {
    task.outcome = &outcome->second;
    task.ended_ms = ended_at_ms_.at(id);
  }
  return task;
}

Task Run::latest(const std::string& host, const std::string& purpose) const {
  const auto found = latest_.find({host, purpose});
  return found == latest_.end() ? Task{} : task(found->second);
}

Run::TaskState Run::state_of(const std::string& host, const std::string& purpose) const {
  const Task found = latest(host, purpose);
  if (found.intent == nullptr) return TaskState::kNone;
  if (found.outcome == nullptr) return TaskState::kOpen;
  return found.outcome->ok ? TaskState::kOk : TaskState::kFailed;
}

Run::TaskState Run::state_since(const std::string& host, const std::string& purpose,
                                const std::string& undone_by) const {
  const Task done = latest(host, purpose);
  const Task undone = latest(host, undone_by);
  const bool counts =
      done.intent != nullptr && (undone.intent == nullptr || undone.intent->id < done.intent->id);
  return counts ? state_of(host, purpose) : TaskState::kNone;
}

bool Run::has_open(const std::string& host) const {
  return std::any_of(open_.begin(), open_.end(),
                     [&](std::uint64_t id) { return intents_.at(id).host == host; });
}

std::size_t Run::coming_to(const std::string& host) const {
  return static_cast<std::size_t>(std::count_if(open_.begin(), open_.end(), [&](std::uint64_t id) {
    const Intent& intent = intents_.at(id);
    return intent.kind == ActionKind::kMigrate && intent.to == host;
  }));
}

std::set<std::string> Run::brings_home() const {
  std::set<std::string> guests;
  const bool brings = unreadable_.empty() && !rolling() && !plan_.drain_only;
  if (!brings || patch::is_final(state_)) return guests;
  for (const auto& [guest, home] : home_) {
    if (!patch::is_final(hosts_.at(home).state)) guests.insert(guest);
  }
  return guests;
}

std::set<std::string> Run::canaries_out() const {
  std::set<std::string> canaries;
  for (const auto& [host, about] : hosts_) {
    if (unreadable_.empty() && !canary_is_over(host)) canaries.insert(canary_name(host));
  }
  return canaries;
}

bool Run::is_visited(const std::string& host, const Facts& facts) const {
  const auto comes = [&](const Move& move) { return move.to == host; };
  const auto starts = [&](const std::map<std::string, Down>& down) {
    return std::any_of(down.begin(), down.end(), [&](const auto& guest) {
      return guest.second.starting && guest.second.host == host;
    });
  };
  const auto about = facts.hosts.find(host);
  const auto is_here = [&](const std::string& canary) {
    const auto guest = facts.guests.find(canary);
    return guest != facts.guests.end() && guest->second.host == host;
  };
  return coming_to(host) != 0 || starts(awaited()) || starts(facts.down_of_others) ||
         (about != facts.hosts.end() && !about->second.incoming.empty()) ||
         std::any_of(facts.moves_of_others.begin(), facts.moves_of_others.end(), comes) ||
         std::any_of(facts.moves_by_hand.begin(), facts.moves_by_hand.end(), comes) ||
         std::any_of(facts.canaries_of_others.begin(), facts.canaries_of_others.end(), is_here) ||
         std::any_of(plan_.hosts.begin(), plan_.hosts.end(), [&](const std::string& owner) {
           return owner != host && is_here(canary_name(owner)) && !canary_is_given_up(owner);
         });
}

std::vector<Move> Run::moves_under_way() const {
  std::vector<Move> moves;
  for (const Intent* intent : open_intents()) {
    if (intent->kind == ActionKind::kMigrate)
      moves.push_back({intent->guest, intent->from, intent->to, intent->reason});
  }
  return moves;
}

void note_moves(Facts& facts, const std::string& run, const std::vector<const Run*>& runs,
                const std::vector<Move>& moving) {
  std::set<std::string> known;
  for (const Run* other : runs) {
    for (const Move& move : other->moves_under_way()) {
      known.insert(move.guest);
      if (other->id() != run) facts.moves_of_others.push_back(move);
    }
    for (const auto& host : other->plan().hosts) {
      const auto about = facts.hosts.find(host);
      if (other->id() != run && about != facts.hosts.end() && other->returns_by_itself(host))
        about->second.returns_to_others = true;
    }
    if (other->id() == run) continue;
    facts.down_of_others.merge(other->awaited());
    facts.guests_of_others.merge(other->brings_home());
    facts.canaries_of_others.merge(other->canaries_out());
  }
  for (const Move& move : moving) {
    if (known.count(move.guest) == 0) facts.moves_by_hand.push_back(move);
  }
}

bool Run::at_rest(const Facts& facts) const {
  if (!unreadable_.empty()) return true;
  return open_.empty() && std::all_of(hosts_.begin(), hosts_.end(), [&](const auto& entry) {
           const HostState state = entry.second.state;
           if (is_final(state) && !is_tidied(entry.first, facts)) return false;
           return state == HostState::kPending || is_final(state) ||
                  rests_paused(entry.first, facts);
         });
}

bool Run::rests_paused(const std::string& host, const Facts& facts) const {
  if (state_ != RunState::kPaused) return false;
  const HostState state = hosts_.at(host).state;
  return state == HostState::kEmpty || held().count(host) != 0 ||
         (state == HostState::kDraining && has_only_guests_to_shut_down(host, facts));
}

bool Run::is_tidied(const std::string& host, const Facts& facts) const {
  return canary_is_over(host) && unsilence_is_over(host) && !will_start_elsewhere(host, facts) &&
         latecomers(host, facts).empty() && !has_open(host);
}

std::uint32_t Run::failures() const {
  return static_cast<std::uint32_t>(std::count_if(
      hosts_.begin(), hosts_.end(), [](const auto& host) { return !host.second.failure.empty(); }));
}

bool Run::has_failed_too_often() const {
  return failures() > std::max(plan_.failures_max, failures_accepted_);
}

std::string Run::canary_name(const std::string& host) const {
  return fmt::format("canary-{}-{}", id_, host);
}

bool Run::is_canary(const std::string& guest) const { return canaries_.count(guest) != 0; }

bool Run::is_lost(const std::string& guest) const {
  const auto found = unsettled_.find(guest);
  if (found == unsettled_.end()) return false;
  const std::string& owner = intents_.at(found->second).host;
  return !is_canary(guest) || state_of(owner, "canary-stop") != TaskState::kOk;
}

std::string Run::unsettled_at(const std::string& host) const {
  for (const auto& [guest, id] : unsettled_) {
    if (!is_lost(guest)) continue;
    const Intent& move = intents_.at(id);
    if (move.host == host || move.from == host || move.to == host) return outcomes_.at(id).detail;
  }
  return {};
}

// From the journal alone: whoever takes the hook up again tells it the same.
std::map<std::string, std::string> Run::hook_environment(const Intent& intent) const {
  std::map<std::string, std::string> told = {{"SLUICE_RUN", id_},
                                             {"SLUICE_PLAN", plan_.name},
                                             {"SLUICE_HOST", intent.host},
                                             {"SLUICE_PURPOSE", intent.purpose}};
  if (!intent.guest.empty()) told["SLUICE_GUEST"] = intent.guest;
  if (!plan_.expected_version.empty()) told["SLUICE_EXPECTED_VERSION"] = plan_.expected_version;
  const auto host = hosts_.find(intent.host);
  if (host == hosts_.end()) return told;
  if (host->second.baseline) told["SLUICE_OLD_BOOT_ID"] = boot_id_before_patch(intent.host);
  if (is_final(host->second.state)) told["SLUICE_END"] = std::string(to_string(host->second.state));
  return told;
}

std::string Run::definition_of(const Intent& intent) const {
  if (is_canary(intent.guest)) return plan_.canary_definition;
  const Task stopped = latest(intent.host, "shutdown:" + intent.guest);
  return stopped.intent == nullptr ? "" : stopped.intent->definition;
}

}  // namespace sluice::patch
