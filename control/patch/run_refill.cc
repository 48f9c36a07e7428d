// Guests for patched hosts: their own again, or, of a rolling refill, those of the next hosts.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>

#include "control/patch/run_decide.h"

namespace sluice::patch {

bool is_unproven(const HostRun& host) {
  switch (host.state) {
    case HostState::kPatching:
    case HostState::kRebooting:
    case HostState::kVerifying:
    case HostState::kCanary:
    case HostState::kRefill:
    case HostState::kSoak:
    case HostState::kRedrain:
    case HostState::kRollback:
    case HostState::kVerifyOld:
      return true;
    default:
      return is_quarantined(host);
  }
}

namespace {

std::string guest_after_of(const std::string& guest) { return "guest-after:" + guest; }

}  // namespace

// ---- what a rolling refill lets others do ----

// While a host has failed whose guests must go somewhere, nobody empties more hosts; nor while the
// run is paused, or more hosts than the plan allows would be out of service.
std::set<std::string> Run::held() const {
  std::set<std::string> hosts;
  if (!rolling()) return hosts;
  // Nothing is emptied for a patch that may never come.
  bool failing = state_ == RunState::kPaused;
  std::uint32_t out_of_service = 0;
  for (const auto& [name, host] : hosts_) {
    failing = failing || host.state == HostState::kRedrain;
    if (is_out_of_service(host)) ++out_of_service;
  }
  std::uint32_t surplus =
      plan_.parallel == 0 || out_of_service <= plan_.parallel ? 0 : out_of_service - plan_.parallel;
  for (auto name = plan_.hosts.rbegin(); name != plan_.hosts.rend(); ++name) {
    const HostState state = hosts_.at(*name).state;
    if (state != HostState::kDraining && state != HostState::kEmpty) continue;
    if (!failing && surplus == 0) break;
    hosts.insert(*name);
    surplus -= std::min(surplus, 1U);
  }
  return hosts;
}

// No further host gets a patch that those before have not proven yet.
bool Run::may_patch(const std::string& name) const {
  if (state_ == RunState::kPaused || has_failed_too_often()) return false;
  if (!rolling()) return true;
  if (held().count(name) != 0) return false;
  const auto count = [&](const auto& is) {
    return static_cast<std::uint32_t>(std::count_if(
        hosts_.begin(), hosts_.end(), [&](const auto& host) { return is(host.second); }));
  };
  if (plan_.parallel != 0) return count(is_unproven) < plan_.parallel;
  return count([](const HostRun& host) {
           const HostState state = host.state;
           return state == HostState::kRefill || state == HostState::kSoak ||
                  state == HostState::kRedrain;
         }) == 0;
}

// From hosts that are emptied, or may be now; but for guests that do not move.
bool Run::more_may_come(const Decision& decision) const {
  const auto held_hosts = held();
  const bool emptying = std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& entry) {
    const HostState state = entry.second.state;
    return state == HostState::kPrecheck || state == HostState::kCordoned ||
           (state == HostState::kDraining && held_hosts.count(entry.first) == 0 &&
            !has_only_guests_to_shut_down(entry.first, decision.facts));
  });
  return emptying || !next_to_begin(decision).empty();
}

// How many guests a host may hold in a step of its refill: a share of those that it had. One that
// had none takes the size of the largest.
std::size_t Run::share_of(const std::string& name, std::size_t step) const {
  const auto guests_of = [](const HostRun& host) {
    return host.baseline ? host.baseline->guests.size() : 0;
  };
  std::size_t guests = guests_of(hosts_.at(name));
  if (guests == 0) {
    for (const auto& [other, host] : hosts_) guests = std::max(guests, guests_of(host));
  }
  return share(guests, step);
}

std::size_t Run::share(std::size_t guests, std::size_t step) const {
  const auto percent = plan_.refill_percent[std::min(step, plan_.refill_percent.size() - 1)];
  return (guests * percent + 99) / 100;
}

// Nobody but this run keeps guests from it.
bool Run::is_ours(const Decision& decision, const std::string& name) const {
  const HostFacts* facts = decision.host(name);
  return facts != nullptr && facts->reachable && !facts->quarantined &&
         (facts->cordoned_by.empty() || facts->cordoned_by == id_);
}

