// A run takes as long as was forecast of it.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "control/controller/forecast.h"
#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

constexpr double kSecondMs = 1000;

struct Measured {
  double seconds = 0;
  controller::MeasuredPatch patch{"r1", {}};
};

Measured run(Scenario scenario) {
  Measured measured;
  TimeMs begun_ms = 0;
  TimeMs ended_ms = 0;
  std::map<std::string, TimeMs> patched_ms;
  scenario.by_hand = [&](const Run& run, Cluster& cluster) {
    if (begun_ms == 0) begun_ms = cluster.now_ms();
    ended_ms = cluster.now_ms();
    for (const auto& name : run.plan().hosts) {
      const HostRun& host = run.host(name);
      if (host.state == HostState::kPatching) patched_ms.emplace(name, host.entered_ms);
      const auto patched = patched_ms.find(name);
      if (host.state != HostState::kRefill || patched == patched_ms.end()) continue;
      measured.patch.seconds.push_back(static_cast<double>(host.entered_ms - patched->second) /
                                       kSecondMs);
      patched_ms.erase(patched);
    }
  };
  expect_hosts(run_to_end(scenario), {"run done"});
  measured.seconds = static_cast<double>(ended_ms - begun_ms) / kSecondMs;
  return measured;
}

Estimate expected(const Scenario& scenario, const controller::MeasuredPatch& patch) {
  const auto plan = parse_plan(scenario.plan, "plan.toml");
  EXPECT_TRUE(plan) << plan.error().message;
  const Cluster cluster = make_cluster(scenario);
  const Facts facts = cluster.facts();
  const PlannedMover mover = make_mover(cluster);
  std::vector<controller::HostForecast> hosts;
  for (const auto& host : plan->hosts) {
    const auto drain = mover.plan_drain(query_to_empty(*plan, facts, host));
    EXPECT_TRUE(drain) << drain.error().message;
    const double seconds = static_cast<double>(drain->plan.makespan_ms) / kSecondMs;
    const double bound = static_cast<double>(drain->plan.bound.ms) / kSecondMs;
    hosts.push_back({{seconds, seconds, seconds, bound}, 2});
  }
  return controller::forecast(*plan, facts.wall_ms(),
                              controller::at_once(*plan, facts, mover, hosts),
                              controller::patch_time(*plan, patch), hosts);
}

TEST(Forecast, IsWhatRunsTake) {
  const std::string home = kPlan;
  const std::string hosts = R"(hosts = ["h1", "h2", "h3", "h4"])";
  const auto instead = [&](const std::string& text) {
    return std::string(home).replace(home.find(hosts), hosts.size(), text);
  };
  const std::vector<std::string> plans = {
      home,
      "parallel = 2\n" + home,
      "parallel = 0\n" + home,
      instead("waves = [['h2'], ['h4', 'h1', 'h3']]\nparallel = 3"),
      instead("hosts = ['h1', 'h3']\ndrain_only = true"),
      rolling().plan};
  for (const auto& text : plans) {
    Scenario scenario;
    scenario.plan = text;
    // Hooks but the patch's count for nothing.
    scenario.durations.hook_ms = {{"silence", 0}, {"version", 0}, {"unsilence", 0}};
    const Measured measured = run(scenario);
    const Estimate whole = expected(scenario, measured.patch);
    // What a run does besides, such as checks before and after, takes some seconds of each host.
    EXPECT_NEAR(whole.seconds, measured.seconds, measured.seconds / 5 + 1) << text;
    EXPECT_LE(whole.bound_seconds, measured.seconds) << text;
  }
}

}  // namespace
}  // namespace sluice::patch::sim
