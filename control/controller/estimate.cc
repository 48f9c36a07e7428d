#include "control/controller/estimate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

namespace sluice::controller {
namespace {

using patch::HostState;

template <typename Items>
auto find_named(const Items& items, const std::string& name) {
  return std::find_if(items.begin(), items.end(),
                      [&](const auto& item) { return item.name == name; });
}

// What one migration can have of the links between two hosts.
std::uint64_t rate_between(const planner::Cluster& cluster, planner::HostId from,
                           planner::HostId to) {
  std::uint64_t rate = cluster.session_bytes_per_second;
  for (const auto link : planner::path(cluster, from, to)) {
    const std::uint64_t capacity = cluster.links[link].bytes_per_second;
    rate = rate == 0 ? capacity : std::min(rate, capacity);
  }
  return rate;
}

// Nobody has left it for the last time.
bool is_to_be_emptied(HostState state, bool aborting) {
  switch (state) {
    case HostState::kPending:
    case HostState::kPrecheck:
    case HostState::kCordoned:
    case HostState::kDraining:
      return !aborting;
    case HostState::kRedrain:
      return true;
    default:
      return false;
  }
}

bool is_to_be_refilled(HostState state, bool aborting) {
  switch (state) {
    case HostState::kEmpty:
      return !aborting;
    case HostState::kPatching:
    case HostState::kRebooting:
    case HostState::kVerifying:
    case HostState::kCanary:
    case HostState::kRefill:
      return true;
    default:
      return false;
  }
}

// Of each host, and of all.
class Sum {
 public:
  Sum(const planner::Cluster& cluster, const planner::DurationModel& durations)
      : durations_(durations) {
    for (const auto& guest : cluster.guests) guests_[guest.name] = &guest;
  }
  void add(const std::string& name, patch::GuestPolicy policy, std::uint64_t bytes_per_second) {
    const auto found = guests_.find(name);
    if (found == guests_.end() || bytes_per_second == 0) return;
    planner::Guest guest = *found->second;
    guest.policy =
        policy == patch::GuestPolicy::kQuick ? planner::Policy::kQuick : planner::Policy::kLive;
    const auto estimate = durations_.estimate(guest, bytes_per_second);
    host_ms_ += estimate.ms;
    total_.ms += estimate.ms;
    total_.low_ms += estimate.low_ms;
    total_.high_ms += estimate.high_ms;
    ++migrations_;
  }
  // What is added from now on is another host's.
  void next_host() {
    if (host_ms_ > 0) ++hosts_;
    longest_ms_ = std::max(longest_ms_, std::exchange(host_ms_, 0));
  }
  // No sooner than the host with the most of it, however many share the rest.
  [[nodiscard]] std::optional<v1::RunEstimate> over(std::uint32_t hosts_at_once) {
    next_host();
    if (migrations_ == 0) return std::nullopt;
    const double ms = std::max(
        static_cast<double>(total_.ms) / std::clamp(hosts_at_once, 1U, std::max(hosts_, 1U)),
        static_cast<double>(longest_ms_));
    const double share = total_.ms == 0 ? 0 : ms / static_cast<double>(total_.ms);
    const auto seconds = [&](std::uint64_t all_ms) {
      return static_cast<double>(all_ms) / 1000 * share;
    };
    v1::RunEstimate estimate;
    estimate.set_migrations(migrations_);
    estimate.set_seconds(seconds(total_.ms));
    estimate.set_low_seconds(seconds(total_.low_ms));
    estimate.set_high_seconds(seconds(total_.high_ms));
    return estimate;
  }

 private:
  const planner::DurationModel& durations_;
  std::map<std::string, const planner::Guest*> guests_;
  planner::DurationEstimate total_;
  std::uint64_t host_ms_ = 0;
  std::uint64_t longest_ms_ = 0;
  std::uint32_t hosts_ = 0;
  std::uint32_t migrations_ = 0;
};

// What the plan leaves open shows as the run goes on.
std::uint32_t hosts_at_once(const patch::Run& run) {
  if (run.plan().parallel != 0) return run.plan().parallel;
  return static_cast<std::uint32_t>(
      std::count_if(run.plan().hosts.begin(), run.plan().hosts.end(), [&](const std::string& name) {
        const HostState state = run.host(name).state;
        return state != HostState::kPending && !patch::is_final(state);
      }));
}

}  // namespace

void learn(const patch::Intent& intent, const patch::Outcome& outcome,
           const planner::Cluster& cluster, planner::DurationModel& durations) {
  if (intent.kind != patch::ActionKind::kMigrate || !outcome.ok || outcome.seconds <= 0) return;
  const auto guest = find_named(cluster.guests, intent.guest);
  const auto from = find_named(cluster.hosts, intent.from);
  const auto to = find_named(cluster.hosts, intent.to);
  if (guest == cluster.guests.end() || from == cluster.hosts.end() || to == cluster.hosts.end())
    return;
  planner::Guest moved = *guest;
  moved.policy = intent.live ? planner::Policy::kLive : planner::Policy::kQuick;
  const auto id = [&](const auto& host) {
    return static_cast<planner::HostId>(host - cluster.hosts.begin());
  };
  durations.refine(moved, rate_between(cluster, id(from), id(to)),
                   static_cast<std::uint64_t>(std::llround(outcome.seconds * 1000)));
}

std::optional<v1::RunEstimate> estimate_left(const patch::Run& run, const patch::Facts& facts,
                                             const planner::Cluster& cluster,
                                             const planner::DurationModel& durations) {
  // None is moved where the patch needs guests down.
  if (patch::is_final(run.state()) || !run.unreadable().empty() || run.plan().shut_down_guests)
    return std::nullopt;
  const patch::Plan& plan = run.plan();
  const bool aborting = run.state() == patch::RunState::kAborting;
  const bool comes_home = !plan.drain_only && plan.placement == patch::Placement::kHome;
  Sum sum(cluster, durations);
  for (const auto& name : plan.hosts) {
    sum.next_host();
    const auto host = find_named(cluster.hosts, name);
    if (host == cluster.hosts.end()) continue;
    const HostState state = run.host(name).state;
    const std::uint64_t out = cluster.links[host->transmit].bytes_per_second;
    const std::uint64_t in = cluster.links[host->receive].bytes_per_second;
    if (is_to_be_emptied(state, aborting)) {
      for (const auto& [guest, about] : facts.guests) {
        if (about.host != name || !patch::is_moved(about.policy)) continue;
        sum.add(guest, about.policy, out);
        if (comes_home && state != HostState::kRedrain) sum.add(guest, about.policy, in);
      }
    }
    const bool some_have_left =
        (state == HostState::kDraining && !aborting) || is_to_be_refilled(state, aborting);
    if (!comes_home || !some_have_left) continue;
    for (const auto& guest : run.host(name).baseline->guests) {
      const auto about = facts.guests.find(guest);
      if (about == facts.guests.end() || about->second.host == name) continue;
      if (patch::is_moved(about->second.policy)) sum.add(guest, about->second.policy, in);
    }
  }
  return sum.over(hosts_at_once(run));
}

}  // namespace sluice::controller
