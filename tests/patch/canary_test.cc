// The canary of each patched host: where it goes, what its failure means, and that it ends.
#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <iterator>
#include <string>
#include <vector>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

TEST(Canary, IsStoppedAgainUntilItEnds) {
  Scenario scenario;
  scenario.faults.stop_failures = {{"canary-r1-h1", 4}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\nbecause every host went well\n"});
  EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text;
}

// It comes back to h1 or stays on another host, which it keeps from being emptied.
TEST(Canary, ThatNobodyCanStopIsNamedAndNeverRebootedWithItsHost) {
  for (const bool stays_out : {false, true}) {
    Scenario scenario;
    scenario.plan = "failures = 4\nparallel = 2\n" + scenario.plan;
    scenario.faults.stop_failures = {{"canary-r1-h1", 1000}};
    if (stays_out) scenario.faults.moves_back_failures = {"canary-r1-h1"};
    const End end = run_to_end(scenario);
    ASSERT_EQ(end.cluster.guests.count("canary-r1-h1"), 1U) << end.text;
    const std::string& at = end.cluster.guests.at("canary-r1-h1").host;
    EXPECT_EQ(at == "h1", !stays_out);
    expect_hosts(end, {fmt::format("canary-r1-h1 on {} could not be stopped in 8 attempts: QEMU "
                                   "does not answer; `sluice guest stop canary-r1-h1`\nh1",
                                   at),
                       at == "h1" ? "h1 quarantined" : at + " skipped"});
  }
}

std::vector<MoveSeen> moves_of_canary(const End& end, const std::string& host) {
  std::vector<MoveSeen> moves;
  std::copy_if(end.cluster.moves.begin(), end.cluster.moves.end(), std::back_inserter(moves),
               [&](const MoveSeen& move) { return move.guest == "canary-r1-" + host; });
  return moves;
}

// How many guests, but for its canary, came to it with its patch before its canary was back.
std::size_t came_before_its_canary(const End& end, const std::string& host) {
  std::size_t came = 0;
  for (const MoveSeen& move : end.cluster.moves) {
    if (move.to != host || !move.to_patched) continue;
    if (move.guest == "canary-r1-" + host) return came;
    if (!move.guest.starts_with("canary")) ++came;
  }
  return came;
}

// For the first host there is no patched one yet.
TEST(Canary, GoesOutToAPatchedHostAndBackBeforeAnyGuestComes) {
  for (const Scenario& scenario : {Scenario(), rolling()}) {
    const End end = run_to_end(scenario);
    for (int h = 1; h <= 4; ++h) {
      const std::string host = fmt::format("h{}", h);
      const auto moves = moves_of_canary(end, host);
      ASSERT_EQ(moves.size(), 2U) << end.text;
      EXPECT_EQ(moves[0].from, host);
      EXPECT_TRUE(moves[0].from_patched) << host << " was proven before its patch";
      EXPECT_EQ(moves[0].to_patched, h > 1) << host << "'s went to " << moves[0].to;
      EXPECT_EQ(moves[1].from, moves[0].to);
      EXPECT_EQ(moves[1].to, host);
      EXPECT_EQ(came_before_its_canary(end, host), 0U) << host;
    }
  }
}

// h1 could not be emptied, or the plan leaves it out.
TEST(Canary, GoesToAHostThatTheRunHasPatchedRatherThanToAnother) {
  for (const bool takes_part : {true, false}) {
    for (Scenario scenario : {Scenario(), rolling()}) {
      if (takes_part) {
        scenario.faults.migration_failures = {{"g1", 100}};
      } else {
        scenario.plan.replace(scenario.plan.find("\"h1\", "), 6, "");
      }
      scenario.plan = "failures = 1\n" + scenario.plan;
      const End end = run_to_end(scenario);
      expect_hosts(end, {"run done\n", "h2 done", "h3 done", "h4 done"});
      for (const char* host : {"h3", "h4"}) {
        const auto moves = moves_of_canary(end, host);
        ASSERT_EQ(moves.size(), 2U) << end.text;
        EXPECT_TRUE(moves[0].to_patched) << host << "'s went to " << moves[0].to;
      }
    }
  }
}

TEST(Canary, ThatCannotMoveFailsItsHostBeforeAGuestComes) {
  for (const char* purpose : {"canary-out", "canary-in"}) {
    for (Scenario scenario : {Scenario(), rolling()}) {
      const bool returns = std::string(purpose) == "canary-in";
      if (returns) {
        scenario.faults.moves_back_failures = {"canary-r1-h2"};
      } else {
        scenario.faults.migration_failures = {{"canary-r1-h2", 3}};
      }
      const End end = run_to_end(scenario);
      expect_hosts(end, {"run paused\n", "h1 done version 2",
                         fmt::format("h2 done-old version 1 up true cordoned false quarantined "
                                     "false {} failed: the link went quiet",
                                     purpose)});
      EXPECT_EQ(moves_of_canary(end, "h2").size(), returns ? 1U : 0U);
      EXPECT_EQ(came_before_its_canary(end, "h2"), 0U);
      EXPECT_EQ(end.cluster.guests.size(), 8U) << "a canary was left behind";
      EXPECT_EQ(end.cluster.hook_runs.count("patch@h3"), 0U);
    }
  }
}

TEST(Canary, IsMovedAgainWhenItsLinkWasQuietForAMoment) {
  Scenario scenario;
  scenario.faults.migration_failures = {{"canary-r1-h1", 2}};
  const End end = run_to_end(scenario);
  expect_hosts(end, {"because every host went well", "h1 done version 2"});
  EXPECT_EQ(end.cluster.attempts_ms.at("canary-r1-h1").size(), 4U)
      << "out in three attempts, and back";
}

TEST(Canary, IsNotAskedForFromAHostThatIsSilent) {
  constexpr TimeMs kQuietMs = 90'000;
  Scenario scenario;
  TimeMs silent_since_ms = 0;
  scenario.known = [&](Facts& facts) {
    const auto out = facts.guests.find("canary-r1-h1");
    if (out == facts.guests.end() || out->second.host == "h1") return;
    if (silent_since_ms == 0) silent_since_ms = facts.now_ms;
    if (facts.now_ms < silent_since_ms + kQuietMs)
      fall_silent(facts.hosts.at(out->second.host), facts.now_ms - silent_since_ms);
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"because every host went well", "h1 done version 2"});
  ASSERT_NE(silent_since_ms, 0);
  EXPECT_GE(end.cluster.attempts_ms.at("canary-r1-h1").back(), silent_since_ms + kQuietMs);
}

