// Deciding for the run as a whole: which hosts begin, which guests move, when it ends.
#include "control/patch/run_decide.h"

#include <algorithm>
#include <fmt/format.h>

namespace sluice::patch {
namespace {

bool is_under_way(HostState state) { return state != HostState::kPending && !is_final(state); }

bool is_emptying(HostState state) {
  return state == HostState::kDraining || state == HostState::kRedrain;
}

}  // namespace

bool Patience::is_over(const std::string& what, const Facts& facts, TimeMs limit_ms) {
  return facts.elapsed_ms(since_ms_.emplace(what, facts.now_ms).first->second) >= limit_ms;
}

std::vector<Record> Run::decide(const Facts& facts, const Mover& mover, Patience& patience) const {
  if (!created_ || is_final(state_) || !unreadable_.empty()) return {};
  if (plan_.shut_down_guests) return decide_for(with_guests_down(facts), mover, patience);
  return decide_for(facts, mover, patience);
}

// The plan asks for it, whatever their own policy; but for those that must never be disturbed.
Facts Run::with_guests_down(Facts facts) const {
  for (auto& [name, guest] : facts.guests) {
    if (hosts_.count(guest.host) != 0 && !is_canary(name) &&
        facts.canaries_of_others.count(name) == 0 && guest.policy != GuestPolicy::kNever)
      guest.policy = GuestPolicy::kShutdown;
  }
  return facts;
}

std::vector<Record> Run::decide_for(const Facts& facts, const Mover& mover,
                                    Patience& patience) const {
  // Its plan was checked before it was created.
  if (state_ == RunState::kDraft)
    return {{facts.now_ms, RunStep{RunEvent::kAdmit, lost_by_newer_qemu(plan_, facts)}}};
  if (state_ == RunState::kAdmitted) return {{facts.now_ms, RunStep{RunEvent::kStart, ""}}};
  Decision decision{facts, mover, patience, intents_.size() + 1};
  for (const auto& [name, guest] : facts.guests) {
    if (!is_canary(name) && facts.canaries_of_others.count(name) == 0)
      decision.guests_by_host[guest.host].push_back(name);
  }
  for (const auto& name : plan_.hosts) {
    decide_host(decision, name);
    // What follows may depend on what was just decided.
    if (!decision.records.empty()) return decision.records;
  }
  decide_run(decision);
  if (decision.records.empty()) decide_moves(decision);
  if (decision.records.empty()) begin_hosts(decision);
  return decision.records;
}

// The end, and the failures that an operator did not allow for.
void Run::decide_run(Decision& decision) const {
  const bool finished = std::all_of(hosts_.begin(), hosts_.end(), [&](const auto& entry) {
    return is_final(entry.second.state) && is_tidied(entry.first, decision.facts);
  });
  if (finished) {
    const auto failed = failures();
    std::string reason = failed == 0 ? std::string("every host went well")
                                     : fmt::format("{} of {} hosts failed", failed, hosts_.size());
    for (const auto& name : plan_.hosts) {
      const std::string left = left_over(name, decision.facts);
      if (!left.empty()) reason += "; " + left;
    }
    return decision.add(RunStep{RunEvent::kFinished, reason});
  }
  if (state_ != RunState::kRunning) return;
  if (has_failed_too_often()) {
    decision.add(RunStep{
        RunEvent::kPause,
        fmt::format("{} hosts failed, the plan allows {}: look at them, then resume or abort",
                    failures(), plan_.failures_max)});
    return;
  }
  const auto pending = std::count_if(hosts_.begin(), hosts_.end(), [](const auto& entry) {
    return entry.second.state == HostState::kPending;
  });
  if (pending == 0 || plan_.window.opens_ms(decision.facts.wall_ms())) return;
  decision.add(
      RunStep{RunEvent::kPause,
              fmt::format("the window has closed for good with {} hosts to go: end the run "
                          "with `sluice patch abort {}`, and patch them by a new plan",
                          pending, id_)});
}

void Run::begin_hosts(Decision& decision) const {
  const std::string next = next_to_begin(decision);
  if (!next.empty()) return decision.step(next, HostEvent::kBegin);
  if (state_ != RunState::kRunning || plan_.parallel == 0) return;
  // Quarantined hosts that fill the budget alone would keep the rest waiting for ever.
  const auto held_hosts = held();
  const bool goes_on = std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& entry) {
    return is_under_way(entry.second.state) && held_hosts.count(entry.first) == 0;
  });
  const bool wait = !held_hosts.empty() ||
                    (!first_pending().empty() && plan_.window.open(decision.facts.wall_ms()));
  const auto quarantined =
      static_cast<std::uint32_t>(std::count_if(hosts_.begin(), hosts_.end(), [](const auto& entry) {
        return is_quarantined(entry.second);
      }));
  if (goes_on || !wait || quarantined == 0) return;
  decision.add(RunStep{RunEvent::kPause,
                       fmt::format("{} hosts are in quarantine, which is all that may be out of "
                                   "service: mend one and `sluice uncordon` it, then resume",
                                   quarantined)});
}

