#include "control/controller/forecast.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <queue>
#include <utility>

namespace sluice::controller {
namespace {

using patch::Estimate;
using patch::Plan;
using Figure = double Estimate::*;

// What `sluice patch plan --inventory` takes too, unless it is told.
constexpr double kPatchSeconds = 600;

bool is_rolling(const Plan& plan) { return plan.placement == patch::Placement::kRolling; }

// When a host may begin that could do so after `seconds`; a window that never opens keeps nobody.
double when_open(const Plan& plan, patch::TimeMs wall_ms, double seconds) {
  const patch::TimeMs at_ms = wall_ms + std::llround(seconds * 1000);
  if (plan.window.open(at_ms)) return seconds;
  const auto opens_ms = plan.window.opens_ms(at_ms);
  return opens_ms ? static_cast<double>(*opens_ms - wall_ms) / 1000 : seconds;
}

// By the plan's waves, or all hosts together.
std::vector<std::size_t> wave_sizes(const Plan& plan, std::size_t hosts) {
  return plan.waves.empty() ? std::vector<std::size_t>{hosts} : plan.waves;
}

// The run on a clock of its own, by one figure of every estimate.
class Rehearsal {
 public:
  Rehearsal(const Plan& plan, patch::TimeMs wall_ms, const AtOnce& at_once,
            const PatchTime& patching, const std::vector<HostForecast>& hosts, Figure figure)
      : plan_(plan),
        wall_ms_(wall_ms),
        at_once_(at_once),
        patch_(patching.estimate.*figure),
        hosts_(hosts),
        figure_(figure),
        links_free_from_(std::max(at_once.drains, 1U), 0) {
    for (const std::size_t size : wave_sizes(plan, hosts.size()))
      wave_ends_.push_back((wave_ends_.empty() ? 0 : wave_ends_.back()) + size);
  }

  double end_seconds() {
    double now = 0;
    begin_hosts(now);
    while (!steps_.empty()) {
      const Step step = steps_.top();
      steps_.pop();
      now = step.seconds;
      take(step);
    }
    return now;
  }

 private:
  enum class Next : std::uint8_t { kDrain, kPatch, kRefill, kEnd };
  struct Step {
    double seconds = 0;
    std::size_t host = 0;
    Next next = Next::kDrain;
    friend bool operator>(const Step& a, const Step& b) {
      return std::pair(a.seconds, a.host) > std::pair(b.seconds, b.host);
    }
  };

  void take(const Step& step) {
    const auto& [now, host, next] = step;
    switch (next) {
      case Next::kDrain:
        return steps_.push({moved(now, host), host, plan_.drain_only ? Next::kEnd : Next::kPatch});
      case Next::kPatch:
        return steps_.push({now + patch_, host, Next::kRefill});
      case Next::kRefill: {
        // A rolling refill is the drains of the next hosts.
        const double back = is_rolling(plan_) ? now : moved(now, host);
        return steps_.push(
            {back + gates_seconds(plan_, hosts_[host].guests) + plan_.soak_s, host, Next::kEnd});
      }
      case Next::kEnd:
        ++ended_;
        return begin_hosts(now);
    }
  }

  // In the plan's order: as soon as a place is free, and the waves before have ended.
  void begin_hosts(double now) {
    const auto wave = std::upper_bound(wave_ends_.begin(), wave_ends_.end(), ended_);
    const std::size_t end = wave == wave_ends_.end() ? hosts_.size() : *wave;
    for (; begun_ < std::min(end, hosts_.size()) && begun_ - ended_ < at_once_.hosts; ++begun_)
      steps_.push({when_open(plan_, wall_ms_, now), begun_, Next::kDrain});
  }

  // When its guests have gone, or come back.
  double moved(double now, std::size_t host) {
    double& free = *std::min_element(links_free_from_.begin(), links_free_from_.end());
    free = std::max(free, now) + hosts_[host].drain.*figure_;
    return free;
  }

