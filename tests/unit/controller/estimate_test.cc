// What is left of a run, and what is learnt from the migrations that were measured.
#include "control/controller/estimate.h"

#include <gtest/gtest.h>

namespace sluice::controller {
namespace {

constexpr std::uint64_t kGib = 1UL << 30;

class EstimateTest : public testing::Test {
 protected:
  EstimateTest() {
    for (const char* name : {"h1", "h2", "h3"}) {
      planner::Host host;
      host.name = name;
      host.memory_bytes = 64 * kGib;
      for (auto* link : {&host.transmit, &host.receive}) {
        *link = static_cast<planner::LinkId>(cluster_.links.size());
        cluster_.links.push_back({std::string(name) + " link", kGib});
      }
      cluster_.hosts.push_back(host);
      facts_.hosts[name].reachable = true;
    }
    for (const char* name : {"g1", "g2", "g3"}) add_guest(name, name[1] == '3' ? 1 : 0);
  }
  void add_guest(const std::string& name, planner::HostId host) {
    planner::Guest guest;
    guest.name = name;
    guest.host = host;
    guest.memory_bytes = guest.populated_bytes = 4 * kGib;
    cluster_.guests.push_back(guest);
    facts_.guests[name].host = cluster_.hosts[host].name;
  }
  void create(const std::string& more) {
    apply(patch::Created{"name = 'a'\nhosts = ['h1', 'h2']\nhooks.patch = 'p'\n" + more});
  }
  template <typename Body>
  void apply(Body body) {
    const auto applied = run_.apply({1, std::move(body)});
    ASSERT_TRUE(applied) << applied.error().message;
  }
  void step(patch::HostEvent event) { apply(patch::HostStep{"h1", event, ""}); }
  [[nodiscard]] std::uint32_t left() const {
    const auto estimate = estimate_left(run_, facts_, cluster_, durations_);
    return estimate ? estimate->migrations() : 0;
  }
  static patch::Intent move(const std::string& guest) {
    patch::Intent intent;
    intent.kind = patch::ActionKind::kMigrate;
    intent.guest = guest;
    intent.from = "h1";
    intent.to = "h3";
    return intent;
  }

  planner::Cluster cluster_;
  patch::Facts facts_;
  patch::Run run_{"r1"};
  planner::DurationModel durations_;
};

TEST_F(EstimateTest, EachGuestOfAPlansHostsMovesAwayAndHome) {
  create("");
  const auto estimate = estimate_left(run_, facts_, cluster_, durations_);
  ASSERT_TRUE(estimate);
  EXPECT_EQ(estimate->migrations(), 6U);
  // 4 GiB at 1 GiB/s each, one after the other.
  EXPECT_NEAR(estimate->seconds(), 24, 0.1);
  EXPECT_LT(estimate->low_seconds(), estimate->seconds());
  EXPECT_GT(estimate->high_seconds(), estimate->seconds());
}

TEST_F(EstimateTest, HostsAtOnceShareTheTime) {
  create("parallel = 4\n");
  const auto seconds = [&] { return estimate_left(run_, facts_, cluster_, durations_)->seconds(); };
  EXPECT_NEAR(seconds(), 16, 0.1) << "h1 has two guests, which nobody else can hurry";
  add_guest("g4", 1);
  EXPECT_NEAR(seconds(), 16, 0.1) << "two hosts are left, not four";
  for (const char* name : {"g3", "g4"}) facts_.guests[name].host = "h3";
  EXPECT_NEAR(seconds(), 16, 0.1) << "h1 alone is left";
}

TEST_F(EstimateTest, WhereThePlanSetsNoLimitTheHostsThatAreOutCount) {
  create("parallel = 0\n");
  add_guest("g4", 1);
  const auto seconds = [&] { return estimate_left(run_, facts_, cluster_, durations_)->seconds(); };
  EXPECT_NEAR(seconds(), 32, 0.1) << "none is out";
  apply(patch::RunStep{patch::RunEvent::kAdmit, ""});
  apply(patch::RunStep{patch::RunEvent::kStart, ""});
  step(patch::HostEvent::kBegin);
  EXPECT_NEAR(seconds(), 32, 0.1);
  apply(patch::HostStep{"h2", patch::HostEvent::kBegin, ""});
  EXPECT_NEAR(seconds(), 16, 0.1);
}

TEST_F(EstimateTest, ADrainAndARollingRefillMoveEachGuestOnce) {
  create("drain_only = true\n");
  EXPECT_EQ(left(), 3U);
  patch::Run rolling("r2");
  ASSERT_TRUE(rolling.apply({1, patch::Created{"name = 'a'\nhosts = ['h1', 'h2']\nhooks.patch = "
                                               "'p'\nrefill.placement = 'rolling'\n"}}));
  EXPECT_EQ(estimate_left(rolling, facts_, cluster_, durations_)->migrations(), 3U);
}

TEST_F(EstimateTest, ShrinksAsTheRunGoesOn) {
  create("");
  apply(patch::RunStep{patch::RunEvent::kAdmit, ""});
  apply(patch::RunStep{patch::RunEvent::kStart, ""});
  step(patch::HostEvent::kBegin);
  apply(patch::Baseline{"h1", "b", "", "", {"g1", "g2"}});
  step(patch::HostEvent::kReady);
  step(patch::HostEvent::kDrainStarted);
  EXPECT_EQ(left(), 6U);
  facts_.guests["g1"].host = "h3";
  EXPECT_EQ(left(), 5U) << "g1 has its way home left";
  facts_.guests["g2"].host = "h3";
  step(patch::HostEvent::kDrained);
  step(patch::HostEvent::kPatchStarted);
  EXPECT_EQ(left(), 4U);
  facts_.guests["g1"].policy = patch::GuestPolicy::kNever;
  EXPECT_EQ(left(), 3U);
}

TEST_F(EstimateTest, GuestsThatAreShutDownAreNotMoved) {
  create("shut_down_guests = true\n");
  EXPECT_EQ(left(), 0U);
}

TEST_F(EstimateTest, IsNothingForWhatHasEnded) {
  create("drain_only = true\n");
  facts_.guests.clear();
  EXPECT_FALSE(estimate_left(run_, facts_, cluster_, durations_));
}

TEST_F(EstimateTest, MeasuredMigrationsRefineIt) {
  create("");
  const double before = estimate_left(run_, facts_, cluster_, durations_)->seconds();
  for (int i = 0; i < 12; ++i) learn(move("g1"), {1, true, "", 8, 10, 4}, cluster_, durations_);
  const auto after = estimate_left(run_, facts_, cluster_, durations_);
  EXPECT_NEAR(after->seconds(), 2 * before, 0.1 * before) << "it takes twice as long as thought";
  EXPECT_LT(after->high_seconds(), after->seconds() * 2.1);
}

TEST_F(EstimateTest, NothingIsLearntFromWhatSaysNothing) {
  create("");
  const auto factors = durations_.factors();
  learn(move("g1"), {1, false, "the link went quiet", 8}, cluster_, durations_);
  learn(move("g1"), {1, true, "settled", 0}, cluster_, durations_);
  learn(move("gone"), {1, true, "", 8}, cluster_, durations_);
  patch::Intent hook = move("g1");
  hook.kind = patch::ActionKind::kHook;
  learn(hook, {1, true, "", 8}, cluster_, durations_);
  EXPECT_EQ(durations_.factors(), factors);
}

}  // namespace
}  // namespace sluice::controller
