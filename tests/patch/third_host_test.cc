// What others than the host under work do to a run: hosts that fall silent, come back, or are
// another run's.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

// h1 has one guest, and h2 alone has room for one.
Scenario with_room_on_h2_alone(const Faults& faults = {}) {
  Scenario scenario;
  scenario.plan.replace(scenario.plan.find(", \"h2\""), 18, "");
  scenario.plan += "[refill]\npercent = [100]\n";
  Cluster cluster(faults);
  for (const char* host : {"h1", "h2", "h3"}) cluster.hosts[host] = {.memory_gib = 8};
  cluster.guests = {{"g1", {"h1", 4}}, {"g3", {"h3", 8}}};
  scenario.cluster = cluster;
  return scenario;
}

struct Silence {
  HostState since;
  TimeMs lasts_ms;
  const char* end_of_h1;
};

TEST(ThirdHost, ThatIsSilentForAMomentFailsNobody) {
  const std::vector<Silence> silences = {
      {HostState::kCordoned, 5'000, "run done\nbecause every host went well\nh1 done version 2"},
      {HostState::kVerifying, 20'000, "run done\nbecause every host went well\nh1 done version 2"},
      {HostState::kSoak, 15'000,
       "run done\nbecause 1 of 1 hosts failed\nh1 done-old version 1 up true cordoned false"}};
  for (const Silence& silence : silences) {
    Faults faults;
    if (silence.since == HostState::kSoak) faults.busy_after_patch = "h1";
    Scenario scenario = with_room_on_h2_alone(faults);
    scenario.by_hand = [&silence](const patch::Run& run, Cluster& cluster) {
      if (run.host("h1").state == silence.since && cluster.hosts.at("h2").deaf_until_ms == 0)
        cluster.deafen("h2", silence.lasts_ms);
    };
    const End end = run_to_end(scenario);
    expect_hosts(end, {silence.end_of_h1});
    EXPECT_EQ(end.cluster.guests.count("g1"), 1U);
  }
}

TEST(ThirdHost, ThatStaysSilentIsNotWaitedForForEver) {
  Scenario scenario = with_room_on_h2_alone();
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    if (run.host("h1").state == HostState::kCordoned && cluster.hosts.at("h2").deaf_until_ms == 0)
      cluster.deafen("h2", kHourMs);
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h1 skipped version 1 up true cordoned false"});
  EXPECT_LT(end.cluster.now_ms(), 1'200'000);
}

// h3 has room for one of the two guests, h1 for both when it is back.
TEST(ThirdHost, OfTheSameRunThatComesBackIsWaitedFor) {
  Scenario scenario;
  scenario.plan.replace(scenario.plan.find(", \"h3\", \"h4\""), 12, "");
  scenario.plan.insert(0, "parallel = 2\n");
  Cluster cluster;
  for (const char* host : {"h1", "h2", "h3"}) cluster.hosts[host] = {.memory_gib = 8};
  cluster.guests = {{"g1", {"h1", 4}}, {"g2", {"h2", 4}}, {"g3", {"h3", 4}}};
  cluster.hosts.at("h3").memory_gib = 9;
  scenario.cluster = cluster;
  expect_hosts(run_to_end(scenario), {"run done\n", "h1 done version 2", "h2 done version 2"});
}

// h2's guest would go to h1, which has room for it and fails for good.
TEST(ThirdHost, ThatEndsInQuarantineTakesNobodyInThatMoment) {
  for (const char* placement : {"home", "rolling"}) {
    Scenario scenario;
    scenario.plan.replace(scenario.plan.find(", \"h3\", \"h4\""), 12, "");
    scenario.plan.replace(scenario.plan.find("[canary]"), 39, "");
    scenario.plan = "parallel = 2\nfailures = 2\n" + scenario.plan +
                    fmt::format("[refill]\nplacement = \"{}\"\n", placement);
    Cluster cluster({.bad_version_on = "h1", .rollback_fails_on = "h1"});
    for (const char* host : {"h1", "h2", "h3"}) cluster.hosts[host] = {.memory_gib = 8};
    cluster.guests = {{"g2", {"h2", 4}}, {"g3", {"h3", 8}}};
    scenario.cluster = cluster;
    const End end = run_to_end(scenario);
    expect_hosts(end, {"h1 quarantined", "h2 skipped"});
    EXPECT_EQ(end.cluster.guests.at("g2").host, "h2") << placement;
  }
}

TEST(ThirdHost, ThatAnotherRunGivesBackIsWaitedFor) {
  for (const bool returns : {true, false}) {
    Scenario scenario = with_room_on_h2_alone();
    // Longer than anybody waits for nothing.
    scenario.known = [returns](Facts& facts) {
      if (facts.now_ms > 1'200'000) return;
      facts.hosts.at("h2").cordoned_by = "r2";
      facts.hosts.at("h2").returns_to_others = returns;
    };
    expect_hosts(run_to_end(scenario), {returns ? "h1 done version 2" : "h1 skipped"});
  }
}

// The status of an unknown outcome is for a controller that does not answer.
TEST(Admission, OfAHostThatDoesNotAnswerIsRefusedLikeAnyOther) {
  const auto plan = parse_plan("name = 'a'\nhosts = ['h1']\ndrain_only = true\n", "plan.toml");
  ASSERT_TRUE(plan) << plan.error().message;
  Cluster cluster;
  for (const char* host : {"h1", "h2"}) cluster.hosts[host] = {};
  Facts facts = cluster.facts();
  fall_silent(facts.hosts.at("h1"), 1'000);
  const auto refused = admit(*plan, facts, make_mover(cluster));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kFailed);
  EXPECT_EQ(refused.error().message, "a: the agent of h1 does not answer");
}

TEST(ThirdHost, IsKnownToReturnWhenItsRunPatchesIt) {
  const std::vector<Record> records = {
      {1, Created{"name = 'a'\nhosts = ['h1']\nhooks.patch = 'patch'\n"}},
      {1, RunStep{RunEvent::kAdmit, ""}},
      {1, RunStep{RunEvent::kStart, ""}},
      {1, HostStep{"h1", HostEvent::kBegin, ""}},
      {1, HostStep{"h1", HostEvent::kReady, ""}},
      {1, HostStep{"h1", HostEvent::kDrainStarted, ""}},
      {1, HostStep{"h1", HostEvent::kDrained, ""}},
      {1, HostStep{"h1", HostEvent::kPatchStarted, ""}},
  };
  patch::Run other("r2");
  for (const Record& record : records) ASSERT_TRUE(other.apply(record));
  Facts facts;
  facts.hosts["h1"].reachable = true;
  note_moves(facts, "r2", {&other}, {});
  EXPECT_FALSE(facts.hosts.at("h1").returns_to_others) << "it is its own";
  note_moves(facts, "r1", {&other}, {});
  EXPECT_TRUE(facts.hosts.at("h1").returns_to_others);
}

// In its turn; h1 is being proven.
TEST(EmptyHost, ThatDiesIsGivenBackAndTheRunGoesOn) {
  Scenario scenario = rolling();
  scenario.plan.insert(0, "failures = 1\n");
  scenario.plan.replace(scenario.plan.find("seconds = 5"), 11, "seconds = 60");
  scenario.by_hand = [](const patch::Run& run, Cluster& cluster) {
    if (run.host("h2").state == HostState::kEmpty && cluster.hosts.at("h2").deaf_until_ms == 0)
      cluster.deafen("h2", 100 * kHourMs);
  };
  expect_hosts(run_to_end(scenario),
               {"run done\n", "h1 done version 2",
                "h2 skipped version 1 up true cordoned false quarantined false its agent stopped "
                "answering",
                "h3 done version 2", "h4 done version 2"});
}

// It is known to be empty in the very moment in which the patch of h1 is known to have failed.
TEST(EmptyHost, IsNotPatchedOnceTooManyHaveFailed) {
  Scenario scenario;
  scenario.plan = "parallel = 2\n" + scenario.plan;
  scenario.faults.patch_hook_fails_on = "h1";
  scenario.durations.hook_ms = {{"patch", 100'000}};
  const patch::Run* of = nullptr;
  scenario.by_hand = [&of](const patch::Run& run, Cluster&) { of = &run; };
  scenario.known = [&of](Facts& facts) {
    bool failed = false;
    for (std::uint64_t id = 1; of != nullptr && id <= of->intents(); ++id) {
      const Task task = of->task(id);
      failed = failed || (task.intent->purpose == "patch" && task.outcome != nullptr);
    }
    facts.hosts.at("h2").told_out_of_service = failed;
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"run paused\nh1 done-old version 1", "h2 empty"});
  EXPECT_EQ(end.cluster.hook_runs.count("patch@h2"), 0U) << end.text;
}

}  // namespace
}  // namespace sluice::patch::sim
