// What a host waits for, in words for an operator.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

std::string of_seconds(TimeMs elapsed_ms, TimeMs of_ms) {
  return fmt::format("{} of {} s", std::clamp(elapsed_ms, TimeMs{0}, of_ms) / kSecondMs,
                     of_ms / kSecondMs);
}

std::string is_or_are(const std::vector<std::string>& names) {
  return fmt::format("{} {}", fmt::join(names, ", "), names.size() == 1 ? "is" : "are");
}

// To `host`, or to any if it is empty.
std::string moves_beside(const Facts& facts, const std::string& host) {
  std::vector<std::string> moves;
  for (const auto* list : {&facts.moves_of_others, &facts.moves_by_hand}) {
    for (const Move& move : *list) {
      if (host.empty() || move.to == host)
        moves.push_back(fmt::format("{} to {}", move.guest, move.to));
    }
  }
  if (moves.empty()) return {};
  return fmt::format("moves beside this run's are under way: {}", fmt::join(moves, ", "));
}

std::string copy_text(const std::string& host, const std::string& guest, const std::string& state) {
  if (state == "forgotten") {
    return fmt::format(
        "{} waits for an operator on {}: see sluice guest resume and sluice guest stop", guest,
        host);
  }
  if (state == "silent") {
    return fmt::format("{} is on {} too, and its QEMU there does not answer: see the agent's log",
                       guest, host);
  }
  return fmt::format("{} is on {} too, as \"{}\": one copy must be ended", guest, host, state);
}

}  // namespace

std::optional<Copy> copy_on(const Facts& facts, const std::string& host) {
  std::optional<Copy> found;
  const auto about = facts.hosts.find(host);
  if (about == facts.hosts.end()) return found;
  for (const auto& [guest, state] : about->second.copies) {
    // Its agent is about to let go of it.
    const bool goes = state == "moving" || state == "handed-over";
    if (!goes) return Copy{copy_text(host, guest, state), true};
    if (!found) found = Copy{fmt::format("{} has not let go of {} yet", host, guest)};
  }
  return found;
}

std::string Run::keeps(const std::string& name, const Facts& facts) const {
  const HostRun& host = hosts_.at(name);
  if (is_final(state_)) return {};
  if (host.state == HostState::kPending) return name == first_pending() ? keeps_pending() : "";
  if (is_final(host.state)) return next_try(name, facts);
  if (std::string since = reboots(name, facts); !since.empty()) return since;
  const auto about = facts.hosts.find(name);
  if (about == facts.hosts.end())
    return "it is not in [hosts] of the controller's configuration: put it back, or abort the run";
  if (!about->second.reachable) return "its agent does not answer";
  if (has_open(name)) return {};
  if (std::string pause = next_try(name, facts); !pause.empty()) return pause;
  switch (host.state) {
    case HostState::kDraining:
      if (const auto copy = copy_on(facts, name)) return copy->text;
      if (held().count(name) != 0 || has_only_guests_to_shut_down(name, facts))
        return keeps_empty(name, facts);
      return moves_beside(facts, "");
    case HostState::kRedrain:
      if (const auto copy = copy_on(facts, name)) return copy->text;
      return moves_beside(facts, "");
    case HostState::kRebooting:
    case HostState::kRollback:
      if (const auto copy = copy_on(facts, name)) return copy->text;
      return {};
    case HostState::kEmpty:
      return keeps_empty(name, facts);
    case HostState::kRefill:
      return keeps_filling(name, facts);
    case HostState::kSoak:
      return "soak: " + of_seconds(facts.elapsed_ms(host.entered_ms), plan_.soak_s * kSecondMs);
    default:
      return {};
  }
}

// The window and the wave are told for the whole run; see waits_for().
std::string Run::keeps_pending() const {
  if (state_ != RunState::kRunning) return {};
  std::vector<std::string> out;
  std::string remedy;
  for (const auto& name : plan_.hosts) {
    const HostRun& host = hosts_.at(name);
    if (!is_out_of_service(host)) continue;
    out.push_back(name);
    if (host.state == HostState::kQuarantined)
      remedy += fmt::format("; {0} is in quarantine: mend it and `sluice uncordon {0}`", name);
  }
  if (out.empty()) return {};
  if (plan_.parallel == 0) {
    return fmt::format("waits until the cluster can do without it; {} out of service{}",
                       is_or_are(out), remedy);
  }
  if (out.size() < plan_.parallel) return {};
  return fmt::format("{} out of service, and the plan allows {} at once (parallel){}",
                     is_or_are(out), plan_.parallel, remedy);
}

