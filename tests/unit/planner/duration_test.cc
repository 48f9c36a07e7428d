#include "control/planner/duration.h"

#include <gtest/gtest.h>

#include "dataplane/base/random.h"
#include "tests/unit/planner/builder.h"

namespace sluice::planner {
namespace {

Guest guest_of(std::uint64_t gib, std::uint64_t dirty_bytes_per_second = 0) {
  Guest guest;
  guest.memory_bytes = gib * kGib;
  guest.populated_bytes = guest.memory_bytes;
  guest.dirty_bytes_per_second = dirty_bytes_per_second;
  return guest;
}

TEST(DurationTest, IdleGuestIsCopiedOnce) {
  const DurationModel model;
  EXPECT_EQ(model.estimate(guest_of(4), kGib).ms, 4000);
  Guest half = guest_of(4);
  half.populated_bytes /= 2;
  EXPECT_EQ(model.estimate(half, kGib).ms, 2000);
}

TEST(DurationTest, WhatIsDirtiedIsCopiedAgain) {
  const DurationModel model;
  // A geometric series: 4 s, then a quarter of each iteration, 4 ÷ (1 - 1/4) in all but the last
  // residue.
  const std::uint64_t live_ms = model.estimate(guest_of(4, kGib / 4), kGib).ms;
  EXPECT_GT(live_ms, 5300);
  EXPECT_LE(live_ms, 5334);
  Guest quick = guest_of(4, kGib / 4);
  quick.policy = Policy::kQuick;
  EXPECT_EQ(model.estimate(quick, kGib).ms, 4000);
  Guest working_set = guest_of(4);
  working_set.working_set_bytes = kGib / 2;
  working_set.working_set_ms = 100;
  EXPECT_GT(model.estimate(working_set, kGib).ms, 4500)
      << "a working set that never rests costs an iteration each";
}

TEST(DurationTest, GuestThatNeverConvergesEndsAtTheMaximumOfIterations) {
  const DurationModel model({.iterations_max = 3});
  EXPECT_EQ(model.estimate(guest_of(1, 4 * kGib), kGib).ms, 4000);
}

TEST(DurationTest, RestartTakesItsOwnTime) {
  DurationModel model({.restart_ms = 42'000});
  Guest guest = guest_of(4);
  guest.policy = Policy::kShutdown;
  model.refine(guest, 0, 1);
  EXPECT_EQ(model.estimate(guest, 0).ms, 42'000);
}

TEST(DurationTest, LearnsFactorsFromMeasurements) {
  constexpr std::uint64_t kSeed = 7;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  DurationModel model;
  const auto truth_ms = [](std::uint64_t gib) { return 2000 + gib * 1300; };
  const DurationEstimate before = model.estimate(guest_of(8), kGib);
  EXPECT_LT(before.ms, truth_ms(8) * 8 / 10);
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t gib = 1 + random.below(16);
    const std::uint64_t noise_percent = 95 + random.below(11);
    model.refine(guest_of(gib), kGib, truth_ms(gib) * noise_percent / 100);
  }
  for (const std::uint64_t gib : {2, 8, 15}) {
    const DurationEstimate after = model.estimate(guest_of(gib), kGib);
    EXPECT_NEAR(static_cast<double>(after.ms), static_cast<double>(truth_ms(gib)),
                0.04 * static_cast<double>(truth_ms(gib)));
    EXPECT_LE(after.low_ms, truth_ms(gib));
    EXPECT_GE(after.high_ms, truth_ms(gib));
    EXPECT_LT(after.high_ms - after.low_ms, after.ms / 4) << "the range narrows to what was seen";
  }
}

TEST(DurationTest, NeverFasterThanTheLink) {
  DurationModel model;
  for (int i = 0; i < 50; ++i) model.refine(guest_of(4), kGib, 100);
  EXPECT_GE(model.estimate(guest_of(4), kGib).ms, 4000);
}

}  // namespace
}  // namespace sluice::planner
