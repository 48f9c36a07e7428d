// How long a whole run takes.
#include "control/controller/forecast.h"

#include <gtest/gtest.h>

#include "control/patch/planned_mover.h"
#include "tests/unit/planner/builder.h"

namespace sluice::controller {
namespace {

using patch::Estimate;

constexpr patch::TimeMs kSaturdayMs = 1'795'219'200'000;  // 2026-11-21T00:00:00Z

class ForecastOf : public testing::Test {
 protected:
  ForecastOf() {
    plan_.patch = patch::Hook{"apply"};
    plan_.expected_patch_s = 300;
    plan_.refill_percent = {50, 100};
    for (int i = 1; i <= 4; ++i) {
      plan_.hosts.push_back("h" + std::to_string(i));
      hosts_.push_back({{100, 90, 120, 80}, 10});
    }
  }
  [[nodiscard]] Estimate whole(std::uint32_t at_once = 1) const {
    return whole({at_once, at_once});
  }
  [[nodiscard]] Estimate whole(const AtOnce& at_once) const {
    return forecast(plan_, kSaturdayMs, at_once, patch_time(plan_, {}), hosts_);
  }

  patch::Plan plan_;
  std::vector<HostForecast> hosts_;
};

TEST_F(ForecastOf, HasDrainPatchGatesWayHomeAndSoakOfEachHost) {
  // Of each: two ways of 100 s, 300 s, a gate of 10 s, 60 s.
  EXPECT_EQ(whole(), (Estimate{4 * 570, 4 * 550, 4 * 610, 4 * 530}));
  plan_.soak_s = 0;
  plan_.refill_percent = {100};
  EXPECT_DOUBLE_EQ(whole().seconds, 4 * 500);
  plan_.drain_only = true;
  EXPECT_EQ(whole(), (Estimate{400, 360, 480, 320}));
}

TEST_F(ForecastOf, ARollingRefillIsTheDrainsOfOthers) {
  plan_.placement = patch::Placement::kRolling;
  EXPECT_DOUBLE_EQ(whole().seconds, 4 * 470);
  EXPECT_DOUBLE_EQ(whole().bound_seconds, 4 * 360) << "drains may go on beside it";
}

TEST_F(ForecastOf, HostsAtOnceAndWavesOverlap) {
  plan_.parallel = 2;
  EXPECT_DOUBLE_EQ(whole(2).seconds, 2 * 570);
  EXPECT_DOUBLE_EQ(whole(2).bound_seconds, 2 * 530);
  plan_.parallel = 4;
  plan_.waves = {1, 3};
  EXPECT_DOUBLE_EQ(whole(4).seconds, 2 * 570) << "the first wave, then the others together";
  EXPECT_DOUBLE_EQ(whole(4).bound_seconds, 2 * 530);
  plan_.waves = {};
  hosts_[2].drain = {1000, 900, 1200, 800};
  EXPECT_DOUBLE_EQ(whole(4).seconds, 2370) << "the longest one";
}

TEST_F(ForecastOf, WithoutALimitNobodyKnowsMoreThanTheLongestHost) {
  plan_.parallel = 0;
  EXPECT_DOUBLE_EQ(whole(2).seconds, 2 * 570);
  EXPECT_DOUBLE_EQ(whole(2).bound_seconds, 530);
}

TEST_F(ForecastOf, WaitsForTheWindow) {
  plan_.window.from_minute = 60;
  plan_.window.to_minute = 60 + 15;  // from one o'clock on, two hosts begin
  EXPECT_DOUBLE_EQ(whole().seconds, 25 * 3600 + 2 * 570);
  EXPECT_DOUBLE_EQ(whole().bound_seconds, 3600 + 4 * 530);
}

TEST_F(ForecastOf, ThePatchIsAsThePlanSaysOrAsMeasuredOrAssumed) {
  const MeasuredPatch measured{"r3", {700, 500, 400}};
  EXPECT_EQ(patch_time(plan_, measured).estimate.seconds, 300);
  EXPECT_EQ(patch_time(plan_, measured).from, "as the plan says");
  plan_.expected_patch_s = 0;
  EXPECT_EQ(patch_time(plan_, measured).estimate, (Estimate{500, 400, 700, 400}));
  EXPECT_EQ(patch_time(plan_, measured).from, "as in run r3, of 3 hosts");
  EXPECT_EQ(patch_time(plan_, {}).estimate.seconds, 600);
  EXPECT_NE(patch_time(plan_, {}).from.find("assumed"), std::string::npos);
  plan_.drain_only = true;
  EXPECT_EQ(patch_time(plan_, measured).estimate.seconds, 0);
}

TEST_F(ForecastOf, ARunThatDoesSomethingElseToAHostSaysNothing) {
  patch::Plan other = plan_;
  EXPECT_TRUE(patches_alike(plan_, other));
  other.reboot = false;
  EXPECT_FALSE(patches_alike(plan_, other));
  other = plan_;
  other.patch->name = "firmware";
  EXPECT_FALSE(patches_alike(plan_, other));
  other = plan_;
  other.canary_definition = "name = 'canary'";
  EXPECT_FALSE(patches_alike(plan_, other));
  EXPECT_FALSE(patches_alike(plan_, patch::Plan{}));
}

TEST_F(ForecastOf, WithoutALimitSoManyHostsAreOutAsThereIsRoomFor) {
  planner::Builder builder;
  patch::Facts facts;
  for (planner::HostId host = 0; host < 4; ++host) {
    builder.host(plan_.hosts[host], 16);
    facts.hosts[plan_.hosts[host]].reachable = true;
    builder.guest("g" + plan_.hosts[host], host, 8);
    facts.guests["g" + plan_.hosts[host]].host = plan_.hosts[host];
  }
  const auto hosts_out = [&] {
    const patch::PlannedMover mover(builder.cluster, planner::simple_options().move_time);
    return at_once(plan_, facts, mover, hosts_).hosts;
  };
  EXPECT_EQ(hosts_out(), 1U);
  plan_.parallel = 9;
  EXPECT_EQ(hosts_out(), 4U);
  plan_.parallel = 0;
  EXPECT_EQ(hosts_out(), 2U) << "two hosts have room for two guests of others";
  plan_.placement = patch::Placement::kRolling;
  EXPECT_EQ(hosts_out(), 1U) << "more than a tenth of the guests would move twice";
}

TEST_F(ForecastOf, HostsThatAreEmptiedAtOnceShareTheLinksIntoTheOthers) {
  planner::Builder builder;
  patch::Facts facts;
  for (planner::HostId host = 0; host < 4; ++host) {
    builder.host(plan_.hosts[host], 64);
    facts.hosts[plan_.hosts[host]].reachable = true;
    builder.guest("g" + plan_.hosts[host], host, 8);
    facts.guests["g" + plan_.hosts[host]].host = plan_.hosts[host];
  }
  const patch::PlannedMover mover(builder.cluster, planner::simple_options().move_time);
  for (auto& host : hosts_) host.drain = {8, 7, 10, 8};
  const auto drains = [&](std::uint32_t parallel) {
    plan_.parallel = parallel;
    return at_once(plan_, facts, mover, hosts_).drains;
  };
  EXPECT_EQ(drains(1), 1U);
  EXPECT_EQ(drains(2), 2U) << "each into a host of its own";
  EXPECT_EQ(drains(3), 1U) << "all three into the fourth";
}

TEST_F(ForecastOf, DrainsWaitForLinksThatOthersFill) {
  plan_.hosts.resize(2);
  hosts_.resize(2);
  plan_.parallel = 2;
  // The second is empty after 200 s, when the patch of the first goes on still; its patch ends
  // after 500 s, when the first's guests have just come back.
  EXPECT_DOUBLE_EQ(whole({2, 1}).seconds, 200 + 300 + 100 + 10 + 60);
  plan_.expected_patch_s = 50;
  EXPECT_DOUBLE_EQ(whole({2, 1}).seconds, 4 * 100 + 10 + 60);
}

}  // namespace
}  // namespace sluice::controller
