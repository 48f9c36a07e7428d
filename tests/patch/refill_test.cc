// The steps of a refill, and the gates between them.
#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

constexpr TimeMs kGateMs = 30'000;

// h1 and h2 have 20 guests each, and h3 room for as many.
Scenario with_twenty_guests(Placement placement, const Faults& faults = {}) {
  Scenario scenario;
  scenario.plan.replace(scenario.plan.find(", \"h3\", \"h4\""), 12, "");
  scenario.plan += fmt::format("[refill]\ngate_s = {}\nplacement = \"{}\"\n", kGateMs / 1000,
                               placement == Placement::kHome ? "home" : "rolling");
  Cluster cluster(faults);
  for (const char* host : {"h1", "h2", "h3"}) cluster.hosts[host] = {.memory_gib = 22};
  for (int g = 1; g <= 40; ++g)
    cluster.guests[fmt::format("g{}", g)] = {g % 2 == 1 ? "h1" : "h2", 1};
  scenario.cluster = cluster;
  return scenario;
}

// What a step of h1's refill was seen to be like.
struct Step {
  std::size_t guests_max = 0;
  TimeMs began_ms = 0;
  TimeMs full_ms = 0;  // when the last guest came
};

struct Watch {
  std::map<std::uint32_t, Step> steps;
  std::size_t guests_max = 0;  // in any state, with its patch
};

std::shared_ptr<Watch> watch_h1(Scenario& scenario) {
  auto watch = std::make_shared<Watch>();
  scenario.by_hand = [watch](const patch::Run& run, Cluster& cluster) {
    const auto guests = static_cast<std::size_t>(
        std::count_if(cluster.guests.begin(), cluster.guests.end(), [](const auto& guest) {
          return guest.second.host == "h1" && !guest.first.starts_with("canary");
        }));
    if (cluster.hosts.at("h1").patched) watch->guests_max = std::max(watch->guests_max, guests);
    const HostRun& host = run.host("h1");
    // The last step ends at once when it is full.
    if (host.state != HostState::kRefill && host.state != HostState::kSoak) return;
    Step& step =
        watch->steps.try_emplace(host.refill_step, Step{0, cluster.now_ms(), 0}).first->second;
    if (guests > step.guests_max) step.full_ms = cluster.now_ms();
    step.guests_max = std::max(step.guests_max, guests);
  };
  return watch;
}

TEST(Refill, GoesStepByStepWithAGateBetweenThem) {
  for (const Placement placement : {Placement::kHome, Placement::kRolling}) {
    Scenario scenario = with_twenty_guests(placement);
    const auto watch = watch_h1(scenario);
    expect_hosts(run_to_end(scenario), {"run done\n", "h1 done version 2", "h2 done version 2"});
    ASSERT_EQ(watch->steps.size(), 4U);
    const std::vector<std::size_t> shares = {1, 5, 10, 20};
    for (std::uint32_t step = 0; step < shares.size(); ++step) {
      EXPECT_EQ(watch->steps.at(step).guests_max, shares[step]) << "in step " << step;
      if (step == 0) continue;
      EXPECT_GE(watch->steps.at(step).began_ms - watch->steps.at(step - 1).full_ms, kGateMs)
          << "before step " << step;
    }
  }
}

TEST(Refill, StopsInItsFirstStepWhenTheHostIsSlow) {
  for (const Placement placement : {Placement::kHome, Placement::kRolling}) {
    Faults faults;
    faults.slow_after_patch = "h1";
    Scenario scenario = with_twenty_guests(placement, faults);
    const auto watch = watch_h1(scenario);
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run paused\nh1 done-old version 1 up true cordoned false"});
    EXPECT_EQ(watch->guests_max, 1U);
    EXPECT_EQ(watch->steps.size(), 1U);
    EXPECT_EQ(end.cluster.guests.size(), 40U);
  }
}

}  // namespace
}  // namespace sluice::patch::sim