std::string Run::first_pending() const {
  const auto pending = std::find_if(plan_.hosts.begin(), plan_.hosts.end(), [&](const auto& name) {
    return hosts_.at(name).state == HostState::kPending;
  });
  return pending == plan_.hosts.end() ? "" : *pending;
}

std::string Run::wave_waits_for(const std::string& name) const {
  const auto at = static_cast<std::size_t>(std::find(plan_.hosts.begin(), plan_.hosts.end(), name) -
                                           plan_.hosts.begin());
  std::size_t begins = 0;
  for (const std::size_t wave : plan_.waves) {
    if (begins + wave > at) break;
    begins += wave;
  }
  for (std::size_t i = 0; i < begins; ++i) {
    const HostRun& host = hosts_.at(plan_.hosts[i]);
    const bool waits = host.state == HostState::kPending ||
                       (is_out_of_service(host) && host.state != HostState::kQuarantined);
    if (waits) return plan_.hosts[i];
  }
  return {};
}

std::string Run::waits_for(TimeMs wall_ms) const {
  if (!is_final(state_) && !unreadable_.empty()) return unreadable_;
  const std::string pending = first_pending();
  if (state_ != RunState::kRunning || pending.empty()) return {};
  if (!plan_.window.open(wall_ms)) {
    const auto opens_ms = plan_.window.opens_ms(wall_ms);
    return opens_ms ? fmt::format("the window opens {}", time_text(plan_.window, *opens_ms)) : "";
  }
  const std::string other = wave_waits_for(pending);
  return other.empty() ? "" : fmt::format("{} waits for {} of the wave before", pending, other);
}

// Of a rolling refill, hosts that take guests in serve again.
bool Run::is_out_of_service(const HostRun& host) const {
  const HostState state = host.state;
  if (rolling() && (state == HostState::kRefill || state == HostState::kSoak)) return false;
  return is_under_way(state) || is_quarantined(host);
}

std::string Run::next_to_begin(const Decision& decision) const {
  if (state_ != RunState::kRunning || !plan_.window.open(decision.facts.wall_ms())) return {};
  std::string pending = first_pending();
  if (pending.empty() || !wave_waits_for(pending).empty()) return {};
  const auto out_of_service = static_cast<std::uint32_t>(
      std::count_if(hosts_.begin(), hosts_.end(),
                    [&](const auto& entry) { return is_out_of_service(entry.second); }));
  const bool may = plan_.parallel == 0 ? cluster_can_do_without(decision, pending)
                                       : out_of_service < plan_.parallel;
  return may ? pending : "";
}

// Besides those that are out of service already.
bool Run::cluster_can_do_without(const Decision& decision, const std::string& name) const {
  MoveQuery query = query_for(decision);
  for (const auto& [other, host] : hosts_) {
    if (is_under_way(host.state) && is_out_of_service(host)) query.emptying.insert(other);
  }
  if (query.emptying.empty()) return true;
  query.emptying.insert(name);
  query.closed.insert(query.emptying.begin(), query.emptying.end());
  if (rolling()) {
    if (!few_move_twice(decision, query.emptying)) return false;
    open_filling(decision, query);
    query.arrivals_max.clear();
    if (patch_has_begun()) {
      for (const auto& [other, host] : hosts_) {
        if (host.state == HostState::kPending) query.closed.insert(other);
      }
    }
  }
  return decision.mover.has_room(query);
}

bool Run::patch_has_begun() const {
  return std::any_of(plan_.hosts.begin(), plan_.hosts.end(),
                     [&](const auto& name) { return latest(name, "patch").intent != nullptr; });
}

// The first hosts' guests go to hosts that are yet to be emptied.
bool Run::few_move_twice(const Decision& decision, const std::set<std::string>& emptying) const {
  constexpr std::size_t kShare = 10;
  if (patch_has_begun()) return true;
  std::size_t twice = 0;
  std::size_t all = 0;
  for (const auto& [name, host] : hosts_) {
    const std::size_t guests =
        host.baseline ? host.baseline->guests.size() : decision.guests_on(name).size();
    all += guests;
    if (emptying.count(name) != 0) twice += guests;
  }
  return twice * kShare <= all;
}

