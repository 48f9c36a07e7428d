// Guests of policy `shutdown`: they are stopped last, and run again on their host or, if that has
// come to nothing, elsewhere.
//
// That a stop failed says little: its agent may have stopped the guest and fallen silent before it
// could say so. Where a guest is that was to be stopped is seen when its host answers.
#include <algorithm>
#include <fmt/format.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {

bool Run::is_to_be_shut_down(const GuestFacts& guest) const {
  return guest.policy == GuestPolicy::kShutdown ||
         (plan_.shut_down_guests && guest.policy != GuestPolicy::kNever);
}

// Its other guests have left it.
bool Run::has_only_guests_to_shut_down(const std::string& host, const Facts& facts) const {
  std::size_t guests = 0;
  for (const auto& [name, guest] : facts.guests) {
    if (guest.host != host || is_canary(name) || facts.canaries_of_others.count(name) != 0)
      continue;
    if (!is_to_be_shut_down(guest)) return false;
    ++guests;
  }
  return guests != 0;
}

// Who is down waits for all that its host waits for. So nobody is stopped while a guest of the host
// may yet turn out not to leave it, nor for a patch that does not follow at once.
bool Run::may_shut_down(Decision& decision, const std::string& name) const {
  if (!has_only_guests_to_shut_down(name, decision.facts)) return false;
  if (hosts_.at(name).state != HostState::kRedrain) return may_patch(name);
  return plan_.rollback || run_elsewhere_once_down(decision, name);
}

// Without a rollback their host ends in quarantine. Else they run on there: this waits, or fails
// the host.
bool Run::run_elsewhere_once_down(Decision& decision, const std::string& name) const {
  MoveQuery query = query_for(decision);
  query.emptying = {name};
  for (const auto& guest : decision.guests_on(name)) query.resting.erase(guest);
  for (const auto& guest : shut_down_at(name)) query.resting.erase(guest);
  const bool have_room = decision.mover.has_room(query);
  const std::string what = "restarts of " + name;
  if (have_room || room_may_come(decision, name)) {
    decision.patience.renew(what);
  } else if (decision.patience.is_over(what, decision.facts)) {
    decision.fail(name,
                  "no other host has room for its guests, which would stay down if they were "
                  "shut down, since the plan has no rollback hook");
  }
  return have_room;
}

// False where nothing more is to be decided for the host now. A guest that is there again after it
// was shut down was started by somebody, who may do so once more.
bool Run::shut_down(Decision& decision, const std::string& name, const std::string& guest) const {
  const std::string purpose = "shutdown:" + guest;
  const TaskState state = state_since(name, purpose, "start:" + guest);
  if (state == TaskState::kOpen) return true;
  Intent intent{0, ActionKind::kStopGuest, purpose, name, guest};
  if (state == TaskState::kFailed) {
    decision.fail(name, fmt::format("{} could not be shut down: {}", guest,
                                    latest(name, purpose).outcome->detail));
    return false;
  }
  if (state == TaskState::kOk) {
    intent.attempt = latest(name, purpose).intent->attempt + 1;
    if (intent.attempt > plan_.attempts) {
      decision.fail(name, fmt::format("{} was shut down {} times, and somebody started it again",
                                      guest, plan_.attempts));
      return false;
    }
  }
  if (!may_shut_down(decision, name)) return decision.records.empty();
  intent.reason = "its policy is to be shut down";
  const GuestFacts& facts = decision.facts.guests.at(guest);
  intent.definition = facts.definition;
  intent.cpu_level = facts.cpu_level;
  intent.cpu_level_from_host = facts.cpu_level_from_host;
  decision.intend(std::move(intent));
  return false;
}

// Those that were shut down here: true once each runs, or has refused to so often that nobody will
// try again, or its host has been silent for as long as a reboot may take. Those are in `failure`.
bool Run::started_again(Decision& decision, const std::string& name, std::string& failure) const {
  bool waits = false;
  for (const auto& guest : shut_down_at(name)) {
    const std::string start = "start:" + guest;
    const bool in_doubt = is_in_doubt(name, guest, decision.facts);
    // Also not if an operator has started it elsewhere.
    if (!in_doubt && decision.facts.guests.count(guest) != 0) continue;
    const TaskState started = state_since(name, start, "shutdown:" + guest);
    if (started == TaskState::kOpen) return false;
    // Who is asked and does not answer may have started it: nobody else could do so any more.
    if (!decision.reachable(name)) {
      if (!decision.silent_for(name, reboot_timeout_ms())) {
        waits = true;
      } else {
        failure = in_doubt ? doubt(name, guest)
                           : fmt::format("{} could not be started again, since {} does not answer",
                                         guest, name);
      }
      continue;
    }
    const Task before = started == TaskState::kNone ? Task{} : latest(name, start);
    const Attempt attempt = next_attempt(decision.facts, before, plan_.attempts);
    if (attempt.next == Attempt::Next::kGiveUp)
      failure = fmt::format("{} could not be started again: {}", guest, before.outcome->detail);
    waits = waits || attempt.next == Attempt::Next::kWait;
    if (attempt.next != Attempt::Next::kBegin) continue;
    Intent intent{0, ActionKind::kStartGuest, start, name, guest};
    intent.attempt = attempt.number;
    decision.intend(std::move(intent));
    return false;
  }
  return !waits;
}

