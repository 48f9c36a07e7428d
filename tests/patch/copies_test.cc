// Guests that are elsewhere, and of which a host has a copy all the same.
#include <gtest/gtest.h>
#include <string>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

// `copies` are there from when h2 is in `state` on, or to it.
Scenario with_copies(HostState from, const std::map<std::string, std::string>& copies,
                     TimeMs for_ms = 100 * kHourMs) {
  Scenario scenario;
  scenario.plan.insert(0, "failures = 4\n");
  scenario.by_hand = [=, since_ms = TimeMs{-1}](const patch::Run& run, Cluster& cluster) mutable {
    if (since_ms < 0 && run.host("h2").state == from) {
      since_ms = cluster.now_ms();
      cluster.hosts.at("h2").copies = copies;
    }
    if (since_ms >= 0 && cluster.now_ms() > since_ms + for_ms) cluster.hosts.at("h2").copies = {};
  };
  return scenario;
}

TEST(Copies, OfGuestsThatRunElsewhereKeepAHostFromItsPatch) {
  for (const char* state : {"silent", "forgotten", "running"}) {
    const End end = run_to_end(with_copies(HostState::kPending, {{"g1", state}}));
    expect_hosts(end, {"run done", "h1 done", "h2 skipped version 1", "h3 done"});
    EXPECT_EQ(end.cluster.hook_runs.count("patch@h2"), 0U) << end.text;
    const std::string why =
        std::string(state) == "forgotten" ? "g1 waits for an operator on h2" : "g1 is on h2 too";
    EXPECT_NE(end.text.find(why), std::string::npos) << end.text;
  }
}

TEST(Copies, ThatAreAboutToGoAreAwaitedAsLongAsARebootMayTake) {
  for (const char* state : {"moving", "handed-over"}) {
    const End gone =
        run_to_end(with_copies(HostState::kPending, {{"g1", state}}, /*for_ms=*/600'000));
    expect_hosts(gone, {"run done", "h2 done version 2"});
    const End stays = run_to_end(with_copies(HostState::kPending, {{"g1", state}}));
    expect_hosts(stays, {"run done", "h2 skipped version 1", "h2 has not let go of g1 yet"});
  }
}

TEST(Copies, ThatAreThereForAMomentFailNobody) {
  const End end =
      run_to_end(with_copies(HostState::kDraining, {{"g1", "silent"}}, /*for_ms=*/45'000));
  expect_hosts(end, {"run done", "h2 done version 2"});
}

// As when its agent was started again by the patch, and finds what it had not found before.
TEST(Copies, KeepAHostFromItsReboot) {
  const End end = run_to_end(with_copies(HostState::kPatching, {{"g1", "silent"}}));
  expect_hosts(end, {"h2 quarantined"});
  EXPECT_EQ(end.cluster.reboots.count("h2"), 0U) << end.text;
}

}  // namespace
}  // namespace sluice::patch::sim
