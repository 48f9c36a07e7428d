// Guests of policy `shutdown`, and those that a plan shuts down: when they are stopped, and that
// they run again.
#include <functional>
#include <gtest/gtest.h>
#include <set>
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

// Whoever of them was down at any time while `when` held of the run.
std::set<std::string> stopped_while(Scenario scenario,
                                    const std::function<bool(const patch::Run& run)>& when,
                                    End* end) {
  std::set<std::string> stopped;
  scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
    if (!when(run)) return;
    for (const auto& [name, guest] : cluster.stopped) {
      if (!name.starts_with("canary")) stopped.insert(name);
    }
  };
  *end = run_to_end(scenario);
  return stopped;
}

TEST(GuestsShutDown, AreNotStoppedForAHostThatAnotherGuestDoesNotLeave) {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  scenario.faults.migration_failures = {{"g5", 100}};
  End end;
  const auto always = [](const patch::Run&) { return true; };
  EXPECT_EQ(stopped_while(scenario, always, &end), std::set<std::string>{});
  expect_hosts(end, {"run paused\nh1 skipped version 1"});
}

// The host before it takes the other guests in and fails, or does well.
TEST(GuestsShutDown, AreNotStoppedBeforeTheirHostMayBePatched) {
  for (const bool fails : {true, false}) {
    Scenario scenario = rolling();
    scenario.policies = {{"g2", GuestPolicy::kShutdown}, {"g6", GuestPolicy::kLive}};
    if (fails) scenario.faults.slow_after_patch = "h1";
    End end;
    const auto h1_is_not_proven = [](const patch::Run& run) {
      return run.host("h1").state != HostState::kDone;
    };
    EXPECT_EQ(stopped_while(scenario, h1_is_not_proven, &end), std::set<std::string>{});
    if (fails) {
      expect_hosts(end, {"run paused\nh1 done-old version 1", "h2 draining"});
    } else {
      expect_hosts(end, {"run done\n", "h1 done", "h2 done version 2", "h4 done"});
      EXPECT_EQ(end.cluster.guests.size(), 8U);
    }
  }
}

// The pause comes while hook before has its time.
TEST(GuestsShutDown, AreNotStoppedWhileTheRunIsPaused) {
  for (Scenario scenario : {Scenario{}, rolling()}) {
    scenario.plan.replace(scenario.plan.find("rollback ="), 0, "before = \"before\"\n");
    scenario.policies = {{"g1", GuestPolicy::kShutdown}};
    scenario.durations.hook_ms = {{"before", 100'000}};
    std::string waits;
    scenario.commands = [&waits](Driver& driver, Cluster& cluster) {
      const patch::Run& run = driver.run();
      const bool before =
          run.host("h1").state == HostState::kCordoned && cluster.hook_runs.count("before@h1") != 0;
      if (before && run.state() == RunState::kRunning)
        return driver.command(RunEvent::kPause, "told to", "", cluster.now_ms()).has_value();
      if (run.state() != RunState::kPaused || !run.at_rest(cluster.facts())) return false;
      waits = run.keeps("h1", cluster.facts());
      return driver.command(RunEvent::kResume, "told to", "", cluster.now_ms()).has_value();
    };
    End end;
    const auto is_paused = [](const patch::Run& run) { return run.state() == RunState::kPaused; };
    EXPECT_EQ(stopped_while(scenario, is_paused, &end), std::set<std::string>{});
    EXPECT_EQ(waits, "not patched while the run is paused");
    expect_hosts(end, {"run done\n", "h1 done version 2"});
    EXPECT_EQ(end.cluster.guests.size(), 8U);
  }
}

// A component of theirs fails on the patched host, which cannot be rolled back. Others have room
// for both of its guests, or only for one.
TEST(GuestsShutDown, RunOnInQuarantineWhereNobodyElseHasRoom) {
  for (const bool have_room : {true, false}) {
    Scenario scenario;
    scenario.plan = "shut_down_guests = true\n" + scenario.plan + R"([hooks.guest_after]
name = "component"
on = "controller"
)";
    scenario.plan.erase(scenario.plan.find("rollback ="), 22);
    scenario.faults.component_fails_for = "g1";
    scenario.memory_gib = 8;
    scenario.cluster = make_cluster(scenario);
    scenario.cluster->hosts.at("h4").memory_gib = have_room ? 16 : 12;
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run paused\nh1 quarantined version 2"});
    ASSERT_EQ(end.cluster.guests.size(), 8U) << end.text << end.left_over;
    for (const char* guest : {"g1", "g5"})
      EXPECT_EQ(end.cluster.guests.at(guest).host, have_room ? "h4" : "h1") << guest;
  }
}

// h1's start takes effect, unheard, while h1 has no other guest: nobody may take it for empty.
TEST(SilentHost, IsNotRolledBackUnderAGuestThatItMayHaveStarted) {
  Scenario scenario;
  scenario.plan = "shut_down_guests = true\n" + scenario.plan;
  const auto canary = scenario.plan.find("[canary]");
  scenario.plan.erase(canary, scenario.plan.find("[soak]") - canary);
  scenario.faults.unheard_start_of = "g1";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\nh1 done-old version 1 up true cordoned false"});
  EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text << end.left_over;
}

// h1 is in quarantine with two guests down, when h2, which alone has room, is given back as the
// run's last act.
TEST(GuestsShutDown, RunAgainOnAHostThatIsGivenBackInTheRunsLastMoment) {
  Scenario scenario;
  scenario.plan.replace(scenario.plan.find(", \"h3\""), 12, "");
  const auto unsilence = scenario.plan.find("unsilence =");
  scenario.plan.erase(unsilence, scenario.plan.find("[expect]") - unsilence);
  const auto canary = scenario.plan.find("[canary]");
  scenario.plan.erase(canary, scenario.plan.find("[soak]") - canary);
  scenario.plan.replace(scenario.plan.find("seconds = 5"), 11, "seconds = 3000");
  scenario.plan = "shut_down_guests = true\nparallel = 2\nfailures = 1\n" + scenario.plan;
  scenario.faults.never_returns = "h1";
  scenario.memory_gib = 8;
  scenario.cluster = make_cluster(scenario);
  scenario.cluster->hosts.at("h2").memory_gib = 16;
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 quarantined", "h2 done version 2"});
  EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text << end.left_over;
}

}  // namespace
}  // namespace sluice::patch::sim
