// Runs of plans that ask for more than hosts to be patched: waves, windows, hooks for each guest.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <string>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

// As one patches a component of the guests, too: in two waves.
Scenario with_components() {
  Scenario scenario;
  const std::string hosts = "hosts = [\"h1\", \"h2\", \"h3\", \"h4\"]";
  scenario.plan.replace(scenario.plan.find(hosts), hosts.size(),
                        "waves = [[\"h2\"], [\"h4\", \"h1\", \"h3\"]]\nparallel = 2");
  scenario.plan += R"([hooks.guest_before]
name = "component"
on = "controller"
[hooks.guest_after]
name = "component"
on = "controller"
)";
  return scenario;
}

TEST(GuestHooks, RunOnceForEachGuestAtHomeBeforeAndAfterThePatch) {
  const End end = run_to_end(with_components());
  expect_hosts(end, {"run done"});
  for (int g = 1; g <= 8; ++g) {
    const std::string guest = fmt::format("g{}", g);
    for (const char* when : {"guest-before:", "guest-after:"}) {
      const std::string hook = when + guest + "@" + home_of(guest);
      ASSERT_EQ(end.cluster.hook_runs.count(hook), 1U) << hook << " in\n" << end.text;
      EXPECT_EQ(end.cluster.hook_runs.at(hook), 1U) << hook;
    }
  }
  EXPECT_EQ(end.text.find("canary-"), std::string::npos) << "a canary has no component";
}

// h2 fails when it has guests, and hosts that are done take them.
Scenario rolling_with_components() {
  Scenario scenario = rolling();
  scenario.plan.insert(0, "failures = 1\nparallel = 2\n");
  scenario.faults.slow_after_patch = "h2";
  scenario.plan += "[hooks.guest_after]\nname = \"component\"\non = \"controller\"\n";
  return scenario;
}

// The first one whose hook ran when its host was done already.
std::string latecomer_of(Scenario scenario) {
  std::string latecomer;
  std::map<std::string, std::set<std::string>> looked_after;  // host: when it was done
  scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
    for (const auto& [name, guest] : cluster.guests) {
      const std::string hook = "guest-after:" + name + "@" + guest.host;
      const bool is_done = run.host(guest.host).state == HostState::kDone;
      if (cluster.hook_runs.count(hook) == 0) continue;
      if (!is_done) looked_after[guest.host].insert(name);
      if (is_done && latecomer.empty() && looked_after[guest.host].count(name) == 0)
        latecomer = name;
    }
  };
  expect_hosts(run_to_end(scenario), {"run done\n"});
  return latecomer;
}

// Also for those that come when their host is done already.
TEST(GuestHooks, OfARollingRefillRunOnceWhereEachGuestEnds) {
  const End end = run_to_end(rolling_with_components());
  expect_hosts(end, {"run done\n", "h2 done-old"});
  for (const auto& [name, guest] : end.cluster.guests) {
    if (guest.host == "h2") continue;
    const std::string hook = "guest-after:" + name + "@" + guest.host;
    ASSERT_EQ(end.cluster.hook_runs.count(hook), 1U) << hook << " in\n" << end.text;
    EXPECT_EQ(end.cluster.hook_runs.at(hook), 1U) << hook;
  }
}

TEST(GuestHooks, ThatFailForALatecomerAreNamed) {
  Scenario scenario = rolling_with_components();
  const std::string latecomer = latecomer_of(scenario);
  ASSERT_NE(latecomer, "");
  scenario.faults.component_fails_for = latecomer;
  expect_hosts(run_to_end(scenario), {"run done\n", "hook component failed for " + latecomer});
}

TEST(Hooks, AreToldWhatTheyAreAbout) {
  Scenario scenario = with_components();
  scenario.plan.insert(0, "failures = 1\n");
  scenario.faults.bad_version_on = "h2";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h2 done-old", "h1 done version 2"});
  using Environment = std::map<std::string, std::string>;
  Environment told = {{"SLUICE_RUN", "r1"},
                      {"SLUICE_PLAN", "advisory-17"},
                      {"SLUICE_HOST", "h1"},
                      {"SLUICE_PURPOSE", "version-before"},
                      {"SLUICE_EXPECTED_VERSION", "2"}};
  const auto& environments = end.cluster.hook_environments;
  EXPECT_EQ(environments.at("version-before@h1"), told);
  told["SLUICE_OLD_BOOT_ID"] = "h1-boot-1";
  for (const char* purpose : {"patch", "version-after"}) {
    told["SLUICE_PURPOSE"] = purpose;
    EXPECT_EQ(environments.at(std::string(purpose) + "@h1"), told);
  }
  EXPECT_EQ(environments.at("guest-after:g1@h1").at("SLUICE_GUEST"), "g1");
  EXPECT_EQ(environments.at("unsilence@h1").at("SLUICE_END"), "done");
  EXPECT_EQ(environments.at("unsilence@h2").at("SLUICE_END"), "done-old");
}

