// Guests of policy `shutdown`, and those that a plan shuts down: when they are stopped, and that
// they run again.
#include <gtest/gtest.h>
#include <string>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

constexpr TimeMs kForGoodMs = 100 * kHourMs;

// Its agent says that g1 is stopped, and then nothing more for so long.
void silence_while_g1_stops(const patch::Run& run, Cluster& cluster, TimeMs lasts_ms) {
  for (const Intent* intent : run.open_intents()) {
    const bool stops = intent->kind == ActionKind::kStopGuest && intent->guest == "g1";
    if (stops && cluster.hosts.at("h1").deaf_until_ms == 0) cluster.deafen("h1", lasts_ms);
  }
}

TEST(SilentHost, AGuestThatItHasShutDownRunsElsewhereWhenItStaysSilent) {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown}, {"g5", GuestPolicy::kShutdown}};
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    silence_while_g1_stops(run, cluster, kForGoodMs);
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\nh1 skipped version 1"});
  for (const char* guest : {"g1", "g5"}) {
    ASSERT_EQ(end.cluster.guests.count(guest), 1U) << end.text << end.left_over;
    EXPECT_NE(end.cluster.guests.at(guest).host, "h1") << guest;
  }
}

// Longer than all attempts to start it would last, and than anybody waits for a drain.
TEST(SilentHost, AGuestThatItHasShutDownRunsThereAgainWhenItAnswers) {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  scenario.memory_gib = 8;  // nobody else has room
  scenario.plan = "shut_down_guests = true\n" + scenario.plan;
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    silence_while_g1_stops(run, cluster, 600'000);
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\nh1 skipped version 1"});
  EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text << end.left_over;
}

}  // namespace
}  // namespace sluice::patch::sim