std::string Run::keeps_empty(const std::string& name, const Facts& facts) const {
  if (state_ == RunState::kPaused) return "not patched while the run is paused";
  if (std::string moves = moves_beside(facts, name); !moves.empty()) return moves;
  if (held().count(name) != 0)
    return "not patched while a host has failed that has guests, or too many are out of service";
  if (may_patch(name)) return {};
  std::vector<std::string> unproven;
  for (const auto& other : plan_.hosts) {
    if (is_unproven(hosts_.at(other))) unproven.push_back(other);
  }
  return fmt::format("not patched yet: {} patched and not proven (parallel)", is_or_are(unproven));
}

std::string Run::keeps_filling(const std::string& name, const Facts& facts) const {
  const HostRun& host = hosts_.at(name);
  const auto is_here = [&](const std::string& guest) {
    return facts.guests.at(guest).host == name;
  };
  std::size_t has = 0;
  std::size_t wanted = 0;
  if (rolling()) {
    has = static_cast<std::size_t>(std::count_if(
        facts.guests.begin(), facts.guests.end(),
        [&](const auto& guest) { return guest.second.host == name && !is_canary(guest.first); }));
    wanted = share_of(name, host.refill_step);
  } else {
    const auto guests = home_guests(name, facts);
    wanted = share(guests.size(), host.refill_step);
    has = static_cast<std::size_t>(std::count_if(
        guests.begin(), guests.begin() + static_cast<std::ptrdiff_t>(wanted), is_here));
  }
  if (has < wanted) {
    const std::string moves = moves_beside(facts, "");
    return moves.empty() ? fmt::format("has {} of the {} guests of this step", has, wanted) : moves;
  }
  if (host.refill_step + 1 >= plan_.refill_percent.size()) return {};
  const TimeMs full_ms = std::max(host.gate_ms, last_arrival_ms(name));
  return fmt::format("gate before {} %: {}", plan_.refill_percent[host.refill_step + 1],
                     of_seconds(facts.elapsed_ms(full_ms), plan_.gate_s * kSecondMs));
}

bool Run::is_tried_again(const std::string& name, const std::string& purpose) const {
  const HostState state = hosts_.at(name).state;
  if (purpose == "canary-stop") return !canary_is_over(name);
  if (purpose == "unsilence") return !unsilence_is_over(name);
  if (purpose.starts_with("drain:")) return state == HostState::kDraining;
  if (purpose.starts_with("redrain:")) return state == HostState::kRedrain;
  if (purpose.starts_with("refill:")) return state == HostState::kRefill;
  if (purpose.starts_with("start-elsewhere:")) return is_final(state);
  return purpose.starts_with("start:") && !is_final(state);
}

// What has failed, and waits for its next attempt.
std::string Run::next_try(const std::string& name, const Facts& facts) const {
  for (auto at = latest_.lower_bound({name, ""}); at != latest_.end() && at->first.first == name;
       ++at) {
    const std::string& purpose = at->first.second;
    const Task last = task(at->second);
    if (last.outcome == nullptr || last.outcome->ok || !is_tried_again(name, purpose)) continue;
    const TimeMs pause_ms = pause_left_ms(facts, last);
    const bool by_plan = purpose.find(':') != std::string::npos;
    if (pause_ms == 0 || (by_plan && last.intent->attempt >= plan_.attempts)) continue;
    return fmt::format("{} failed and is tried again in {} s: {}", purpose,
                       (pause_ms + kSecondMs - 1) / kSecondMs, failure_line(last.outcome->detail));
  }
  return {};
}

std::string Run::reboots(const std::string& name, const Facts& facts) const {
  const HostRun& host = hosts_.at(name);
  const bool back = host.state == HostState::kRollback;
  if (!back && host.state != HostState::kRebooting) return {};
  const Task reboot = latest(name, back ? "rollback-reboot" : "reboot");
  if (reboot.outcome == nullptr) return {};
  const TimeMs since_ms = std::max(host.entered_ms, reboot.ended_ms);
  return "rebooting: " + of_seconds(facts.elapsed_ms(since_ms), reboot_timeout_ms());
}

}  // namespace sluice::patch
