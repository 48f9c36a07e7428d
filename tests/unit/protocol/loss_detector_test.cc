// The formulas of RFC 9002, sections 5.3, 6.1.2 and 6.2.1, worked by hand.
#include "dataplane/protocol/loss_detector.h"

#include <gtest/gtest.h>

namespace sluice::protocol {
namespace {

constexpr TimeNs kMs = kMillisecondNs;

TEST(RttEstimator, UsesTheInitialRttBeforeAnySample) {
  const RttEstimator rtt;
  EXPECT_EQ(rtt.smoothed_ns(), kInitialRttNs);
  EXPECT_EQ(rtt.loss_delay_ns(), kInitialRttNs * 9 / 8);
  EXPECT_EQ(rtt.probe_timeout_ns(), kInitialRttNs + 4 * (kInitialRttNs / 2) + kMaxAckDelayNs);
}

TEST(RttEstimator, FirstSampleReplacesTheInitialRtt) {
  RttEstimator rtt;
  rtt.sample(8 * kMs, 3 * kMs);  // the delay of the first sample is not subtracted
  EXPECT_EQ(rtt.smoothed_ns(), 8 * kMs);
  EXPECT_EQ(rtt.minimum_ns(), 8 * kMs);
  EXPECT_EQ(rtt.loss_delay_ns(), 9 * kMs);
  EXPECT_EQ(rtt.probe_timeout_ns(), 8 * kMs + 4 * 4 * kMs + kMaxAckDelayNs);
}

TEST(RttEstimator, LaterSamplesMoveTheAverages) {
  RttEstimator rtt;
  rtt.sample(8 * kMs, 0);
  rtt.sample(16 * kMs, 0);
  // variation = 3/4 * 4 + 1/4 * |8 - 16| = 5, smoothed = 7/8 * 8 + 1/8 * 16 = 9
  EXPECT_EQ(rtt.smoothed_ns(), 9 * kMs);
  EXPECT_EQ(rtt.probe_timeout_ns(), 9 * kMs + 4 * 5 * kMs + kMaxAckDelayNs);
  EXPECT_EQ(rtt.loss_delay_ns(), 18 * kMs) << "9/8 of the latest, which is larger";
}

TEST(RttEstimator, SubtractsTheAckDelayWhereTheMinimumAllows) {
  RttEstimator rtt;
  rtt.sample(8 * kMs, 0);
  rtt.sample(12 * kMs, 4 * kMs);
  EXPECT_EQ(rtt.smoothed_ns(), 8 * kMs);
  rtt.sample(11 * kMs, 4 * kMs);  // 7 ms would be below the minimum
  EXPECT_EQ(rtt.smoothed_ns(), (7 * 8 * kMs + 11 * kMs) / 8);
}

TEST(RttEstimator, TrustsNoAckDelayBeyondTheMaximum) {
  RttEstimator rtt;
  rtt.sample(8 * kMs, 0);
  rtt.sample(88 * kMs, 80 * kMs);
  EXPECT_EQ(rtt.smoothed_ns(), (7 * 8 * kMs + 88 * kMs - kMaxAckDelayNs) / 8);
}

TEST(RttEstimator, MinimumFollowsTheSmallestSample) {
  RttEstimator rtt;
  rtt.sample(8 * kMs, 0);
  rtt.sample(2 * kMs, 0);
  rtt.sample(5 * kMs, 0);
  EXPECT_EQ(rtt.minimum_ns(), 2 * kMs);
}

TEST(RttEstimator, NoThresholdFallsBelowTheGranularity) {
  RttEstimator rtt;
  for (int i = 0; i < 100; ++i) {
    rtt.sample(1'000, 0);
  }
  EXPECT_EQ(rtt.loss_delay_ns(), kGranularityNs);
  EXPECT_EQ(rtt.probe_timeout_ns(), rtt.smoothed_ns() + kGranularityNs + kMaxAckDelayNs);
}

TEST(RttEstimator, NoProbeTimeoutIsLongerThanTheLongest) {
  RttEstimator rtt;
  const TimeNs timeout_ns = rtt.probe_timeout_ns();
  EXPECT_EQ(rtt.probe_timeout_ns(1), 2 * timeout_ns);
  EXPECT_EQ(rtt.probe_timeout_ns(2), 4 * timeout_ns);
  EXPECT_EQ(rtt.probe_timeout_ns(kProbeBackoffMax), kProbeTimeoutMaxNs);
  rtt.sample(2 * kSecondNs, 0);
  EXPECT_EQ(rtt.probe_timeout_ns(), kProbeTimeoutMaxNs);
}

}  // namespace
}  // namespace sluice::protocol
