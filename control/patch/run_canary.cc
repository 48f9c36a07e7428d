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
  const std::string guest = canary_name(name);
  // Out to another host, a patched one if there is one with room, and back.
  const Task out = latest(name, "canary-out");
  std::string partner = out.intent == nullptr ? "" : out.intent->to;
  for (const char* purpose : {"canary-start", "canary-out", "canary-in"}) {
    const TaskState state = state_of(name, purpose);
    if (state == TaskState::kOk) continue;
    if (state == TaskState::kNone && latest(name, "canary-stop").intent != nullptr) break;
    if (state == TaskState::kOpen) return;
    if (state == TaskState::kFailed) {
      return decision.fail(
          name, fmt::format("{} failed: {}", purpose, latest(name, purpose).outcome->detail));
    }
    Intent intent{0, ActionKind::kMigrate, purpose, name, guest};
    if (intent.purpose == "canary-start") {
      intent.kind = ActionKind::kStartGuest;
    } else if (intent.purpose == "canary-in") {
      intent.from = partner;
      intent.to = name;
    } else {
      intent.from = name;
      intent.to = canary_target(decision, name);
      const std::string what = "canary of " + name;
      const bool waits = intent.to.empty();
      if (waits && is_first_with_its_qemu(decision, name)) break;
      if (!waits || room_may_come(decision, name)) {
        decision.patience.renew(what);
      } else if (decision.patience.is_over(what, decision.facts)) {
        decision.fail(name, "no other host has room for the canary");
      }
      if (waits) return;
    }
    return decision.intend(std::move(intent));
  }
  if (!canary_is_over(name)) return end_canary(decision, name);
  if (canary_is_given_up(name)) {
    return decision.fail(
        name, "the canary could not be stopped: " + latest(name, "canary-stop").outcome->detail);
  }
  decision.step(name, HostEvent::kCanaryPassed,
                partner.empty() ? "it ran, and no other host has so new a QEMU that it could go to"
                                : "to " + partner + " and back");
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
  std::vector<std::string> lines = {stays_silenced(name), stays_down(name, facts)};
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
