// Whole patch runs in simulation: the real driver, fold and SQLite journal; simulated agents.
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <set>

#include "control/store/sqlite_journal.h"
#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

TEST(PatchRun, PatchesEveryHostAndBringsEveryGuestHome) {
  const End end = run_to_end({});
  EXPECT_NE(end.text.find("run done"), std::string::npos) << end.text;
  for (int h = 1; h <= 4; ++h) {
    const std::string host = fmt::format("h{}", h);
    expect_hosts(end, {host + " done version 2 up true cordoned false quarantined false"});
    EXPECT_EQ(end.cluster.hook_runs.at("patch@" + host), 1U);
    EXPECT_EQ(end.cluster.hook_runs.at("unsilence@" + host), 1U);
    EXPECT_EQ(end.cluster.reboots.at(host), 1U);
  }
  for (int g = 1; g <= 8; ++g) {
    const std::string name = fmt::format("g{}", g);
    EXPECT_EQ(end.cluster.guests.at(name).host, home_of(name));
    EXPECT_EQ(end.cluster.migrations.at(name), 2U);
  }
  EXPECT_EQ(end.cluster.guests.size(), 8U) << "a canary was left behind";
}

TEST(PatchRun, GuestsThatMustNotMoveLiveAreShutDownAndStartedAgain) {
  Scenario scenario;
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2 up true cordoned false"});
  EXPECT_EQ(end.cluster.guests.at("g1").host, "h1");
  EXPECT_EQ(end.cluster.migrations.count("g1"), 0U);
}

TEST(PatchRun, APathThatWasNarrowBeforeIsNotThePatchsDoing) {
  Scenario scenario;
  scenario.faults.narrow_always = "h2";
  expect_hosts(run_to_end(scenario), {"run done\n", "h2 done version 2 up true cordoned false"});
}

// It crashes, or somebody reboots it, while the run is paused.
TEST(PatchRun, ABootThatCameBeforeThePatchIsNoneAfterIt) {
  for (const bool needed : {true, false}) {
    Scenario scenario;
    if (!needed) scenario.plan += "[reboot]\nneeded = false\n";
    scenario.commands = [](Driver& driver, Cluster& cluster) {
      const HostState state = driver.run().host("h1").state;
      SimHost& host = cluster.hosts.at("h1");
      if (host.boot == 1 && state == HostState::kDraining &&
          driver.run().state() == RunState::kRunning)
        return driver.command(RunEvent::kPause, "told to", "", cluster.now_ms()).has_value();
      if (driver.run().state() != RunState::kPaused || state != HostState::kEmpty) return false;
      host.boot = 2;
      return driver.command(RunEvent::kResume, "told to", "", cluster.now_ms()).has_value();
    };
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run done\n", "h1 done version 2", "h4 done version 2"});
    EXPECT_EQ(end.cluster.reboots.count("h1"), needed ? 1U : 0U) << end.text;
  }
}

TEST(PatchRun, AHostThatDidNotHearThatItIsToRebootIsToldAgain) {
  Scenario scenario;
  scenario.faults.unheard_reboot_of = "h1";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2"});
  EXPECT_EQ(end.cluster.reboots.at("h1"), 1U);
}

// An idempotent one is run again on a host that has crashed in its middle: in which boot, nobody
// knows.
TEST(PatchRun, ABootInTheMiddleOfAPatchIsNoneAfterIt) {
  Scenario scenario;
  scenario.faults.patch_reboots = "h1";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2"});
  EXPECT_EQ(end.cluster.reboots.count("h1"), 1U) << end.text;
}

// And a plan that has nothing to do there but to patch it.
Scenario with_h1_empty() {
  Scenario scenario;
  scenario.plan = "name = 'one'\nhosts = ['h1']\nhooks.patch = 'patch'\n";
  scenario.cluster = make_cluster(scenario);
  for (const char* guest : {"g1", "g5"}) scenario.cluster->guests.at(guest).host = "h2";
  return scenario;
}