void Run::open_filling(const Decision& decision, MoveQuery& query) const {
  const auto open = [&](const std::string& name, TargetRank rank) {
    if (!is_ours(decision, name)) return;
    query.closed.erase(name);
    query.rank[name] = rank;
  };
  for (const auto& name : held()) open(name, TargetRank::kGivenBack);
  for (const auto& [name, host] : hosts_) {
    if (host.state == HostState::kSoak) open(name, TargetRank::kPatched);
    if (host.state != HostState::kRefill) continue;
    open(name, TargetRank::kFilling);
    if (is_last_step(host)) continue;
    const std::size_t has = decision.guests_on(name).size() + coming_to(name);
    const std::size_t may_have = share_of(name, host.refill_step);
    query.arrivals_max[name] = may_have > has ? may_have - has : 0;
  }
}

// ---- one host's refill ----

Run::Filling Run::taken_in(const Decision& decision, const std::string& name) const {
  if (coming_to(name) != 0) return Filling::kWaits;
  const auto guests = decision.guests_on(name).size();
  if (guests >= share_of(name, hosts_.at(name).refill_step)) return Filling::kFull;
  return more_may_come(decision) ? Filling::kWaits : Filling::kNoMoreCome;
}

// Those that can come: not what has ended, not what another host's drain has lost sight of, and not
// what is on a host that nobody has heard of for long. The last step waits for those as long as a
// reboot may take.
std::vector<std::string> Run::home_guests(const std::string& name, const Facts& facts) const {
  const TimeMs silence_ms_max =
      is_last_step(hosts_.at(name)) ? std::max(kSilenceMsMax, reboot_timeout_ms()) : kSilenceMsMax;
  const auto can_come = [&](const std::string& guest) {
    const auto about = facts.guests.find(guest);
    if (about == facts.guests.end() || !is_moved(about->second.policy)) return false;
    if (home_.at(guest) != name || unsettled_.count(guest) != 0) return false;
    const auto host = facts.hosts.find(about->second.host);
    return host != facts.hosts.end() &&
           (host->second.reachable || host->second.silent_ms <= silence_ms_max);
  };
  std::vector<std::string> guests;
  std::copy_if(hosts_.at(name).baseline->guests.begin(), hosts_.at(name).baseline->guests.end(),
               std::back_inserter(guests), can_come);
  return guests;
}

// Moves home are decided in decide_moves; here is seen what became of them.
Run::Filling Run::brought_home(Decision& decision, const std::string& name) const {
  for (const auto& [guest, id] : unsettled_) {
    if (intents_.at(id).host != name) continue;
    decision.fail(name, outcomes_.at(id).detail);
    return Filling::kWaits;
  }
  const auto guests = home_guests(name, decision.facts);
  const std::size_t wanted = share(guests.size(), hosts_.at(name).refill_step);
  Filling filling = Filling::kFull;
  for (std::size_t i = 0; i < wanted; ++i) {
    if (decision.facts.guests.at(guests[i]).host == name) continue;
    filling = Filling::kWaits;
    const Task moved = latest(name, "refill:" + guests[i]);
    if (!is_given_up(moved, plan_.attempts)) continue;
    decision.fail(name, fmt::format("{} could not be moved home in {} attempts: {}", guests[i],
                                    plan_.attempts, moved.outcome->detail));
    break;
  }
  return filling;
}

// A rolling refill goes on into hosts that are done.
std::vector<std::string> Run::latecomers(const std::string& name, const Facts& facts) const {
  std::vector<std::string> guests;
  const auto arrivals = arrivals_.find(name);
  if (!plan_.guest_after || !rolling() || hosts_.at(name).state != HostState::kDone ||
      arrivals == arrivals_.end())
    return guests;
  for (const auto id : arrivals->second) {
    const Intent& move = intents_.at(id);
    const auto about = facts.guests.find(move.guest);
    if (!is_canary(move.guest) && about != facts.guests.end() && about->second.host == name &&
        state_of(name, guest_after_of(move.guest)) == TaskState::kNone)
      guests.push_back(move.guest);
  }
  return guests;
}

// One at a time: its host has proven itself, and nobody waits for them but the run's end.
void Run::look_after_latecomers(Decision& decision, const std::string& name) const {
  const auto guests = latecomers(name, decision.facts);
  if (guests.empty() || has_open(name)) return;
  Intent intent{0, ActionKind::kHook, guest_after_of(guests.front()), name, guests.front()};
  intent.hook = *plan_.guest_after;
  decision.intend(std::move(intent));
}

std::string Run::not_looked_after(const std::string& name) const {
  std::vector<std::string> lines;
  if (!plan_.guest_after || hosts_.at(name).state != HostState::kDone) return {};
  const std::string prefix = guest_after_of("");
  for (auto at = latest_.lower_bound({name, prefix});
       at != latest_.end() && at->first.first == name && at->first.second.starts_with(prefix);
       ++at) {
    const Task hook = task(at->second);
    if (hook.outcome == nullptr || hook.outcome->ok) continue;
    lines.push_back(fmt::format("hook {} failed for {}: {}", plan_.guest_after->name,
                                hook.intent->guest, failure_line(hook.outcome->detail)));
  }
  return fmt::format("{}", fmt::join(lines, "; "));
}