TEST(GuestHooks, AFailureBeforeThePatchGivesTheHostBack) {
  Scenario scenario = with_components();
  scenario.faults.component_fails_for = "g2";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused", "h2 skipped version 1 up true cordoned false",
                     "hook component failed for g2: no such package"});
  EXPECT_EQ(end.cluster.hook_runs.count("patch@h2"), 0U);
}

TEST(Waves, BeginWhenTheOneBeforeHasEnded) {
  Scenario scenario = with_components();
  scenario.by_hand = [](const patch::Run& run, Cluster&) {
    const bool first_ended = is_final(run.host("h2").state);
    for (const char* host : {"h1", "h3", "h4"}) {
      EXPECT_TRUE(first_ended || run.host(host).state == HostState::kPending)
          << host << " while h2 is " << to_string(run.host("h2").state);
    }
    if (!first_ended && run.state() == RunState::kRunning && run.begun_ms() != 0) {
      EXPECT_EQ(run.waits_for(run.begun_ms()), run.host("h2").state == HostState::kPending
                                                   ? ""
                                                   : "h4 waits for h2 of the wave before");
    }
  };
  expect_hosts(run_to_end(scenario), {"run done"});
}

TEST(Waves, GoOnAfterAFailureThatThePlanAllows) {
  Scenario scenario = with_components();
  scenario.plan.insert(0, "failures = 1\n");
  scenario.faults.bad_version_on = "h2";
  scenario.faults.rollback_fails_on = "h2";
  expect_hosts(run_to_end(scenario),
               {"run done", "h2 quarantined", "h1 done version 2", "h3 done version 2"});
}

TEST(Waves, OfARollingRefillAlsoEnd) {
  Scenario scenario = with_components();
  scenario.plan += "[refill]\nplacement = \"rolling\"\n";
  expect_hosts(run_to_end(scenario), {"run done", "h1 done version 2", "h4 done version 2"});
}

TEST(GuestsShutDown, AreNotMovedAndRunAgainWhereTheyWere) {
  Scenario scenario;
  scenario.plan.insert(0, "shut_down_guests = true\n");
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done"});
  EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text;
  for (const auto& [guest, about] : end.cluster.guests) {
    EXPECT_EQ(about.host, home_of(guest));
    EXPECT_EQ(end.cluster.migrations.count(guest), 0U) << guest << " was moved";
  }
}

// Its agent stopped it and answered too late: the stop has failed, and only the host can say how.
TEST(GuestsShutDown, RunAgainWhenNobodyHeardThatTheyWereStopped) {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  scenario.faults.unheard_stop_of = "g1";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\nh1 skipped version 1 up true cordoned false"});
  ASSERT_EQ(end.cluster.guests.count("g1"), 1U) << end.text;
  EXPECT_EQ(end.cluster.guests.at("g1").host, "h1");
}

TEST(GuestsShutDown, AreNamedWhileNobodyKnowsWhetherTheyWere) {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  scenario.faults.unheard_stop_of = "g1";
  scenario.faults.unheard_ms = 10 * kHourMs;
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\nh1 skipped version 1 up true cordoned false"});
  EXPECT_EQ(end.cluster.guests.count("g1"), 0U) << "it may run on h1: " << end.text;
  EXPECT_EQ(end.left_over,
            "whether g1 was shut down is not known, since h1 does not answer: deadline exceeded; "
            "see there whether it runs before you start it by hand");
}

// It was not this run that ended it.
TEST(GuestsShutDown, AreLeftToAnOperatorWhoMustDecide) {
  Scenario scenario;
  scenario.plan.insert(0, "failures = 1\n");
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  scenario.faults.waits_for_operator = "g1";
  const std::string host = home_of("g1");
  scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
    if (run.host(host).state != HostState::kSkipped || cluster.guests.count("g1") == 0) return;
    cluster.stopped["g1"] = cluster.guests.at("g1");
    cluster.guests.erase("g1");
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done", host + " skipped"});
  EXPECT_EQ(end.cluster.guests.count("g1"), 0U) << end.text;
  EXPECT_NE(end.text.find("g1 waits for an operator"), std::string::npos) << end.text;
}

