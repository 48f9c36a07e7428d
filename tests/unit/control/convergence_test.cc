#include "control/model/convergence.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <string>

namespace sluice::model {
namespace {

Iteration second_iteration() {
  Iteration iteration;
  iteration.number = 2;
  iteration.harvested = true;
  iteration.duration_ns = 100 * kMillisecondNs;
  iteration.dirty_period_ns = 1000 * kMillisecondNs;
  iteration.dirty_pages = 10'000;
  iteration.bytes_per_second = 1e9;
  iteration.floor_ns = 5 * kMillisecondNs;
  iteration.scan_ns = 1 * kMillisecondNs;
  iteration.proof_ns = 1 * kMillisecondNs;
  return iteration;
}

TEST(Convergence, TheFirstIterationCannotDecide) {
  Iteration first;
  first.number = 1;
  first.bytes_per_second = 1e9;
  EXPECT_EQ(decide(first, {}).reason, StopReason::kNone);
  EXPECT_EQ(decide(first, {50 * kMillisecondNs, 1}).reason, StopReason::kMaxIterations);
}

TEST(Convergence, PredictsFromTheDirtyRateAndTheUnsent) {
  Iteration iteration = second_iteration();
  iteration.unsent_pages = 500;
  EXPECT_EQ(predict_final_pages(iteration), 1'500U);
  iteration.stop_latency_ns = 100 * kMillisecondNs;
  EXPECT_EQ(predict_final_pages(iteration), 2'500U);
}

TEST(Convergence, StopsWhenThePredictionFits) {
  const Iteration iteration = second_iteration();  // 1,000 pages: 4.1 ms, and 7 ms around it
  const auto decision = decide(iteration, {12 * kMillisecondNs, 10});
  EXPECT_EQ(decision.reason, StopReason::kPredictedDowntime);
  EXPECT_FALSE(decision.limit_exceeded);
  EXPECT_EQ(decision.predicted_downtime_ns, 7 * kMillisecondNs + 4'096 * kMicrosecondNs);
  EXPECT_EQ(decide(iteration, {11 * kMillisecondNs, 10}).reason, StopReason::kNone);
}

TEST(Convergence, GivesUpAfterTheLastIterationAndSaysSo) {
  Iteration iteration = second_iteration();
  iteration.number = 10;
  const auto decision = decide(iteration, {8 * kMillisecondNs, 10});
  EXPECT_EQ(decision.reason, StopReason::kMaxIterations);
  EXPECT_TRUE(decision.limit_exceeded);
}

TEST(Convergence, StopsWhenNothingOrLittleIsLeftWhateverTheLimit) {
  Iteration iteration = second_iteration();
  iteration.dirty_pages = 0;
  EXPECT_EQ(decide(iteration, {1, 10}).reason, StopReason::kNothingDirty);
  iteration.dirty_pages = 640;
  EXPECT_EQ(decide(iteration, {1, 10}).reason, StopReason::kTinyRemainder);
  EXPECT_TRUE(decide(iteration, {1, 10}).limit_exceeded);
}

TEST(Convergence, EveryReasonHasAName) {
  for (int reason = 1; reason <= 5; ++reason) {
    EXPECT_NE(std::string(to_string(static_cast<StopReason>(reason))), "?");
  }
}

RC_GTEST_PROP(Convergence, MoreWorkNeverPredictsLess, ()) {
  Iteration iteration = second_iteration();
  iteration.dirty_pages = *rc::gen::inRange<std::uint64_t>(0, 1 << 24);
  iteration.unsent_pages = *rc::gen::inRange<std::uint64_t>(0, 1 << 24);
  Iteration more = iteration;
  more.dirty_pages += *rc::gen::inRange<std::uint64_t>(0, 1 << 20);
  more.unsent_pages += *rc::gen::inRange<std::uint64_t>(0, 1 << 20);
  RC_ASSERT(decide(more, {}).predicted_downtime_ns >= decide(iteration, {}).predicted_downtime_ns);
}

}  // namespace
}  // namespace sluice::model