// Somebody, or another run, has sent it there before the host's turn came.
TEST(PatchRun, AGuestOnItsWayToAHostIsAwaitedBeforeItsPatch) {
  Scenario scenario = with_h1_empty();
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    if (cluster.guests.count("g9") != 0) return;
    EXPECT_EQ(run.host("h1").state, HostState::kPrecheck);
    cluster.guests["g9"] = {"h3", 1};
    cluster.move_by_hand("g9", "h1", 300'000);
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2"});
  EXPECT_GE(end.cluster.migrations.at("g9"), 1U) << "it was not moved on";
}

// Its agent takes guests until it hears of the cordon, and has just said that it has none.
TEST(PatchRun, AnEmptyHostIsPatchedWhenItsAgentHasHeardOfItsCordonAndHasNoneStill) {
  Scenario scenario = with_h1_empty();
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    if (cluster.guests.count("g9") == 0 && run.host("h1").cordoned_here) {
      EXPECT_EQ(cluster.hook_runs.count("patch@h1"), 0U) << "nobody can know that it is empty";
      cluster.guests["g9"] = {"h1", 1};
    }
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2"});
  EXPECT_GE(end.cluster.migrations.at("g9"), 1U);
}

void start_by_hand(Cluster& cluster, const std::string& guest) {
  const auto stopped = cluster.stopped.find(guest);
  if (stopped == cluster.stopped.end()) return;
  cluster.guests.emplace(*stopped);
  cluster.stopped.erase(stopped);
}

TEST(PatchRun, AGuestThatSomebodyStartsAgainIsShutDownAgainAndThenLeftAlone) {
  for (const int starts : {1, 100}) {
    Scenario scenario;
    scenario.policies = {{"g1", GuestPolicy::kShutdown}};
    int left = starts;
    scenario.by_hand = [&left](const patch::Run& run, Cluster& cluster) {
      if (run.host("h1").state != HostState::kDraining || cluster.stopped.empty()) return;
      if (left-- > 0) start_by_hand(cluster, "g1");
    };
    // Until then its agent has not heard of the cordon, and nobody takes the host for empty.
    scenario.known = [&left](Facts& facts) {
      if (left > 0) facts.hosts.at("h1").told_out_of_service = false;
    };
    const End end = run_to_end(scenario);
    if (starts == 1) {
      expect_hosts(end, {"run done\n", "h1 done version 2"});
    } else {
      expect_hosts(end,
                   {"h1 skipped version 1 up true cordoned false quarantined false g1 was shut "
                    "down 3 times, and somebody started it again"});
    }
    EXPECT_EQ(end.cluster.guests.count("g1"), 1U);
  }
}

TEST(PatchRun, GuestsThatWereShutDownRunAgainAfterARollback) {
  // Found before they were started on the patched host, and afterwards.
  for (const bool under_load : {false, true}) {
    Scenario scenario;
    scenario.policies = {{"g2", GuestPolicy::kShutdown}};
    (under_load ? scenario.faults.slow_after_patch : scenario.faults.bad_version_on) = "h2";
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run paused\n", "h1 done version 2", "h2 done-old version 1"});
    EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text;
  }
}

TEST(PatchRun, AFailedMigrationIsTriedAgain) {
  Scenario scenario;
  scenario.faults.migration_failures = {{"g1", 2}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2 up true cordoned false"});
}

TEST(Quarantine, GuestsThatWereShutDownThereRunElsewhere) {
  for (const bool has_room : {true, false}) {
    Scenario scenario;
    scenario.policies = {{"g2", GuestPolicy::kShutdown}, {"g6", GuestPolicy::kShutdown}};
    scenario.faults.never_returns = "h2";
    scenario.faults.start_failures = {{"g2", 1}};
    // Three hosts with room for four guests each or for the two that each has.
    scenario.memory_gib = has_room ? 16 : 8;
    scenario.plan.replace(scenario.plan.find("\"h1\", "), 6, "");
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run paused\n", "h2 quarantined"});
    EXPECT_EQ(end.cluster.guests.size(), has_room ? 8U : 6U) << end.text;
    for (const char* line : {"g2 is down, and no other host took it", "g6 is down"})
      EXPECT_EQ(end.left_over.find(line) == std::string::npos, has_room) << end.left_over;
  }
}

TEST(Drain, StartsGuestsElsewhereThatItHasShutDown) {
  Scenario scenario;
  scenario.plan = "name = 'drain'\nhosts = ['h1']\ndrain_only = true\n";
  scenario.policies = {{"g1", GuestPolicy::kShutdown}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 1 up true cordoned true"});
  EXPECT_EQ(end.cluster.guests.size(), 8U);
  EXPECT_NE(end.cluster.guests.at("g1").host, "h1");
}

// What a guest needs is remembered with its stop, since nobody can be asked afterwards.
TEST(Drain, StartsNoGuestOnAnOlderCpuNorWhereItCouldNotComeBackFrom) {
  for (const std::uint32_t level : {4U, 3U}) {
    Scenario scenario;
    scenario.plan = "name = 'drain'\nhosts = ['h2']\ndrain_only = true\n";
    scenario.policies = {{"g2", GuestPolicy::kShutdown}};
    scenario.cluster = make_cluster(scenario);
    for (const char* host : {"h2", "h4"}) scenario.cluster->hosts.at(host).cpu_level = level;
    for (const char* host : {"h1", "h3"}) scenario.cluster->hosts.at(host).cpu_level = 7 - level;
    scenario.cluster->guests.at("g2").cpu_level = level;
    scenario.cluster->guests.at("g2").cpu_level_from_host = true;
    std::size_t seen_down = 0;
    scenario.by_hand = [&](const patch::Run& run, const Cluster&) {
      for (const DownGuest& guest : run.down_guests()) {
        ++seen_down;
        EXPECT_EQ(guest.cpu_level, level);
        EXPECT_TRUE(guest.cpu_level_from_host);
      }
    };
    const End end = run_to_end(scenario);
    EXPECT_GT(seen_down, 0U);
    ASSERT_EQ(end.cluster.guests.count("g2"), 1U) << end.text;
    EXPECT_EQ(end.cluster.guests.at("g2").host, "h4") << "of level " << level;
  }
}

TEST(Quarantine, AHostThatIsMendedLeavesItWhileTheRunGoesOn) {
  Scenario scenario;
  scenario.plan = "failures = 1\n" + scenario.plan;
  scenario.faults.never_returns = "h2";
  std::string paused_because;
  scenario.commands = [&paused_because](Driver& driver, Cluster& cluster) {
    if (driver.run().state() != RunState::kPaused) return false;
    paused_because = driver.run().reason();
    EXPECT_EQ(driver.run().host("h2").state, HostState::kQuarantined);
    EXPECT_EQ(driver.mended("h1", "", cluster.now_ms()).error().kind, ErrorKind::kInvalid);
    cluster.hosts.at("h2").up = true;
    EXPECT_TRUE(driver.mended("h2", "", cluster.now_ms()));
    EXPECT_EQ(driver.mended("h2", "", cluster.now_ms()).error().kind, ErrorKind::kInvalid);
    EXPECT_TRUE(driver.command(RunEvent::kResume, "h2 is mended", "", cluster.now_ms()));
    return true;
  };
  const End end = run_to_end(scenario);
  EXPECT_NE(paused_because.find("in quarantine"), std::string::npos) << paused_because;
  expect_hosts(end, {"run done\n", "h1 done",
                     "h2 quarantined version 2 up true cordoned false "
                     "quarantined false it did not come back",
                     "h3 done", "h4 done"});
  EXPECT_FALSE(end.cluster.hosts.at("h2").quarantined);
}

TEST(PatchRun, OthersMoveInThePauseAfterAFailedAttempt) {
  Scenario scenario;
  scenario.faults.migration_failures = {{"g1", 1}};
  scenario.cluster = make_cluster(scenario);
  scenario.cluster->guests.at("g1").memory_gib = 8;  // it goes first
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n"});
  const auto& attempts_ms = end.cluster.attempts_ms;
  EXPECT_LT(attempts_ms.at("g1").at(0), attempts_ms.at("g5").at(0));
  EXPECT_LT(attempts_ms.at("g5").at(0), attempts_ms.at("g1").at(1));
}

TEST(PatchRun, PausesBetweenTheAttemptsOfAMove) {
  constexpr TimeMs kMoveMs = 16'000;
  Scenario scenario;
  scenario.plan = "attempts = 7\n" + scenario.plan;
  scenario.faults.migration_failures = {{"g1", 6}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2 up true cordoned false"});
  const auto& begun_ms = end.cluster.attempts_ms.at("g1");
  ASSERT_GE(begun_ms.size(), 7U);
  const std::vector<TimeMs> pauses_ms = {5'000, 10'000, 20'000, 40'000, 60'000, 60'000};
  for (std::size_t i = 0; i < pauses_ms.size(); ++i) {
    const TimeMs pause_ms = begun_ms[i + 1] - begun_ms[i] - kMoveMs;
    EXPECT_GE(pause_ms, pauses_ms[i]) << "after attempt " << i + 1;
    // A controller looks around once a second, and another guest may be on the link.
    EXPECT_LE(pause_ms, pauses_ms[i] + kMoveMs + 1000) << "after attempt " << i + 1;
  }
}

TEST(TimeLimits, AHookTakesNothingOfTheTimeToComeBack) {
  Scenario scenario;
  scenario.durations.hook_ms = {{"rollback", 1'000'000}, {"after", 1'000'000}};
  scenario.plan = "failures = 1\n" + scenario.plan;
  scenario.plan.replace(scenario.plan.find("rollback ="), 0, "after = \"after\"\n");
  scenario.faults.bad_version_on = "h2";
  // For a moment, when it has just been patched and verified for longer than a reboot may take.
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    SimHost& host = cluster.hosts.at("h1");
    const bool verified = cluster.hook_runs.count("after@h1") != 0 &&
                          run.host("h1").state == HostState::kVerifying &&
                          cluster.now_ms() > run.host("h1").entered_ms + 995'000;
    if (!verified || host.deaf_until_ms != 0) return;
    cluster.deafen("h1", 20'000);
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h1 done version 2", "h2 done-old version 1", "h3 done", "h4 done"});
}

TEST(TimeLimits, AGateBeginsWhenItsStepIsFull) {
  constexpr TimeMs kMoveMs = 16'000;
  Scenario scenario;
  scenario.plan += "[refill]\npercent = [50, 100]\ngate_s = 100\n";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n"});
  const auto& one_ms = end.cluster.attempts_ms.at("g1");
  const auto& other_ms = end.cluster.attempts_ms.at("g5");
  EXPECT_GE(std::abs(one_ms[1] - other_ms[1]), kMoveMs + 100'000);
}

TEST(PatchRun, AnAgentMaySayNothingForAMoment) {
  for (const TimeMs silence_ms : {20'000, 100'000}) {
    Scenario scenario;
    scenario.by_hand = [silence_ms](const patch::Run& run, Cluster& cluster) {
      SimHost& host = cluster.hosts.at("h2");
      if (run.host("h1").state != HostState::kSoak || host.deaf_until_ms != 0) return;
      cluster.deafen("h2", silence_ms);
    };
    const End end = run_to_end(scenario);
    expect_hosts(end, {silence_ms < 30'000 ? "h2 done version 2"
                                           : "h2 skipped version 1 up true cordoned false "
                                             "quarantined false its agent does not answer"});
  }
}

TEST(PatchRun, AHostThatCannotBeEmptiedIsGivenBack) {
  Scenario scenario;
  scenario.faults.migration_failures = {{"g1", 100}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\n", "h1 skipped version 1 up true cordoned false", "h2 pending"});
  EXPECT_EQ(end.cluster.hook_runs.count("patch@h1"), 0U);
  EXPECT_EQ(end.cluster.hook_runs.at("unsilence@h1"), 1U);
}

TEST(PatchRun, AGuestThatMustNeverMoveAndComesLateFailsTheDrain) {
  for (const HostState state : {HostState::kCordoned, HostState::kDraining}) {
    Scenario scenario;
    scenario.by_hand = [state](const patch::Run& run, Cluster& cluster) {
      if (run.host("h1").state == state)
        cluster.guests.try_emplace("g9", SimGuest{"h1", 1, GuestPolicy::kNever});
    };
    const End end = run_to_end(scenario);
    expect_hosts(end, {"h1 skipped version 1 up true cordoned false quarantined false g9 must "
                       "never be moved"});
    EXPECT_EQ(end.cluster.migrations.count("g9"), 0U);
    EXPECT_EQ(end.cluster.guests.at("g9").host, "h1");
    EXPECT_EQ(end.cluster.reboots.count("h1"), 0U);
  }
}

TEST(PatchRun, AGuestThatGetsItsPolicyWhileItIsAwayIsNotMovedHome) {
  Scenario scenario;
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    if (run.host("h1").state == HostState::kPatching)
      cluster.guests.at("g1").policy = GuestPolicy::kNever;
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h1 done version 2"});
  EXPECT_EQ(end.cluster.migrations.at("g1"), 1U);
}

std::uint32_t moves_of(const Cluster& cluster) {
  std::uint32_t moves = 0;
  for (const auto& [guest, times] : cluster.migrations) {
    if (!guest.starts_with("canary")) moves += times;
  }
  return moves;
}

// With g1 nowhere and the agent that it was sent to silent for good.
TEST(LostGuest, FailsTheHostThatItLeftAndIsNotTouchedAgain) {
  const End end = run_to_end(with_a_lost_guest());
  expect_hosts(end, {"run paused\nh1 skipped version 1 up true cordoned false quarantined false "
                     "where g1 runs is not known",
                     "h3 pending", "h4 pending"});
  EXPECT_EQ(end.cluster.guests.at("g1").host, "");
  EXPECT_EQ(end.cluster.hook_runs.count("patch@h1"), 0U);
}

TEST(LostGuest, LetsTheRunGoOnAroundBothHostsWithinItsBudget) {
  for (const bool rolls : {false, true}) {
    Scenario scenario = with_a_lost_guest();
    if (rolls) scenario.plan = rolling().plan;
    scenario.plan = "failures = 2\n" + scenario.plan;
    const End end = run_to_end(scenario);
    // The agent that it was sent to is the one that is down.
    int skipped = 0;
    int patched = 0;
    for (int h = 1; h <= 4; ++h) {
      const std::string host = fmt::format("\nh{} ", h);
      skipped += end.text.find(host + "skipped") != std::string::npos ? 1 : 0;
      patched += end.text.find(host + "done version 2 up true") != std::string::npos ? 1 : 0;
    }
    EXPECT_EQ(skipped, 2) << end.text;
    EXPECT_EQ(patched, 2) << end.text;
    EXPECT_NE(end.text.find("run done"), std::string::npos) << end.text;
    EXPECT_EQ(end.cluster.guests.at("g1").host, "");
  }
}

TEST(SilentHost, IsGivenBackAndNothingIsMovedFromIt) {
  for (const bool rolls : {false, true}) {
    Scenario scenario = rolls ? rolling() : Scenario();
    scenario.faults.silent_after_first_move_from = "h1";
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run paused\nh1 skipped version 1 up false cordoned false quarantined false "
                       "its agent stopped answering"});
    EXPECT_EQ(moves_of(end.cluster), 1U) << end.text;
  }
}

TEST(LostGuest, OnItsWayHomeLeavesTheHostToAPerson) {
  Scenario scenario;
  scenario.faults.lost_on = "refill:g1";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h1 quarantined version 2"});
  EXPECT_EQ(end.cluster.hook_runs.count("rollback@h1"), 0U);
}

TEST(RollingRefill, MovesMostGuestsOnceAndLeavesTheLastHostEmpty) {
  const End end = run_to_end(rolling());
  for (int h = 1; h <= 4; ++h) {
    expect_hosts(end, {fmt::format("h{} done version 2 up true cordoned false", h)});
    EXPECT_EQ(end.cluster.hook_runs.at(fmt::format("patch@h{}", h)), 1U);
  }
  // Two guests a host: those of the first host move twice, or those that they met.
  EXPECT_EQ(end.cluster.guests.size(), 8U);
  EXPECT_EQ(moves_of(end.cluster), 10U) << end.text;
  for (const auto& [name, guest] : end.cluster.guests) EXPECT_NE(guest.host, "h4") << name;
}

TEST(RollingRefill, WithGuestsThatAreShutDown) {
  Scenario scenario = rolling();
  scenario.policies = {{"g1", GuestPolicy::kShutdown}, {"g4", GuestPolicy::kShutdown}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done", "h4 done"});
  EXPECT_EQ(end.cluster.guests.at("g1").host, "h1");
  EXPECT_EQ(end.cluster.guests.at("g4").host, "h4");
}

TEST(RollingRefill, GivesGuestsBackWhereNobodyElseHasRoom) {
  // One host's worth of room in all.
  Scenario scenario = rolling();
  scenario.memory_gib = 12;
  scenario.faults.slow_after_patch = "h2";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\n", "h1 done version 2", "h2 done-old version 1", "h3 draining",
                     "h4 pending"});
  EXPECT_EQ(end.cluster.guests.size(), 8U);
}

TEST(RollingRefill, AsManyHostsAsTheClusterCanDoWithout) {
  Scenario scenario = rolling();
  scenario.plan = "parallel = 0\n" + scenario.plan;
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done", "h2 done", "h3 done", "h4 done"});
  EXPECT_LE(moves_of(end.cluster), 10U);
}

struct BadPatch {
  const char* name;
  Faults faults;
  const char* end_of_h2;
};

void PrintTo(const BadPatch& kind, std::ostream* out) { *out << kind.name; }

class BadPatchTest : public testing::TestWithParam<BadPatch> {};

TEST_P(BadPatchTest, StaysOnOneHostAndStopsTheRun) {
  Scenario scenario;
  scenario.faults = GetParam().faults;
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\n", "h1 done version 2", std::string("h2 ") + GetParam().end_of_h2,
                     "h3 pending", "h4 pending"});
  EXPECT_EQ(end.cluster.guests.size(), 8U);
  for (const auto& [name, guest] : end.cluster.guests)
    EXPECT_TRUE(end.cluster.hosts.at(guest.host).up) << name << " is on " << guest.host;
}

TEST_P(BadPatchTest, LetsTheRunGoOnWithinItsBudget) {
  Scenario scenario;
  scenario.faults = GetParam().faults;
  scenario.plan = "failures = 1\nparallel = 2\n" + scenario.plan;
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n", "h1 done version 2", std::string("h2 ") + GetParam().end_of_h2,
                     "h3 done version 2", "h4 done version 2"});
}

