// patch plan
#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <numeric>
#include <sstream>

#include "control/cli/commands.h"
#include "control/cli/json_output.h"
#include "control/cli/quantity.h"
#include "control/cli/render_table.h"
#include "control/model/inventory.h"
#include "control/planner/duration.h"
#include "control/planner/patch_plan.h"

namespace sluice::cli {
namespace {

using planner::Cluster;
using planner::HostId;
using planner::PatchPlan;

Expected<Cluster> read_inventory(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    return fail(ErrorKind::kNotFound, "inventory " + path + " cannot be read or is empty");
  return model::parse_inventory(text.str(), path);
}

Expected<std::vector<HostId>> hosts_named(const Cluster& cluster,
                                          const std::vector<std::string>& names) {
  std::vector<HostId> hosts;
  if (names.empty()) {
    hosts.resize(cluster.hosts.size());
    std::iota(hosts.begin(), hosts.end(), 0U);
    return hosts;
  }
  for (const std::string& name : names) {
    const auto found = std::find_if(cluster.hosts.begin(), cluster.hosts.end(),
                                    [&](const planner::Host& host) { return host.name == name; });
    if (found == cluster.hosts.end())
      return fail(ErrorKind::kInvalid, "there is no host " + name + " in the inventory");
    const auto id = static_cast<HostId>(found - cluster.hosts.begin());
    if (std::find(hosts.begin(), hosts.end(), id) == hosts.end()) hosts.push_back(id);
  }
  return hosts;
}

// "h1 to h10, h15"
std::string list_of(const Cluster& cluster, std::vector<HostId> hosts) {
  std::sort(hosts.begin(), hosts.end());
  std::string text;
  for (std::size_t i = 0; i < hosts.size();) {
    std::size_t end = i + 1;
    while (end < hosts.size() && hosts[end] == hosts[end - 1] + 1) ++end;
    if (!text.empty()) text += ", ";
    text += cluster.hosts[hosts[i]].name;
    if (end - i > 1) text += (end - i > 2 ? " to " : ", ") + cluster.hosts[hosts[end - 1]].name;
    i = end;
  }
  return text;
}

// What was measured spreads around what is predicted; patching itself is taken as given.
struct Range {
  std::uint64_t low_ms = 0;
  std::uint64_t high_ms = 0;
};

Range range_of(const PatchPlan& plan, const Cluster& cluster, const planner::DurationModel& model) {
  Range range{plan.total_ms, plan.total_ms};
  const planner::Guest any = cluster.guests.empty() ? planner::Guest{} : cluster.guests.front();
  planner::Guest sample;
  sample.populated_bytes = std::max<std::uint64_t>(any.populated_bytes, 1ULL << 30);
  const planner::DurationEstimate estimate = model.estimate(sample, 1ULL << 27);
  for (const planner::PatchWave& wave : plan.waves) {
    range.low_ms -= wave.drain_ms * (estimate.ms - estimate.low_ms) / estimate.ms;
    range.high_ms += wave.drain_ms * (estimate.high_ms - estimate.ms) / estimate.ms;
  }
  return range;
}

Json names_of(const Cluster& cluster, const std::vector<HostId>& hosts) {
  Json names = Json::array();
  for (const HostId host : hosts) names.push_back(cluster.hosts[host].name);
  return names;
}

double seconds(std::uint64_t milliseconds) { return static_cast<double>(milliseconds) / 1000.0; }

Json to_json(const PatchPlan& plan, const Cluster& cluster, const Range& range) {
  Json waves = Json::array();
  for (const planner::PatchWave& wave : plan.waves) {
    Json moves = Json::array();
    for (const planner::Move& move : wave.moves) {
      moves.push_back({{"guest", cluster.guests[move.guest].name},
                       {"from", cluster.hosts[move.from].name},
                       {"to", cluster.hosts[move.to].name},
                       {"start_s", seconds(move.start_ms)},
                       {"end_s", seconds(move.end_ms)}});
    }
    waves.push_back({{"hosts", names_of(cluster, wave.hosts)},
                     {"start_s", seconds(wave.start_ms)},
                     {"drain_s", seconds(wave.drain_ms)},
                     {"end_s", seconds(wave.end_ms)},
                     {"moves", std::move(moves)}});
  }
  return {{"hosts", cluster.hosts.size()},
          {"guests", plan.guests},
          {"estimate_s", seconds(plan.total_ms)},
          {"estimate_low_s", seconds(range.low_ms)},
          {"estimate_high_s", seconds(range.high_ms)},
          {"bound_s", seconds(plan.bound.ms)},
          {"bound_reason", plan.bound.reason},
          {"moves", plan.moves},
          {"moves_per_guest", plan.moves_per_guest()},
          {"bytes", plan.bytes},
          {"waves", std::move(waves)},
          {"left_empty", names_of(cluster, plan.left_empty)},
          {"skipped", names_of(cluster, plan.skipped)},
          {"obstacles", plan.obstacles}};
}

void print(const Terminal& terminal, const PatchPlan& plan, const Cluster& cluster,
           const Range& range) {
  std::vector<std::vector<std::string>> rows = {
      {"WAVE", "STARTS", "MOVES", "EMPTY AFTER", "ENDS", "HOSTS"}};
  for (std::size_t i = 0; i < plan.waves.size(); ++i) {
    const planner::PatchWave& wave = plan.waves[i];
    rows.push_back({std::to_string(i + 1), format_span(wave.start_ms),
                    format_count(wave.moves.size()), format_span(wave.drain_ms),
                    format_span(wave.end_ms), list_of(cluster, wave.hosts)});
  }
  if (!plan.waves.empty()) terminal.out << render_table(rows);
  terminal.out << fmt::format("estimate     {} ({} to {})\n", format_span(plan.total_ms),
                              format_span(range.low_ms), format_span(range.high_ms))
               << fmt::format("lower bound  {}: {}\n", format_span(plan.bound.ms),
                              plan.bound.reason)
               << fmt::format("moves        {} of {}, {:.2f} a guest, {}\n",
                              format_count(plan.moves),
                              format_counted(plan.guests, "guest", "guests"),
                              plan.moves_per_guest(), format_bytes(plan.bytes));
  if (!plan.left_empty.empty())
    terminal.out << "left empty   " << list_of(cluster, plan.left_empty) << "\n";
  if (!plan.skipped.empty())
    terminal.out << "skipped      " << list_of(cluster, plan.skipped) << "\n";
  for (const std::string& obstacle : plan.obstacles) terminal.out << obstacle << "\n";
  terminal.out << std::flush;
}

}  // namespace

int plan_patch(const Terminal& terminal, const PatchPlanOptions& options) {
  const auto cluster = read_inventory(options.inventory);
  if (!cluster) return terminal.fail(cluster.error());
  const auto hosts = hosts_named(*cluster, options.hosts);
  if (!hosts) return terminal.fail(hosts.error());
  const planner::DurationModel model;
  planner::PatchOptions patch_options;
  patch_options.plan.move_time = [&model](const planner::Guest& guest, std::uint64_t rate) {
    return model.estimate(guest, rate).ms;
  };
  // Enough for a wave of some hundred guests to end within a few percent of its bound, in about a
  // second.
  patch_options.plan.search = {.seed = options.seed, .schedules_max = 60};
  patch_options.patch_ms = options.patch_ms;
  patch_options.hosts_at_once_max = options.hosts_at_once;
  const auto plan = planner::plan_patch(*cluster, *hosts, patch_options);
  if (!plan) return terminal.fail(plan.error());
  const Range range = range_of(*plan, *cluster, model);
  if (terminal.json) {
    terminal.out << to_json(*plan, *cluster, range).dump() << std::endl;
  } else {
    print(terminal, *plan, *cluster, range);
  }
  if (plan->skipped.empty()) return kExitDone;
  if (!terminal.json)
    terminal.err << "sluice: not every host can be emptied; see above" << std::endl;
  return kExitFailed;
}

}  // namespace sluice::cli