  const Plan& plan_;
  patch::TimeMs wall_ms_;
  AtOnce at_once_;
  double patch_;
  const std::vector<HostForecast>& hosts_;
  Figure figure_;
  std::vector<double> links_free_from_;
  std::vector<std::size_t> wave_ends_;
  std::priority_queue<Step, std::vector<Step>, std::greater<>> steps_;
  std::size_t begun_ = 0;
  std::size_t ended_ = 0;
};

// How many may be out at once is the plan's word, or not known. Drains go on beside a rolling
// refill, and waves too.
double least_seconds(const Plan& plan, const PatchTime& patching,
                     const std::vector<HostForecast>& hosts) {
  const bool overlaps = is_rolling(plan) && !plan.drain_only;
  const auto waves = overlaps ? std::vector{hosts.size()} : wave_sizes(plan, hosts.size());
  const double after = plan.drain_only ? 0 : patching.estimate.bound_seconds + plan.soak_s;
  double seconds = 0;
  auto host = hosts.begin();
  for (std::size_t wave : waves) {
    double longest = 0;
    double sum = 0;
    for (; wave > 0 && host != hosts.end(); --wave, ++host) {
      const double drain = host->drain.bound_seconds;
      const double home =
          plan.drain_only || overlaps ? 0 : drain + gates_seconds(plan, host->guests);
      longest = std::max(longest, drain + after + home);
      sum += (overlaps ? 0 : drain) + after + home;
    }
    seconds += std::max(longest, plan.parallel == 0 ? 0 : sum / plan.parallel);
  }
  return seconds;
}

double at_share(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

std::uint32_t hosts_at_once(const Plan& plan, const patch::Facts& facts,
                            const patch::Mover& mover) {
  if (plan.hosts.empty()) return 1;
  if (plan.parallel != 0)
    return std::min(plan.parallel, static_cast<std::uint32_t>(plan.hosts.size()));
  constexpr std::size_t kTwiceShare = 10;  // of guests, the most that a rolling refill moves twice
  const auto guests_of = [&](auto first, auto last) {
    return static_cast<std::size_t>(std::count_if(
        facts.guests.begin(), facts.guests.end(),
        [&](const auto& guest) { return std::find(first, last, guest.second.host) != last; }));
  };
  const std::size_t all = guests_of(plan.hosts.begin(), plan.hosts.end());
  patch::MoveQuery query = patch::query_to_empty(plan, facts, plan.hosts.front());
  std::uint32_t hosts = 1;
  for (auto next = plan.hosts.begin() + 1; next != plan.hosts.end(); ++next, ++hosts) {
    const bool rolls = is_rolling(plan) && !plan.drain_only;
    if (rolls && guests_of(plan.hosts.begin(), next + 1) * kTwiceShare > all) break;
    query.emptying.insert(*next);
    query.closed.insert(query.emptying.begin(), query.emptying.end());
    if (!mover.has_room(query)) break;
  }
  return hosts;
}

}  // namespace

PatchTime patch_time(const Plan& plan, const MeasuredPatch& measured) {
  if (plan.drain_only) return {};
  const auto exactly = [](double seconds) { return Estimate{seconds, seconds, seconds, seconds}; };
  if (plan.expected_patch_s != 0) return {exactly(plan.expected_patch_s), "as the plan says"};
  if (measured.seconds.empty())
    return {exactly(kPatchSeconds), "assumed; the plan's expect.patch_s may say otherwise"};
  std::vector<double> sorted = measured.seconds;
  std::sort(sorted.begin(), sorted.end());
  const double low = at_share(sorted, 0.05);
  return {{at_share(sorted, 0.5), low, at_share(sorted, 0.95), low},
          fmt::format("as in run {}, of {} {}", measured.run, sorted.size(),
                      sorted.size() == 1 ? "host" : "hosts")};
}

bool patches_alike(const Plan& plan, const Plan& other) {
  const auto name = [](const std::optional<patch::Hook>& hook) { return hook ? hook->name : ""; };
  return !plan.drain_only && !other.drain_only && name(plan.patch) == name(other.patch) &&
         name(plan.after) == name(other.after) && plan.reboot == other.reboot &&
         plan.canary_definition.empty() == other.canary_definition.empty();
}

AtOnce at_once(const Plan& plan, const patch::Facts& facts, const patch::PlannedMover& mover,
               const std::vector<HostForecast>& hosts) {
  AtOnce at_once{hosts_at_once(plan, facts, mover)};
  if (at_once.hosts < 2 || hosts.size() < at_once.hosts) return at_once;
  patch::MoveQuery query = patch::query_to_empty(plan, facts, plan.hosts.front());
  double longest = 0;
  for (std::size_t i = 0; i < at_once.hosts; ++i) {
    query.emptying.insert(plan.hosts[i]);
    query.closed.insert(plan.hosts[i]);
    longest = std::max(longest, hosts[i].drain.seconds);
  }
  const auto together = mover.plan_drain(query);
  const double seconds = together ? static_cast<double>(together->plan.makespan_ms) / 1000 : 0;
  const double share = seconds > longest ? longest / seconds : 1;
  at_once.drains = static_cast<std::uint32_t>(std::max(std::lround(at_once.hosts * share), 1L));
  return at_once;
}

Estimate forecast(const Plan& plan, patch::TimeMs wall_ms, const AtOnce& at_once,
                  const PatchTime& patching, const std::vector<HostForecast>& hosts) {
  const auto end_by = [&](Figure figure) {
    return Rehearsal(plan, wall_ms, at_once, patching, hosts, figure).end_seconds();
  };
  return {end_by(&Estimate::seconds), end_by(&Estimate::low_seconds),
          end_by(&Estimate::high_seconds),
          when_open(plan, wall_ms, 0) + least_seconds(plan, patching, hosts)};
}

double gates_seconds(const Plan& plan, std::size_t guests) {
  std::size_t before = 0;
  std::uint32_t steps = 0;
  for (const std::uint32_t percent : plan.refill_percent) {
    const std::size_t share = (guests * percent + 99) / 100;
    steps += share == before ? 0 : 1;
    before = share;
  }
  return steps > 1 ? static_cast<double>(steps - 1) * plan.gate_s : 0;
}

}  // namespace sluice::controller