TEST_P(BadPatchTest, OfARollingRefillStaysOnOneHostAndStopsTheRun) {
  Scenario scenario = rolling();
  scenario.faults = GetParam().faults;
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\n", "h1 done version 2", std::string("h2 ") + GetParam().end_of_h2,
                     " version 1 up true", "h4 pending"});
  EXPECT_EQ(end.cluster.hook_runs.count("patch@h3"), 0U);
  EXPECT_EQ(end.cluster.guests.size(), 8U);
  for (const auto& [name, guest] : end.cluster.guests)
    EXPECT_TRUE(guest.host != "h2" || end.text.find("h2 done-old") != std::string::npos) << name;
}

TEST_P(BadPatchTest, OfARollingRefillLetsTheRunGoOnWithinItsBudget) {
  for (const char* const parallel : {"1", "2", "0"}) {
    Scenario scenario = rolling();
    scenario.faults = GetParam().faults;
    const bool stays_out = std::string(GetParam().end_of_h2).starts_with("quarantined");
    // A host in quarantine is all that may be out of service.
    if (stays_out && std::string(parallel) == "1") continue;
    // All guests fit the first host, so that nobody ever comes to h2.
    const Faults& faults = scenario.faults;
    const bool shows_by_guests =
        !(faults.slow_after_patch + faults.stands_long_after_patch + faults.lossy_after_patch)
             .empty();
    if (shows_by_guests && std::string(parallel) == "0") continue;
    scenario.plan = fmt::format("failures = 1\nparallel = {}\n", parallel) + scenario.plan;
    const End end = run_to_end(scenario);
    expect_hosts(end, {"run done\n", "h1 done version 2", std::string("h2 ") + GetParam().end_of_h2,
                       "h3 done version 2", "h4 done version 2"});
  }
}