TEST(Canary, IsRefusedWhereNoOtherHostCouldTakeIt) {
  const auto plan = parse_plan(
      "name = 'a'\nhosts = ['h1']\nhooks.patch = 'patch'\ncanary.definition = \"name = 'c'\"\n",
      "plan.toml");
  ASSERT_TRUE(plan) << plan.error().message;
  Cluster cluster;
  for (const char* host : {"h1", "h2"}) cluster.hosts[host] = {};
  Facts facts = cluster.facts();
  for (auto& [name, host] : facts.hosts) host.hooks = {"patch"};
  EXPECT_TRUE(admit(*plan, facts, make_mover(cluster)));
  facts.hosts.at("h2").cordoned_by = "operator";
  const auto refused = admit(*plan, facts, make_mover(cluster));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "a: there is no host in service but h1 that its canary could go to: leave [canary] "
            "out, or uncordon another host");
}

Scenario with_check() {
  Scenario scenario;
  scenario.plan.insert(
      scenario.plan.find("[expect]"),
      "canary_check = { name = \"component\", on = \"controller\", idempotent = true }\n");
  return scenario;
}

// The simulation complains of a hook whose guest is not there.
TEST(Canary, IsCheckedWhenItWasStartedAndBeforeItMoves) {
  Scenario scenario = with_check();
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    for (const Intent* intent : run.open_intents()) {
      if (intent->purpose == "canary-check") {
        EXPECT_EQ(cluster.migrations.count(intent->guest), 0U) << intent->guest;
      }
    }
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run done\n"});
  for (const char* host : {"h1", "h2", "h3", "h4"}) {
    EXPECT_EQ(end.cluster.hook_runs.count(std::string("canary-check@") + host), 1U) << end.text;
    EXPECT_EQ(moves_of_canary(end, host).size(), 2U);
  }
  const auto& told = end.cluster.hook_environments.at("canary-check@h2");
  EXPECT_EQ(told.at("SLUICE_GUEST"), "canary-r1-h2");
  EXPECT_EQ(told.at("SLUICE_HOST"), "h2");
}

TEST(Canary, ThatDoesNotPassItsCheckFailsItsHostAndIsNotMoved) {
  Scenario scenario = with_check();
  scenario.faults.component_fails_for = "canary-r1-h2";
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\n", "h1 done version 2",
                     "h2 done-old version 1 up true cordoned false quarantined false canary-check "
                     "failed: no such package"});
  EXPECT_TRUE(moves_of_canary(end, "h2").empty());
  EXPECT_EQ(came_before_its_canary(end, "h2"), 0U);
  EXPECT_EQ(end.cluster.guests.size(), 8U) << "the canary was left behind";
}

}  // namespace
}  // namespace sluice::patch::sim