std::string Run::stays_away(const std::string& name, const Facts& facts) const {
  const HostRun& host = hosts_.at(name);
  if (rolling() || plan_.drain_only || host.state != HostState::kDone || !host.baseline) return {};
  std::vector<std::string> lines;
  for (const auto& guest : host.baseline->guests) {
    const auto about = facts.guests.find(guest);
    if (about == facts.guests.end() || !is_moved(about->second.policy)) continue;
    const bool left = state_of(name, "drain:" + guest) == TaskState::kOk;
    const bool came = state_of(name, "refill:" + guest) == TaskState::kOk;
    const bool is_ours = home_.at(guest) == name && !is_lost(guest);
    if (!left || came || about->second.host == name || !is_ours) continue;
    lines.push_back(
        fmt::format("{} was not brought home from {}, which did not answer: `sluice migrate {} "
                    "--to {}`",
                    guest, about->second.host, guest, name));
  }
  return fmt::format("{}", fmt::join(lines, "; "));
}

// A host that falters while it takes its load.
void Run::healthy_or_fail(Decision& decision, const std::string& name) const {
  if (!decision.reachable(name)) {
    if (decision.silent_for(name, kSilenceMsMax))
      decision.fail(name, "its agent stopped answering");
    return;
  }
  const std::string worse = regression(name);
  if (!worse.empty()) decision.fail(name, worse);
}

TimeMs Run::last_arrival_ms(const std::string& name) const {
  TimeMs last_ms = 0;
  const auto arrivals = arrivals_.find(name);
  if (arrivals == arrivals_.end()) return last_ms;
  for (const auto id : arrivals->second) last_ms = std::max(last_ms, task(id).ended_ms);
  return last_ms;
}

// The gates between the steps.
void Run::refill(Decision& decision, const std::string& name) const {
  healthy_or_fail(decision, name);
  if (!decision.records.empty() || !decision.reachable(name)) return;
  const Filling filling = rolling() ? taken_in(decision, name) : brought_home(decision, name);
  if (filling == Filling::kWaits) return;
  const HostRun& host = hosts_.at(name);
  const bool last = filling == Filling::kNoMoreCome || is_last_step(host);
  // They come back with the last step.
  std::string failure;
  if (last && !started_again(decision, name, failure)) return;
  if (!failure.empty()) return decision.fail(name, failure);
  if (last &&
      !guest_hooks_done(decision, name, plan_.guest_after, "guest-after", decision.guests_on(name)))
    return;
  if (has_open(name)) return;
  const std::size_t home = rolling() ? 0 : home_guests(name, decision.facts).size();
  if (last) {
    const std::string end =
        rolling() ? fmt::format("{} guests taken in{}", decision.guests_on(name).size(),
                                filling == Filling::kNoMoreCome ? ", no more are on the move" : "")
                  : fmt::format("{} guests home", home);
    return decision.step(name, HostEvent::kRefilled, end);
  }
  // A step that brings nobody needs no gate.
  const auto wanted = [&](std::uint32_t step) {
    return rolling() ? share_of(name, step) : share(home, step);
  };
  const bool next_is_empty = wanted(host.refill_step) == wanted(host.refill_step + 1);
  const TimeMs full_ms = std::max(host.gate_ms, last_arrival_ms(name));
  if (next_is_empty || decision.facts.elapsed_ms(full_ms) >= plan_.gate_s * kSecondMs)
    decision.add(RefillStep{name, host.refill_step + 1});
}

void Run::soak(Decision& decision, const std::string& name) const {
  healthy_or_fail(decision, name);
  if (!decision.records.empty() || !decision.reachable(name)) return;
  if (decision.facts.elapsed_ms(hosts_.at(name).entered_ms) < plan_.soak_s * kSecondMs) return;
  // More guests may have come since its refill.
  if (rolling() &&
      !guest_hooks_done(decision, name, plan_.guest_after, "guest-after", decision.guests_on(name)))
    return;
  const std::string waits = steal_regression(decision, name);
  if (!waits.empty()) return decision.fail(name, waits);
  const auto ratio = goodput_ratio(name);
  decision.step(name, HostEvent::kSoaked,
                ratio ? fmt::format("goodput {:.2f} of that before", *ratio)
                      : std::string("no migration to compare"));
}

}  // namespace sluice::patch
