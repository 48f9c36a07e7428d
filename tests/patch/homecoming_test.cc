// Guests that cannot come home, or cannot be asked for, for a moment or for good.
#include <gtest/gtest.h>
#include <string>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

// h1's guest is on h2, which no run patches.
Scenario with_a_guest_away() {
  Scenario scenario;
  scenario.plan.replace(scenario.plan.find(", \"h2\""), 18, "");
  scenario.plan.replace(scenario.plan.find("[canary]"), 39, "");
  Cluster cluster;
  for (const char* host : {"h1", "h2", "h3"}) cluster.hosts[host] = {.memory_gib = 32};
  cluster.hosts.at("h3").memory_gib = 1;
  cluster.guests = {{"g1", {"h1", 4}}};
  scenario.cluster = cluster;
  return scenario;
}

TEST(Homecoming, WaitsForAHostThatIsSilentAsLongAsARebootMayTake) {
  for (const TimeMs silence_ms : {TimeMs{100'000}, kHourMs}) {
    Scenario scenario = with_a_guest_away();
    const std::string first_boot = scenario.cluster->facts().hosts.at("h1").boot_id;
    TimeMs back_ms = 0;
    scenario.known = [&](Facts& facts) {
      if (facts.hosts.at("h1").boot_id == first_boot) return;
      if (back_ms == 0) back_ms = facts.now_ms;
      if (facts.now_ms < back_ms + silence_ms)
        fall_silent(facts.hosts.at("h2"), facts.now_ms - back_ms);
    };
    const End end = run_to_end(scenario);
    const bool comes = silence_ms < kHourMs;
    EXPECT_EQ(end.cluster.guests.at("g1").host, comes ? "h1" : "h2");
    expect_hosts(end, {"h1 done version 2",
                       comes ? "because every host went well\n"
                             : "because every host went well; g1 was not brought home from h2, "
                               "which did not answer: `sluice migrate g1 --to h1`"});
  }
}

// g1 has no room at home any more, and says nothing of g5, whose moves all fail.
TEST(Homecoming, EndsWhenOneGuestHasNoRoomAndAnotherCannotBeMoved) {
  Scenario scenario;
  Cluster cluster(Faults{.moves_back_failures = {"g5"}});
  scenario.plan.replace(scenario.plan.find(", \"h2\""), 18, "");
  for (const char* host : {"h1", "h2"}) cluster.hosts[host] = {.memory_gib = 32};
  cluster.guests = {{"g1", {"h1", 16}}, {"g5", {"h1", 4}}};
  scenario.cluster = cluster;
  scenario.plan += "[refill]\npercent = [100]\n";
  scenario.by_hand = [](const patch::Run& run, Cluster& now) {
    if (run.host("h1").state == HostState::kRebooting) now.hosts.at("h1").memory_gib = 8;
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h1 done-old version 1"});
  EXPECT_LT(end.cluster.now_ms(), kHourMs);
}

}  // namespace
}  // namespace sluice::patch::sim
