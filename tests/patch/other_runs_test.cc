// What a run leaves to the other runs of its cluster: their canaries, and the guests that they
// bring home.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

constexpr const char* kVisitor = "canary-r2-h9";

Facts seen_by(const std::string& run, const patch::Run& other) {
  Facts facts;
  note_moves(facts, run, {&other}, {});
  return facts;
}

TEST(OtherRuns, SayWhichGuestsAndCanariesAreTheirs) {
  const std::vector<Record> records = {
      {1, Created{"name = 'a'\nhosts = ['h9']\nhooks.patch = 'patch'\n"
                  "canary.definition = \"name = 'c'\"\n"}},
      {1, RunStep{RunEvent::kAdmit, ""}},
      {1, RunStep{RunEvent::kStart, ""}},
      {1, HostStep{"h9", HostEvent::kBegin, ""}},
      {1, Baseline{"h9", "boot", "1", "6.1", {"g1"}}},
      {1, HostStep{"h9", HostEvent::kReady, ""}},
      {1, Intent{1, ActionKind::kStartGuest, "canary-start", "h9", kVisitor}},
  };
  patch::Run other("r2");
  for (const Record& record : records) ASSERT_TRUE(other.apply(record));
  EXPECT_TRUE(seen_by("r2", other).guests_of_others.empty()) << "they are its own";
  EXPECT_EQ(seen_by("r1", other).guests_of_others, std::set<std::string>{"g1"});
  EXPECT_EQ(seen_by("r1", other).canaries_of_others, std::set<std::string>{kVisitor});
  const std::vector<Record> end = {
      {2, Outcome{1, true, ""}},
      {2, Intent{2, ActionKind::kStopGuest, "canary-stop", "h9", kVisitor}},
      {2, Outcome{2, true, ""}},
      {2, HostStep{"h9", HostEvent::kFailure, "why"}},
      {2, HostStep{"h9", HostEvent::kGivenBack, ""}},
  };
  for (const Record& record : end) ASSERT_TRUE(other.apply(record));
  EXPECT_TRUE(seen_by("r1", other).guests_of_others.empty());
  EXPECT_TRUE(seen_by("r1", other).canaries_of_others.empty());
}

TEST(OtherRuns, BringTheirGuestsHomeThemselves) {
  Scenario scenario;
  scenario.plan.replace(scenario.plan.find(", \"h2\""), 18, "");
  scenario.known = [](Facts& facts) { facts.guests_of_others = {"g1"}; };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"because every host went well\n", "h1 done version 2"});
  EXPECT_EQ(end.cluster.migrations.at("g1"), 1U);
  EXPECT_NE(end.cluster.guests.at("g1").host, "h1");
  EXPECT_EQ(end.cluster.guests.at("g5").host, "h1");
}

TEST(OtherRuns, StartTheirGuestsOnAHostBeforeItIsPatched) {
  Scenario scenario;
  scenario.cluster = make_cluster(scenario);
  const TimeMs until_ms = scenario.cluster->now_ms() + 300'000;
  scenario.known = [=](Facts& facts) {
    if (facts.now_ms < until_ms) facts.down_of_others["web"] = {"h1", /*starting=*/true};
  };
  TimeMs patched_ms = 0;
  scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
    if (patched_ms == 0 && run.host("h1").state == HostState::kPatching)
      patched_ms = cluster.now_ms();
  };
  const End end = run_to_end(scenario);
  expect_hosts(end, {"h1 done version 2"});
  EXPECT_GE(patched_ms, until_ms);
}

// Not moved, not stopped, and its host is not patched under it.
TEST(OtherRuns, EndTheirCanariesThemselves) {
  for (const bool shut_down : {false, true}) {
    Scenario scenario;
    scenario.plan.replace(scenario.plan.find(", \"h2\""), 18, "");
    if (shut_down) scenario.plan.insert(0, "shut_down_guests = true\n");
    scenario.cluster = make_cluster(scenario);
    scenario.cluster->guests[kVisitor] = {"h1", 1};
    scenario.known = [](Facts& facts) { facts.canaries_of_others = {kVisitor}; };
    bool patched_under_it = false;
    const TimeMs leaves_ms = scenario.cluster->now_ms() + 300'000;
    scenario.by_hand = [&](const patch::Run& run, Cluster& cluster) {
      const bool is_there = cluster.guests.count(kVisitor) != 0;
      patched_under_it |= is_there && run.host("h1").state > HostState::kEmpty;
      if (is_there && cluster.now_ms() > leaves_ms) cluster.guests.erase(kVisitor);
    };
    const End end = run_to_end(scenario);
    expect_hosts(end, {"because every host went well\n", "h1 done version 2"});
    EXPECT_FALSE(patched_under_it);
    EXPECT_EQ(end.cluster.migrations.count(kVisitor), 0U);
    EXPECT_EQ(end.cluster.stopped.count(kVisitor), 0U);
  }
}

}  // namespace
}  // namespace sluice::patch::sim