// It runs at one end of the move by now: nothing is held for it at the other any more.
bool Run::is_seen_again(const Facts& facts, const Intent& move) {
  const auto guest = facts.guests.find(move.guest);
  if (guest == facts.guests.end()) return false;
  const auto host = facts.hosts.find(guest->second.host);
  const bool moves = std::any_of(facts.moves_by_hand.begin(), facts.moves_by_hand.end(),
                                 [&](const Move& other) { return other.guest == move.guest; });
  return host != facts.hosts.end() && host->second.reachable && !moves;
}

MoveQuery Run::query_for(const Decision& decision) const {
  MoveQuery query;
  query.facts = &decision.facts;
  query.qemu_meant = plan_.expected_qemu;
  query.under_way = moves_under_way();
  const auto& others = decision.facts.moves_of_others;
  query.under_way.insert(query.under_way.end(), others.begin(), others.end());
  query.under_way_unwatched = decision.facts.moves_by_hand;
  for (const auto& [name, host] : hosts_) {
    if (is_under_way(host.state) && host.state != HostState::kPrecheck) query.closed.insert(name);
    // Of a rolling refill, every host that this run will not empty any more.
    const bool settled = rolling() ? is_final(host.state) : host.state == HostState::kDone;
    if (settled) query.rank[name] = TargetRank::kPatched;
  }
  for (const auto& [name, host] : decision.facts.hosts) {
    // Its cordon may have been taken back since the facts were gathered, for it to serve again or
    // because it is in quarantine.
    const auto own = hosts_.find(name);
    const bool takes_part = own != hosts_.end();
    const bool given_back = takes_part && host.cordoned_by == id_ && !own->second.cordoned_here;
    const bool cordoned = !host.cordoned_by.empty() && !given_back;
    const bool quarantined = host.quarantined || (takes_part && is_quarantined(own->second));
    if (quarantined || !host.reachable || cordoned) query.closed.insert(name);
    if (rolling() && hosts_.count(name) == 0) query.rank[name] = TargetRank::kPatched;
  }
  for (const auto& [name, guest] : decision.facts.guests) {
    if (is_canary(name) || !is_moved(guest.policy)) query.resting.insert(name);
  }
  query.resting.insert(decision.facts.canaries_of_others.begin(),
                       decision.facts.canaries_of_others.end());
  add_down(query, awaited());
  for (const auto& [guest, id] : unsettled_) {
    if (!is_lost(guest)) continue;
    query.resting.insert(guest);
    const Intent& move = intents_.at(id);
    if (!is_seen_again(decision.facts, move))
      query.under_way_unwatched.push_back({guest, move.from, move.to, ""});
  }
  return query;
}

bool Run::is_given_up(const Task& last, std::uint32_t attempts_max) {
  return last.outcome != nullptr && !last.outcome->ok && last.intent->attempt >= attempts_max;
}

// What has failed for a moment's reason is not tried again in that moment.
TimeMs Run::pause_left_ms(const Facts& facts, const Task& before) {
  constexpr TimeMs kFirstMs = 5 * kSecondMs;
  constexpr TimeMs kLongestMs = 60 * kSecondMs;
  if (before.outcome == nullptr || before.outcome->ok) return 0;
  TimeMs pause_ms = kFirstMs;
  for (std::uint32_t attempt = 1; attempt < before.intent->attempt && pause_ms < kLongestMs;
       ++attempt)
    pause_ms *= 2;
  return std::max<TimeMs>(std::min(pause_ms, kLongestMs) - facts.elapsed_ms(before.ended_ms), 0);
}

Run::Attempt Run::next_attempt(const Facts& facts, const Task& before, std::uint32_t attempts_max) {
  if (before.intent == nullptr) return {};
  const std::uint32_t number = before.intent->attempt;
  if (before.outcome == nullptr) return {Attempt::Next::kWait, number};
  if (before.outcome->ok) return {};
  if (is_given_up(before, attempts_max)) return {Attempt::Next::kGiveUp, number};
  const bool waits = pause_left_ms(facts, before) > 0;
  return {waits ? Attempt::Next::kWait : Attempt::Next::kBegin, number + 1};
}