// Who was started on all of its CPU cannot come back to less of it.
TEST(MixedCluster, AHostThatComesBackWithLessOfItsCpuIsRolledBackBeforeGuestsMissIt) {
  for (const bool needs_it : {true, false}) {
    Scenario scenario;
    scenario.faults.older_cpu_after_patch = "h2";
    scenario.by_hand = [needs_it](const patch::Run&, Cluster& cluster) {
      cluster.guests.at("g2").cpu_level = needs_it ? 4 : 3;
    };
    const End end = run_to_end(scenario);
    expect_hosts(end, {needs_it ? "h2 done-old version 1 up true cordoned false quarantined false "
                                  "its CPU is of level x86-64-v3, it was v4: g2 was started on v4 "
                                  "and cannot come home"
                                : "h2 done version 2"});
    EXPECT_EQ(end.cluster.guests.size(), 8U);
  }
}

// What the plan says that it does not want compared is not.
TEST(BadPatch, IsNotSeenByWhatThePlanSwitchesOff) {
  const std::vector<std::pair<Faults, const char*>> kinds = {
      {{.stands_long_after_patch = "h2"}, "downtime_ratio_max = 0"},
      {{.lossy_after_patch = "h2"}, "loss_max = 0.06"},
      {{.busy_after_patch = "h2"}, "steal_max = 1"},
      {{.narrow_after_patch = "h2"}, "[expect]"}};
  for (const auto& [faults, key] : kinds) {
    Scenario scenario;
    scenario.faults = faults;
    if (std::string(key) == "[expect]") {
      const auto at = scenario.plan.find("version = \"2\"");
      scenario.plan.insert(at, "paths = false\n");
    } else {
      scenario.plan += std::string(key) + "\n";
    }
    expect_hosts(run_to_end(scenario), {"run done\n", "h2 done version 2"});
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BadPatchTest,
    testing::Values(
        BadPatch{"version", {.bad_version_on = "h2"}, "done-old version 1 up true cordoned false"},
        BadPatch{"gone", {.never_returns = "h2"}, "quarantined version 2 up false"},
        BadPatch{"canary", {.bad_canary_on = "h2"}, "done-old version 1 up true cordoned false"},
        BadPatch{"slow", {.slow_after_patch = "h2"}, "done-old version 1 up true cordoned false"},
        BadPatch{"long_downtime",
                 {.stands_long_after_patch = "h2"},
                 "done-old version 1 up true cordoned false quarantined false guests that move to "
                 "it stand still for 100.0 ms, before the patch it was 10.0 ms, the plan allows "
                 "5.0 times as long"},
        BadPatch{"lossy",
                 {.lossy_after_patch = "h2"},
                 "done-old version 1 up true cordoned false quarantined false 5.0 % of the frames "
                 "of migrations to it are lost, before the patch it was 0.0 %, the plan allows 1.0 "
                 "% more"},
        BadPatch{"busy",
                 {.busy_after_patch = "h2"},
                 "done-old version 1 up true cordoned false quarantined false its guests wait for "
                 "a core 45 % of the time that they want one, before the patch it was 10 %, the "
                 "plan allows 20 % more"},
        BadPatch{"narrow",
                 {.narrow_after_patch = "h2"},
                 "done-old version 1 up true cordoned false quarantined false configured 9000, "
                 "largest frame that reaches h1 is 1500: check the switch ports"},
        BadPatch{"kernel",
                 {.other_kernel_after_patch = "h2"},
                 "done-old version 1 up true cordoned false quarantined false its kernel is 6.2, "
                 "expected 6.1"},
        BadPatch{"version_stays",
                 {.bad_canary_on = "h2", .rollback_undoes_nothing_on = "h2"},
                 "quarantined version 2 up true cordoned"},
        BadPatch{"kernel_stays",
                 {.other_kernel_for_good = "h2"},
                 "quarantined version 1 up true cordoned"},
        BadPatch{
            "narrow_stays", {.narrow_for_good = "h2"}, "quarantined version 1 up true cordoned"},
        BadPatch{"hook",
                 {.patch_hook_fails_on = "h2"},
                 "done-old version 1 up true cordoned false quarantined false hook patch failed: "
                 "exit status 1: no space left\n"},
        BadPatch{"rollback",
                 {.bad_version_on = "h2", .rollback_fails_on = "h2"},
                 "quarantined version 1 up true cordoned"}),
    [](const auto& kind) { return std::string(kind.param.name); });

TEST(BadPatch, WithoutARollbackHookEndsInQuarantine) {
  Scenario scenario;
  scenario.faults.bad_canary_on = "h2";
  scenario.plan.erase(scenario.plan.find("rollback ="), 22);
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\n", "h1 done version 2", "h2 quarantined version 2 up true"});
  EXPECT_EQ(end.cluster.hook_runs.count("rollback@h2"), 0U);
  EXPECT_EQ(end.cluster.reboots.at("h2"), 1U) << "it was rebooted for a rollback that is none";
  EXPECT_EQ(end.cluster.guests.size(), 8U);
  for (const auto& [name, guest] : end.cluster.guests) EXPECT_NE(guest.host, "h2") << name;
}

// Members of the group that are on their way, by any of the runs.
std::size_t moving_of(const std::vector<std::unique_ptr<Driver>>& drivers,
                      const std::set<std::string>& members) {
  std::size_t moving = 0;
  for (const auto& driver : drivers) {
    for (const Move& move : driver->run().moves_under_way()) moving += members.count(move.guest);
  }
  return moving;
}

TEST(SeveralRuns, KeepADisruptionBudgetTogether) {
  const std::string path = journal_path();
  {
    auto journal = store::SqliteJournal::open(path);
    ASSERT_TRUE(journal);
    Cluster cluster = make_cluster({});
    cluster.groups = {{.name = "db", .moving_max = 1}};
    // Two on each host that is drained, so that each run has to wait for itself and for the other.
    const std::set<std::string> members = {"g1", "g5", "g2", "g6"};
    for (const auto& member : members) cluster.groups_of[member] = {0};
    const auto epoch = (*journal)->take_lease("c", cluster.now_ms(), kLeaseMs);
    ASSERT_TRUE(epoch);
    ClusterActions actions(cluster, *epoch);
    std::vector<std::unique_ptr<Driver>> drivers;
    std::vector<const patch::Run*> runs;
    std::vector<Outcome> heard;
    cluster.listen([&heard](const Outcome& outcome) { heard.push_back(outcome); });
    for (const char* host : {"h1", "h2"}) {
      const std::string plan =
          fmt::format("name = 'drain'\nhosts = ['{}']\ndrain_only = true\n", host);
      auto driver = Driver::create(**journal, *epoch, std::string("drain-") + host, Created{plan},
                                   actions, cluster.now_ms());
      ASSERT_TRUE(driver) << driver.error().message;
      drivers.push_back(std::make_unique<Driver>(std::move(*driver)));
      runs.push_back(&drivers.back()->run());
    }
    const TimeMs limit_ms = cluster.now_ms() + 600'000;
    std::size_t most = 0;
    const auto active = [](const auto& driver) { return !is_final(driver->run().state()); };
    while (std::any_of(drivers.begin(), drivers.end(), active)) {
      for (const auto& driver : drivers) {
        Facts facts = cluster.facts();
        note_moves(facts, driver->run().id(), runs, {});
        for (const auto* run : runs) {
          for (const auto& mark : run->marks()) {
            facts.hosts.at(mark.host).cordoned_by = run->id();
            facts.hosts.at(mark.host).told_out_of_service = true;
          }
        }
        ASSERT_TRUE(driver->step(facts, make_mover(cluster)));
        most = std::max(most, moving_of(drivers, members));
      }
      ASSERT_TRUE(cluster.advance(limit_ms)) << describe(*runs[0], cluster);
      for (const auto& outcome : std::exchange(heard, {})) {
        for (const auto& driver : drivers) {
          const auto guest = driver->run().task(outcome.id);
          if (guest.intent == nullptr || guest.outcome != nullptr) continue;
          // Ids are of a run: the end is that of the guest that has arrived.
          if (cluster.guests.at(guest.intent->guest).host != guest.intent->to) continue;
          ASSERT_TRUE(driver->finish(outcome, cluster.now_ms()));
          break;
        }
      }
    }
    EXPECT_EQ(most, 1U);
    EXPECT_TRUE(cluster.violations.empty());
    for (const auto& [name, guest] : cluster.guests)
      EXPECT_TRUE(guest.host == "h3" || guest.host == "h4") << name << " is on " << guest.host;
  }
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
}

TEST(Lease, AnOldControllerIsRefusedByJournalAndAgents) {
  const std::string path = journal_path();
  {
    auto journal = store::SqliteJournal::open(path);
    ASSERT_TRUE(journal);
    Cluster cluster = make_cluster({});
    const auto first = (*journal)->take_lease("a", cluster.now_ms(), kLeaseMs);
    ASSERT_TRUE(first);
    ASSERT_FALSE((*journal)->take_lease("b", cluster.now_ms(), kLeaseMs));
    ClusterActions old_actions(cluster, *first);
    auto old =
        Driver::create(**journal, *first, "r1", Created{kPlan}, old_actions, cluster.now_ms());
    ASSERT_TRUE(old);

    const auto second = (*journal)->take_lease("b", cluster.now_ms() + kLeaseMs, kLeaseMs);
    ASSERT_TRUE(second);
    ASSERT_GT(*second, *first);
    EXPECT_EQ(old->command(RunEvent::kAbort, "", "", cluster.now_ms()).error().kind,
              ErrorKind::kPermission);
    EXPECT_FALSE((*journal)->renew_lease(*first, cluster.now_ms(), kLeaseMs));

    const patch::Run run("r1");
    Intent intent{1, ActionKind::kHook, "patch", "h1"};
    ASSERT_TRUE(cluster.begin(*second, run, intent, false));
    EXPECT_FALSE(cluster.begin(*first, run, {2, ActionKind::kHook, "patch", "h1"}, false));
  }
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
}

}  // namespace
}  // namespace sluice::patch::sim
