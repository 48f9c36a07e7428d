// The canary: a guest that goes before all others, and is always ended.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

// Over four minutes; see next_attempt().
constexpr std::uint32_t kStopsMax = 8;

}  // namespace

// Where the canary goes out to: a host that this run has patched, else another in service, or if
// none has room one that is being proven too.
std::string Run::canary_target(const Decision& decision, const std::string& name) const {
  MoveQuery query = query_for(decision);
  query.rank.clear();
  for (const auto& [other, host] : hosts_) {
    if (host.state == HostState::kDone) query.rank[other] = TargetRank::kPatched;
  }
  std::string target = decision.mover.target_for(canary_name(name), query);
  if (!target.empty()) return target;
  for (const auto& [other, host] : hosts_) {
    const bool patched = host.state == HostState::kCanary || host.state == HostState::kRefill ||
                         host.state == HostState::kSoak;
    if (other != name && patched && is_ours(decision, other)) query.closed.erase(other);
  }
  return decision.mover.target_for(canary_name(name), query);
}

void Run::canary(Decision& decision, const std::string& name) const {
  if (plan_.canary_definition.empty())
    return decision.step(name, HostEvent::kCanaryPassed, "the plan has no canary");
  if (latest(name, "canary-stop").intent == nullptr) {
    for (const char* purpose : {"canary-start", "canary-check", "canary-out", "canary-in"}) {
      const CanaryStep step = canary_step(decision, name, purpose);
      if (step == CanaryStep::kUnderWay) return;
      if (step == CanaryStep::kLast) break;
    }
  }
  // It ends before its host fails, which must not fail again because nobody knows where it is.
  if (!canary_is_over(name)) return end_canary(decision, name);
  for (const char* purpose :
       {"canary-start", "canary-check", "canary-out", "canary-in", "canary-stop"}) {
    if (state_of(name, purpose) != TaskState::kFailed) continue;
    return decision.fail(name, fmt::format("{} failed: {}", purpose,
                                           failure_line(latest(name, purpose).outcome->detail)));
  }
  const Task out = latest(name, "canary-out");
  decision.step(name, HostEvent::kCanaryPassed,
                out.intent == nullptr
                    ? "it ran, and no other host has so new a QEMU that it could go to"
                    : "to " + out.intent->to + " and back");
}

// A move is tried again like any other guest's: the host at its other end may have been silent for
// a moment. A start and a check are not: whether the guest comes up on the patched host is what it
// is to show.
Run::CanaryStep Run::canary_step(Decision& decision, const std::string& name,
                                 const char* purpose) const {
  const Task before = latest(name, purpose);
  const bool is_failed = state_of(name, purpose) == TaskState::kFailed;
  Intent intent{0, ActionKind::kMigrate, purpose, name, canary_name(name)};
  if (intent.purpose == "canary-start") intent.kind = ActionKind::kStartGuest;
  if (intent.purpose == "canary-check") {
    if (!plan_.canary_check) return CanaryStep::kDone;
    intent.kind = ActionKind::kHook;
    intent.hook = *plan_.canary_check;
  }
  const bool moves = intent.kind == ActionKind::kMigrate;
  if (state_of(name, purpose) == TaskState::kOk) return CanaryStep::kDone;
  if (is_failed && (!moves || before.outcome->unsettled)) return CanaryStep::kLast;
  const Attempt attempt = next_attempt(decision.facts, before, plan_.attempts);
  if (attempt.next == Attempt::Next::kGiveUp) return CanaryStep::kLast;
  if (attempt.next == Attempt::Next::kWait) return CanaryStep::kUnderWay;
  intent.attempt = attempt.number;
  if (moves) {
    const bool out = intent.purpose == "canary-out";
    intent.from = out ? name : latest(name, "canary-out").intent->to;
    intent.to = out ? canary_target(decision, name) : name;
    if (intent.to.empty() && is_first_with_its_qemu(decision, name)) return CanaryStep::kLast;
    if (!canary_may_go(decision, name, intent)) return CanaryStep::kUnderWay;
  }
  decision.intend(std::move(intent));
  return CanaryStep::kUnderWay;
}

// Else waits, or fails the host.
bool Run::canary_may_go(Decision& decision, const std::string& name, const Intent& move) const {
  const std::string what = "canary of " + name;
  if (!move.to.empty() || room_may_come(decision, name)) {
    decision.patience.renew(what);
  } else if (decision.patience.is_over(what, decision.facts)) {
    decision.fail(name, "no other host has room for the canary");
  }
  if (move.to.empty()) return false;
  for (const auto& host : {move.from, move.to}) {
    if (decision.reachable(host)) continue;
    if (decision.silent_for(host, reboot_timeout_ms()))
      decision.fail(name, fmt::format("{}: the agent of {} stopped answering", move.purpose, host));
    return false;
  }
  return true;
}

// Ended, or given up.
bool Run::canary_is_over(const std::string& name) const {
  if (state_of(name, "canary-start") == TaskState::kNone) return true;
  const TaskState stopped = state_of(name, "canary-stop");
  return stopped == TaskState::kOk || canary_is_given_up(name);
}

bool Run::canary_is_given_up(const std::string& name) const {
  return is_given_up(latest(name, "canary-stop"), kStopsMax);
}

// One step towards that.
void Run::end_canary(Decision& decision, const std::string& name) const {
  const Task before = latest(name, "canary-stop");
  const Attempt attempt = next_attempt(decision.facts, before, kStopsMax);
  if (canary_is_over(name) || attempt.next != Attempt::Next::kBegin) return;
  const std::string guest = canary_name(name);
  const auto about = decision.facts.guests.find(guest);
  if (before.intent != nullptr && about != decision.facts.guests.end()) {
    // Its host may be coming back, without it.
    const std::string& at = about->second.host;
    if (!decision.reachable(at) && !decision.silent_for(at, reboot_timeout_ms())) return;
  }
  Intent intent{0, ActionKind::kStopGuest, "canary-stop", name, guest};
  intent.attempt = attempt.number;
  decision.intend(std::move(intent));
}

// Any host's that is on `name` and that nobody will end any more; empty: there is none.
std::string Run::canary_left_on(const std::string& name, const Facts& facts) const {
  for (const auto& owner : plan_.hosts) {
    const auto canary = facts.guests.find(canary_name(owner));
    if (canary != facts.guests.end() && canary->second.host == name && canary_is_given_up(owner))
      return canary->first;
  }
  return {};
}

std::string Run::left_over(const std::string& name, const Facts& facts) const {
  const std::string guest = canary_name(name);
  const auto canary = facts.guests.find(guest);
  std::vector<std::string> lines = {stays_silenced(name), stays_down(name, facts),
                                    stays_away(name, facts), not_looked_after(name)};
  if (canary != facts.guests.end() && canary_is_given_up(name)) {
    lines.insert(
        lines.begin(),
        fmt::format("{} on {} could not be stopped in {} attempts: {}; `sluice guest stop {}`",
                    guest, canary->second.host, kStopsMax,
                    latest(name, "canary-stop").outcome->detail, guest));
  }
  std::erase(lines, "");
  return fmt::format("{}", fmt::join(lines, "; "));
}

}  // namespace sluice::patch