TEST(NoReboot, PatchesHostsAsTheyRun) {
  Scenario scenario;
  scenario.plan += "[reboot]\nneeded = false\n";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done", "h1 done version 2", "h4 done version 2"});
  EXPECT_TRUE(end.cluster.reboots.empty()) << end.text;
}

TEST(NoReboot, RollsBackWithoutOneToo) {
  Scenario scenario;
  scenario.plan += "[reboot]\nneeded = false\n";
  scenario.faults.bad_canary_on = "h1";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused", "h1 done-old version 1 up true cordoned false"});
  EXPECT_TRUE(end.cluster.reboots.empty()) << end.text;
}

TEST(NoReboot, AHostThatWasRebootedAllTheSameFails) {
  Scenario scenario;
  scenario.plan += "[reboot]\nneeded = false\n";
  scenario.faults.patch_reboots = "h1";
  expect_hosts(run_to_end(scenario),
               {"run paused",
                "it was rebooted (boot id h1-boot-1 -> h1-boot-2), and the plan says "
                "that its patch needs no reboot"});
}

struct BadUnsilence {
  std::uint32_t failures;
  bool idempotent;
  bool not_begun;
  std::uint32_t runs;
};

// Nobody looks at a host whose monitoring is still silenced.
TEST(Unsilence, IsTriedAgainIfItMayBeAndNamedIfItFailed) {
  const std::vector<BadUnsilence> cases = {
      {3, true, false, 4}, {3, false, true, 4}, {1, false, false, 1}, {100, true, false, 8}};
  for (const BadUnsilence& bad : cases) {
    Scenario scenario;
    scenario.plan.replace(scenario.plan.find(", \"h2\""), 18, "");
    if (bad.idempotent) {
      const std::string name = "name = \"unsilence\"";
      scenario.plan.replace(scenario.plan.find(name), name.size(), name + ", idempotent = true");
    }
    scenario.faults.unsilence_failures = bad.failures;
    scenario.faults.unsilence_not_begun = bad.not_begun;
    const End end = run_to_end(scenario);
    EXPECT_EQ(end.cluster.hook_runs.at("unsilence@h1"), bad.runs);
    const bool told = bad.runs > bad.failures;
    const std::string line = fmt::format(
        "hook unsilence failed for h1{}: exit status 7: does not answer; do by hand "
        "what it was to do",
        bad.runs > 1 ? " in 8 attempts" : "");
    expect_hosts(end, {"run done\nbecause every host went well" + (told ? "" : "; " + line) + "\n",
                       "h1 done version 2 up true cordoned false"});
    EXPECT_EQ(end.left_over, told ? "" : line);
  }
}

// What the hosts of a run were seen to wait for.
std::set<std::string> waits_of(Scenario scenario) {
  std::set<std::string> waits;
  const auto also = scenario.by_hand;
  scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
    if (also) also(run, cluster);
    for (const auto& host : run.plan().hosts)
      waits.insert(host + ": " + run.keeps(host, cluster.facts()));
  };
  expect_hosts(run_to_end(scenario), {"h1 "});
  return waits;
}

void expect_waits(const std::set<std::string>& waits, const std::vector<std::string>& expected) {
  for (const auto& wait : expected) {
    EXPECT_TRUE(waits.count(wait) != 0) << wait << " in\n"
                                        << fmt::format("{}", fmt::join(waits, "\n"));
  }
}

TEST(Waits, OfEveryHostAreTold) {
  Scenario scenario;
  scenario.faults.migration_failures = {{"g1", 2}};
  scenario.faults.unsilence_failures = 1;
  scenario.faults.unsilence_not_begun = true;
  expect_waits(
      waits_of(scenario),
      {"h1: rebooting: 41 of 900 s", "h1: gate before 100 %: 4 of 10 s", "h1: soak: 3 of 5 s",
       "h1: drain:g1 failed and is tried again in 5 s: the link went quiet",
       "h1: unsilence failed and is tried again in 3 s: exit status 7: does not answer",
       "h2: h1 is out of service, and the plan allows 1 at once (parallel)"});
}

