#include "control/controller/preview.h"

#include <gtest/gtest.h>

#include "tests/unit/planner/builder.h"

namespace sluice::controller {
namespace {

class PreviewOf : public testing::Test {
 protected:
  PreviewOf() {
    for (const char* name : {"h1", "h2", "h3"}) {
      builder_.host(name, 32);
      facts_.hosts[name].reachable = true;
    }
    for (const char* name : {"g1", "g2"}) {
      builder_.guest(name, 0, 4);
      facts_.guests[name] = {.host = "h1"};
    }
    plan_.name = "test";
    plan_.hosts = {"h1"};
    facts_.now_ms = 1'795'219'200'000;  // Saturday, 2026-11-21T00:00:00Z
  }
  v1::Preview preview() {
    const auto made = make_preview(plan_, builder_.cluster, facts_, planner::DurationModel(), {});
    EXPECT_TRUE(made) << made.error().message;
    return made ? *made : v1::Preview{};
  }

  planner::Builder builder_;
  patch::Facts facts_;
  patch::Plan plan_;
};

TEST_F(PreviewOf, ADrainHasARangeAroundEachEstimateAndTheBoundBesideIt) {
  const v1::Preview all = preview();
  ASSERT_EQ(all.hosts_size(), 1);
  const v1::PreviewHost& host = all.hosts(0);
  ASSERT_EQ(host.moves_size(), 2);
  for (const v1::PreviewMove& move : host.moves()) {
    EXPECT_LT(move.low_seconds(), move.seconds());
    EXPECT_GT(move.high_seconds(), move.seconds());
  }
  EXPECT_GT(host.low_seconds(), 0);
  EXPECT_LT(host.low_seconds(), host.seconds());
  EXPECT_GT(host.high_seconds(), host.seconds());
  EXPECT_LE(host.bound_seconds(), host.seconds());
  EXPECT_EQ(all.begins(), "");
  const auto estimates = estimates_of(all);
  EXPECT_EQ(estimates.at("h1"), (patch::Estimate{host.seconds(), host.low_seconds(),
                                                 host.high_seconds(), host.bound_seconds()}));
}

TEST_F(PreviewOf, TheWholeRunIsMoreThanItsDrains) {
  plan_.expected_patch_s = 300;
  const v1::Preview all = preview();
  const double drain = all.hosts(0).seconds();
  // Two guests come back in two steps.
  EXPECT_NEAR(all.seconds(), 2 * drain + 300 + 10 + 60, 0.01);
  EXPECT_LT(all.low_seconds(), all.seconds());
  EXPECT_GT(all.high_seconds(), all.seconds());
  EXPECT_LE(all.bound_seconds(), all.seconds());
  EXPECT_EQ(all.hosts_at_once(), 1U);
  EXPECT_EQ(all.patch_seconds_from(), "as the plan says");
  EXPECT_EQ(whole_of(all), (patch::Estimate{all.seconds(), all.low_seconds(), all.high_seconds(),
                                            all.bound_seconds()}));
  plan_.drain_only = true;
  EXPECT_DOUBLE_EQ(preview().high_seconds(), all.hosts(0).high_seconds());
}

TEST_F(PreviewOf, GuestsThatAreShutDownDoNotMove) {
  facts_.guests["g1"].policy = patch::GuestPolicy::kShutdown;
  const v1::Preview some = preview();
  ASSERT_EQ(some.hosts(0).moves_size(), 1);
  EXPECT_EQ(some.hosts(0).moves(0).guest(), "g2");
  ASSERT_EQ(some.hosts(0).shut_down_size(), 1);
  EXPECT_EQ(some.hosts(0).shut_down(0), "g1");
  EXPECT_FALSE(some.drain_only());
  plan_.shut_down_guests = true;
  EXPECT_EQ(preview().hosts(0).moves_size(), 0);
  EXPECT_EQ(preview().hosts(0).shut_down_size(), 2);
  EXPECT_EQ(preview().hosts(0).high_seconds(), 0);
}

TEST_F(PreviewOf, GuestsGoWhereTheyMay) {
  facts_.hosts["h2"].cordoned_by = "operator";
  const v1::Preview all = preview();
  for (const v1::PreviewMove& move : all.hosts(0).moves()) EXPECT_EQ(move.to(), "h3");
}

TEST_F(PreviewOf, NamesWhatIsLostByANewerQemu) {
  const std::uint32_t older = *planner::parse_qemu_series("7.2");
  const std::uint32_t newer = *planner::parse_qemu_series("8.2");
  for (auto& [name, host] : facts_.hosts) host.qemu_series = older;
  for (auto& host : builder_.cluster.hosts) host.qemu_series = older;
  for (auto& guest : builder_.cluster.guests) guest.qemu_series = older;
  EXPECT_EQ(preview().one_way(), "");
  plan_.expected_qemu = newer;
  plan_.hosts = {"h1", "h2"};
  EXPECT_EQ(
      preview().one_way(),
      "guests that come to QEMU 8.2 do not go back to 7.2: a host that fails when it has some "
      "is emptied into hosts with 8.2 alone, and rolled back only after that; until a second "
      "host has it, the first one, h1, would end in quarantine with its guests running");
  facts_.hosts["h3"].qemu_series = newer;
  builder_.cluster.hosts[2].qemu_series = newer;
  EXPECT_EQ(preview().one_way().find("until a second"), std::string::npos);
}

// By hand or by another run: as the run would be told.
TEST_F(PreviewOf, WhatIsUnderWayIsNotPlannedAgainAndTakesItsRoom) {
  const patch::Move move{"g1", "h1", "h2", ""};
  for (auto* const list : {&facts_.moves_by_hand, &facts_.moves_of_others}) {
    list->push_back(move);
    const v1::Preview all = preview();
    list->clear();
    ASSERT_EQ(all.hosts(0).moves_size(), 1);
    EXPECT_EQ(all.hosts(0).moves(0).guest(), "g2");
  }
  // h2 has 32 GiB, of which a guest that is down there is to have 30 again.
  builder_.guest("g3", 0, 30);
  facts_.down_of_others["g3"] = {"h2"};
  const v1::Preview all = preview();
  ASSERT_EQ(all.hosts(0).moves_size(), 2);
  for (const v1::PreviewMove& line : all.hosts(0).moves()) EXPECT_EQ(line.to(), "h3");
}

TEST_F(PreviewOf, SaysWhenTheWindowOpensAndWhichWaveAHostIsOf) {
  plan_.hosts = {"h1", "h2", "h3"};
  plan_.waves = {1, 2};
  plan_.window.weekdays = 1;
  plan_.window.from_minute = 9 * 60;
  const v1::Preview all = preview();
  EXPECT_EQ(all.begins(), "Mon 2026-11-23 09:00 UTC");
  ASSERT_EQ(all.hosts_size(), 3);
  EXPECT_EQ(all.hosts(0).wave(), 1U);
  EXPECT_EQ(all.hosts(1).wave(), 2U);
  EXPECT_EQ(all.hosts(2).wave(), 2U);
}

}  // namespace
}  // namespace sluice::controller