void Run::decide_moves(Decision& decision) const {
  MoveQuery query = query_for(decision);
  const auto held_hosts = held();
  for (const auto& [name, host] : hosts_) {
    // Who cannot be asked neither gives guests away nor takes them.
    if (!decision.reachable(name)) continue;
    if (is_emptying(host.state) && held_hosts.count(name) == 0) query.emptying.insert(name);
    if (rolling() || host.state != HostState::kRefill) continue;
    const auto guests = home_guests(name, decision.facts);
    const auto wanted = share(guests.size(), host.refill_step);
    for (std::size_t i = 0; i < wanted; ++i) {
      if (decision.facts.guests.at(guests[i]).host != name) query.homecoming[guests[i]] = name;
    }
  }
  if (query.emptying.empty() && query.homecoming.empty()) return fail_stuck(decision, query, {});
  if (rolling()) open_filling(decision, query);
  const auto purpose_of = [&](const std::string& guest, const std::string& host) {
    if (query.emptying.count(host) == 0) return "refill:" + guest;
    return (hosts_.at(host).state == HostState::kDraining ? "drain:" : "redrain:") + guest;
  };
  for (const auto& [guest, about] : decision.facts.guests) {
    const auto home = query.homecoming.find(guest);
    const bool leaves = query.emptying.count(about.host) != 0;
    if (!leaves && home == query.homecoming.end()) continue;
    const std::string& host = leaves ? about.host : home->second;
    const TimeMs pause_ms = pause_left_ms(decision.facts, latest(host, purpose_of(guest, host)));
    if (pause_ms > 0) query.later_ms[guest] = pause_ms;
  }

  const MoveAnswer answer = decision.mover.propose(query);
  for (const Move& move : answer.start) {
    const bool leaves = query.emptying.count(move.from) != 0;
    const std::string& host = leaves ? move.from : move.to;
    Intent intent;
    intent.kind = ActionKind::kMigrate;
    intent.purpose = purpose_of(move.guest, host);
    intent.host = host;
    intent.guest = move.guest;
    intent.from = move.from;
    intent.to = move.to;
    intent.live = decision.facts.guests.at(move.guest).policy != GuestPolicy::kQuick;
    const Attempt attempt =
        next_attempt(decision.facts, latest(host, intent.purpose), plan_.attempts);
    if (attempt.next != Attempt::Next::kBegin) continue;
    intent.attempt = attempt.number;
    intent.reason = move.reason;
    intent.expected_seconds = move.expected_seconds;
    decision.intend(std::move(intent));
  }
  fail_stuck(decision, query, answer);
}

// Once nothing that is under way can change it.
void Run::fail_stuck(Decision& decision, const MoveQuery& query, const MoveAnswer& answer) const {
  std::map<std::string, std::string> stuck;  // by host
  for (const auto& [guest, why] : answer.stuck) {
    const std::string& from = decision.facts.guests.at(guest).host;
    const auto home = query.homecoming.find(guest);
    stuck.emplace(
        query.emptying.count(from) != 0 || home == query.homecoming.end() ? from : home->second,
        why);
  }
  for (const auto& [host, about] : hosts_) {
    const auto why = stuck.find(host);
    const std::string what = "moves of " + host;
    if (why == stuck.end() || !answer.start.empty() || room_may_come(decision, host)) {
      decision.patience.renew(what);
    } else if (decision.patience.is_over(what, decision.facts)) {
      decision.fail(host, why->second);
    }
  }
}

bool Run::returns_by_itself(const std::string& host) const {
  switch (hosts_.at(host).state) {
    case HostState::kPatching:
    case HostState::kRebooting:
    case HostState::kVerifying:
    case HostState::kUndrain:
    case HostState::kRollback:
    case HostState::kVerifyOld:
      return true;
    case HostState::kSoak:
      return !rolling();
    default:
      return false;
  }
}

// A move ends, a host comes back, or an agent answers again. Nobody waits for who may wait for him:
// those that are emptied for their patch wait for all others, which wait for none of them.
bool Run::room_may_come(const Decision& decision, const std::string& host) const {
  const auto& by_hand = decision.facts.moves_by_hand;
  const bool moves = !moves_under_way().empty() || !decision.facts.moves_of_others.empty() ||
                     std::any_of(by_hand.begin(), by_hand.end(), [&](const Move& move) {
                       return unsettled_.count(move.guest) == 0;
                     });
  if (moves) return true;
  const bool others_return =
      std::any_of(decision.facts.hosts.begin(), decision.facts.hosts.end(), [](const auto& other) {
        return is_silent_for_now(other.second) || other.second.returns_to_others;
      });
  if (others_return) return true;
  const bool waits_for_all = hosts_.at(host).state == HostState::kDraining;
  return std::any_of(plan_.hosts.begin(), plan_.hosts.end(), [&](const std::string& other) {
    if (other == host) return false;
    switch (hosts_.at(other).state) {
      case HostState::kRedrain:
      case HostState::kCanary:
        return waits_for_all;
      case HostState::kRefill:
        return waits_for_all && !rolling();
      case HostState::kEmpty:
        return waits_for_all && !rolling() && !plan_.drain_only && state_ != RunState::kPaused;
      default:
        return returns_by_itself(other);
    }
  });
}

}  // namespace sluice::patch
