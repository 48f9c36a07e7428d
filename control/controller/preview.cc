#include "control/controller/preview.h"

#include <algorithm>
#include <vector>

#include "control/patch/planned_mover.h"

namespace sluice::controller {
namespace {

double seconds(std::uint64_t milliseconds) { return static_cast<double>(milliseconds) / 1000; }

void add_move(const planner::Move& move, const planner::Cluster& cluster,
              const planner::DurationModel& durations, v1::PreviewHost& host) {
  const planner::Guest& guest = cluster.guests[move.guest];
  const auto estimate = durations.estimate(guest, move.bytes_per_second);
  auto& line = *host.add_moves();
  line.set_guest(guest.name);
  line.set_from(cluster.hosts[move.from].name);
  line.set_to(cluster.hosts[move.to].name);
  line.set_start_seconds(seconds(move.start_ms));
  line.set_seconds(seconds(move.end_ms - move.start_ms));
  line.set_low_seconds(seconds(estimate.low_ms));
  line.set_high_seconds(seconds(estimate.high_ms));
  line.set_memory_bytes(guest.memory_bytes);
}

// As far from the estimate, in proportion, as its moves are together.
void set_range(v1::PreviewHost& host) {
  double expected = 0;
  double low = 0;
  double high = 0;
  for (const v1::PreviewMove& move : host.moves()) {
    expected += move.seconds();
    low += move.low_seconds();
    high += move.high_seconds();
  }
  const double whole = expected > 0 ? host.seconds() / expected : 0;
  host.set_low_seconds(low * whole);
  host.set_high_seconds(high * whole);
}

Expected<void> plan_host(const patch::Plan& plan, const patch::PlannedMover& mover,
                         const patch::Facts& facts, const planner::DurationModel& durations,
                         v1::PreviewHost& host) {
  for (const auto& [name, guest] : facts.guests) {
    const bool down = plan.shut_down_guests || guest.policy == patch::GuestPolicy::kShutdown;
    if (guest.host == host.host() && down) host.add_shut_down(name);
  }
  const auto drain = mover.plan_drain(patch::query_to_empty(plan, facts, host.host()));
  if (!drain) return tl::unexpected<Error>(drain.error());
  host.set_seconds(seconds(drain->plan.makespan_ms));
  host.set_bound_seconds(seconds(drain->plan.bound.ms));
  host.set_bound_reason(drain->plan.bound.reason);
  for (const auto& move : drain->plan.moves) add_move(move, drain->cluster, durations, host);
  set_range(host);
  return {};
}

patch::Estimate estimate_of(const v1::PreviewHost& host) {
  return {host.seconds(), host.low_seconds(), host.high_seconds(), host.bound_seconds()};
}

void forecast_run(const patch::Plan& plan, const patch::Facts& facts,
                  const patch::PlannedMover& mover, const MeasuredPatch& measured,
                  v1::Preview& preview) {
  std::vector<HostForecast> hosts;
  for (const v1::PreviewHost& host : preview.hosts()) {
    const auto guests =
        std::count_if(facts.guests.begin(), facts.guests.end(),
                      [&](const auto& guest) { return guest.second.host == host.host(); });
    hosts.push_back({estimate_of(host), static_cast<std::size_t>(guests)});
  }
  const PatchTime patching = patch_time(plan, measured);
  const AtOnce together = at_once(plan, facts, mover, hosts);
  const auto whole = forecast(plan, facts.wall_ms(), together, patching, hosts);
  preview.set_seconds(whole.seconds);
  preview.set_low_seconds(whole.low_seconds);
  preview.set_high_seconds(whole.high_seconds);
  preview.set_bound_seconds(whole.bound_seconds);
  preview.set_hosts_at_once(together.hosts);
  preview.set_patch_seconds(patching.estimate.seconds);
  preview.set_patch_seconds_from(patching.from);
}

std::uint32_t wave_of(const patch::Plan& plan, std::size_t host) {
  std::size_t ends = 0;
  for (std::size_t wave = 0; wave < plan.waves.size(); ++wave) {
    ends += plan.waves[wave];
    if (host < ends) return static_cast<std::uint32_t>(wave + 1);
  }
  return 0;
}

}  // namespace

Expected<v1::Preview> make_preview(const patch::Plan& plan, const planner::Cluster& cluster,
                                   const patch::Facts& facts,
                                   const planner::DurationModel& durations,
                                   const MeasuredPatch& measured) {
  const patch::PlannedMover mover(
      cluster, [&durations](const planner::Guest& guest, std::uint64_t bytes_per_second) {
        return durations.estimate(guest, bytes_per_second).ms;
      });
  v1::Preview preview;
  preview.set_drain_only(plan.drain_only);
  preview.set_one_way(patch::lost_by_newer_qemu(plan, facts));
  if (!plan.window.open(facts.wall_ms())) {
    if (const auto opens_ms = plan.window.opens_ms(facts.wall_ms()))
      preview.set_begins(patch::time_text(plan.window, *opens_ms));
  }
  for (std::size_t i = 0; i < plan.hosts.size(); ++i) {
    auto& host = *preview.add_hosts();
    host.set_host(plan.hosts[i]);
    host.set_wave(wave_of(plan, i));
    if (auto planned = plan_host(plan, mover, facts, durations, host); !planned)
      return tl::unexpected<Error>(planned.error());
  }
  forecast_run(plan, facts, mover, measured, preview);
  return preview;
}

std::map<std::string, patch::Estimate> estimates_of(const v1::Preview& preview) {
  std::map<std::string, patch::Estimate> estimates;
  for (const v1::PreviewHost& host : preview.hosts()) estimates[host.host()] = estimate_of(host);
  return estimates;
}

patch::Estimate whole_of(const v1::Preview& preview) {
  return {preview.seconds(), preview.low_seconds(), preview.high_seconds(),
          preview.bound_seconds()};
}

}  // namespace sluice::controller