TEST(Waits, OfARunThatIsPausedOrHasAHostInQuarantine) {
  Scenario scenario;
  scenario.plan.insert(0, "parallel = 2\nfailures = 1\n");
  scenario.plan += "[reboot]\ntimeout_s = 70\n";
  scenario.faults.never_returns = "h1";
  expect_waits(waits_of(scenario),
               {"h1: rebooting: 69 of 70 s",
                "h4: h1, h3 are out of service, and the plan allows 2 at once (parallel); h1 is in "
                "quarantine: mend it and `sluice uncordon h1`"});
  Scenario paused;
  paused.commands = [](Driver& driver, Cluster& cluster) {
    const bool drains = driver.run().host("h1").state == HostState::kDraining;
    return drains && driver.run().state() == RunState::kRunning &&
           driver.command(RunEvent::kPause, "told to", "", cluster.now_ms()).has_value();
  };
  expect_waits(waits_of(paused), {"h1: not patched while the run is paused"});
}

TEST(Waits, OfARollingRefill) {
  Scenario scenario = rolling();
  scenario.plan.replace(scenario.plan.find("seconds = 5"), 11, "seconds = 60");
  expect_waits(waits_of(scenario),
               {"h1: has 1 of the 2 guests of this step",
                "h2: not patched yet: h1 is patched and not proven (parallel)"});
}

// The simulation's clock begins on Thursday, 1 January 1970, 00:16:40 UTC.
TEST(Windows, HostsBeginInThemAlone) {
  Scenario scenario;
  scenario.plan += "[window]\nfrom = \"00:30\"\nto = \"01:00\"\n";
  std::map<std::string, TimeMs> begun_ms;
  scenario.by_hand = [&](const patch::Run& run, Cluster&) {
    for (const auto& host : run.plan().hosts) {
      if (run.host(host).state != HostState::kPending)
        begun_ms.emplace(host, run.host(host).entered_ms);
    }
    if (begun_ms.empty() && run.state() == RunState::kRunning) {
      EXPECT_EQ(run.waits_for(run.begun_ms()), "the window opens Thu 1970-01-01 00:30 UTC");
    }
  };
  expect_hosts(run_to_end(scenario), {"run done"});
  ASSERT_EQ(begun_ms.size(), 4U);
  for (const auto& [host, at_ms] : begun_ms) {
    EXPECT_GE(at_ms, 30 * 60'000) << host;
    EXPECT_LT(at_ms, 60 * 60'000) << host;
  }
}

// Somebody sets it while a host reboots, by more than a reboot may take; windows alone go by it.
TEST(Windows, GoByTheWallClockAndNoLimitDoes) {
  constexpr TimeMs kAheadMs = 20 * 60'000;
  Scenario scenario;
  scenario.plan += "[window]\nfrom = \"00:30\"\nto = \"06:00\"\n";
  TimeMs begun_ms = 0;
  scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
    if (run.state() == RunState::kRunning) cluster.wall_ahead_ms = kAheadMs;
    if (run.host("h1").state == HostState::kRebooting) cluster.wall_ahead_ms = 2 * kAheadMs;
    if (begun_ms == 0 && run.host("h1").state != HostState::kPending)
      begun_ms = run.host("h1").entered_ms;
  };
  expect_hosts(run_to_end(scenario), {"run done"});
  EXPECT_LT(begun_ms + kAheadMs, 40 * 60'000);
  EXPECT_GT(begun_ms, 0);
}

TEST(Windows, ARunPausesWhenNoneComesAnyMore) {
  Scenario scenario;
  scenario.plan += "[window]\nto = \"00:18\"\nnot_after = 1970-01-01T20:00:00Z\n";
  std::string reason;
  scenario.by_hand = [&reason](const patch::Run& run, Cluster&) { reason = run.reason(); };
  expect_hosts(run_to_end(scenario), {"run paused\nh1 done version 2", "h4 pending"});
  EXPECT_EQ(reason,
            "the window has closed for good with 3 hosts to go: end the run with `sluice "
            "patch abort r1`, and patch them by a new plan");
}

// As KillSweep, of what such a plan does.
TEST(PlanFeatures, TheEndIsTheSameAfterAKillAtAnyRecord) {
  Scenario shut_down;
  shut_down.plan.insert(0, "shut_down_guests = true\n");
  shut_down.plan += "[reboot]\nneeded = false\n";
  for (const Scenario& scenario : {with_components(), shut_down}) {
    const End undisturbed = run_to_end(scenario);
    for (std::uint64_t record = 1; record <= undisturbed.records; ++record) {
      const bool written = record % 2 == 0;
      const End end = run_to_end(scenario, {{record, written}});
      ASSERT_EQ(end.text, undisturbed.text)
          << "killed at record " << record << (written ? "" : ", which was lost");
    }
  }
}

}  // namespace
}  // namespace sluice::patch::sim