std::vector<std::string> Run::shut_down_at(const std::string& host) const {
  std::vector<std::string> guests;
  const std::string prefix = "shutdown:";
  for (auto at = latest_.lower_bound({host, prefix});
       at != latest_.end() && at->first.first == host && at->first.second.starts_with(prefix);
       ++at) {
    const std::string& stop = at->first.second;
    const std::string guest = stop.substr(prefix.size());
    const Task stopped = task(at->second);
    if (stopped.outcome != nullptr && !stopped.outcome->unsettled &&
        state_since(host, "start:" + guest, stop) != TaskState::kOk &&
        state_of(host, "start-elsewhere:" + guest) != TaskState::kOk)
      guests.push_back(guest);
  }
  return guests;
}

std::vector<DownGuest> Run::down_guests() const {
  std::vector<DownGuest> down;
  for (const auto& host : plan_.hosts) {
    for (const auto& guest : shut_down_at(host)) {
      const Intent& stop = *latest(host, "shutdown:" + guest).intent;
      down.push_back({guest, host, stop.definition, stop.cpu_level, stop.cpu_level_from_host});
    }
  }
  return down;
}

std::map<std::string, Down> Run::awaited() const {
  std::map<std::string, Down> awaited;
  for (const auto& [name, host] : hosts_) {
    if (is_final(host.state)) continue;
    const bool returning = unreadable_.empty() && returns_by_itself(name);
    for (const auto& guest : shut_down_at(name)) awaited[guest] = {name, false, returning};
  }
  for (const Intent* intent : open_intents()) {
    if (intent->kind != ActionKind::kStartGuest || is_canary(intent->guest)) continue;
    // Of a run that nobody can read no outcome is ever heard.
    awaited[intent->guest] = {intent->to.empty() ? intent->host : intent->to, unreadable_.empty()};
  }
  return awaited;
}

// Its stop failed, and its host does not say whether it runs there all the same.
bool Run::is_in_doubt(const std::string& host, const std::string& guest, const Facts& facts) const {
  if (state_of(host, "shutdown:" + guest) != TaskState::kFailed) return false;
  const auto about = facts.hosts.find(host);
  const auto seen = facts.guests.find(guest);
  return (about == facts.hosts.end() || !about->second.reachable) &&
         (seen == facts.guests.end() || seen->second.host == host);
}

std::string Run::doubt(const std::string& host, const std::string& guest) const {
  return fmt::format("whether {} was shut down is not known, since {} does not answer: {}", guest,
                     host, latest(host, "shutdown:" + guest).outcome->detail);
}

// Nobody may start it here or there while somebody else may have done so.
bool Run::may_run_somewhere(const Decision& decision, const std::string& host,
                            const std::string& guest) const {
  if (decision.facts.guests.count(guest) != 0 || is_in_doubt(host, guest, decision.facts))
    return true;
  const bool tried_here =
      state_since(host, "start:" + guest, "shutdown:" + guest) != TaskState::kNone;
  const Task elsewhere = latest(host, "start-elsewhere:" + guest);
  return (tried_here && !decision.reachable(host)) ||
         (elsewhere.intent != nullptr && !decision.reachable(elsewhere.intent->to));
}

// After a pause, or when those have answered that are silent for a moment. Then it is, or nobody
// has room for it.
bool Run::will_start_elsewhere(const std::string& host, const Facts& facts) const {
  const bool more_may_answer =
      std::any_of(facts.hosts.begin(), facts.hosts.end(),
                  [](const auto& other) { return is_silent_for_now(other.second); });
  const auto guests = shut_down_at(host);
  return std::any_of(guests.begin(), guests.end(), [&](const std::string& guest) {
    const auto next =
        next_attempt(facts, latest(host, "start-elsewhere:" + guest), plan_.attempts).next;
    return facts.guests.count(guest) == 0 &&
           (next == Attempt::Next::kWait || (more_may_answer && next != Attempt::Next::kGiveUp));
  });
}

// Its host is out of service, or has refused to start it.
void Run::start_elsewhere(Decision& decision, const std::string& host) const {
  for (const auto& guest : shut_down_at(host)) {
    const Task before = latest(host, "start-elsewhere:" + guest);
    if (before.intent != nullptr && before.outcome == nullptr) return;
    const Attempt attempt = next_attempt(decision.facts, before, plan_.attempts);
    if (attempt.next != Attempt::Next::kBegin || may_run_somewhere(decision, host, guest)) continue;
    MoveQuery query = query_for(decision);
    query.down[guest] = {host};
    Intent intent{0, ActionKind::kStartGuest, "start-elsewhere:" + guest, host, guest};
    intent.to = decision.mover.target_for(guest, query);
    if (intent.to.empty()) continue;
    intent.attempt = attempt.number;
    return decision.intend(std::move(intent));
  }
}

std::string Run::stays_down(const std::string& host, const Facts& facts) const {
  std::string lines;
  const bool waits = rests_paused(host, facts);
  if (!is_final(hosts_.at(host).state) && !waits) return lines;
  for (const auto& guest : shut_down_at(host)) {
    const bool in_doubt = is_in_doubt(host, guest, facts);
    if (facts.guests.count(guest) != 0 && !in_doubt) continue;
    if (!lines.empty()) lines += "; ";
    if (in_doubt) {
      lines += doubt(host, guest) + "; see there whether it runs before you start it by hand";
      continue;
    }
    if (waits) {
      lines += guest + " is down for as long as the run is paused";
      continue;
    }
    const Task here = latest(host, "start:" + guest);
    const Task elsewhere = latest(host, "start-elsewhere:" + guest);
    const Task& last = elsewhere.outcome != nullptr ? elsewhere : here;
    const bool failed = last.outcome != nullptr && !last.outcome->ok;
    lines += fmt::format("{} is down, and no other host took it{}; start it by hand", guest,
                         failed ? ": " + last.outcome->detail : "");
  }
  return lines;
}

}  // namespace sluice::patch
