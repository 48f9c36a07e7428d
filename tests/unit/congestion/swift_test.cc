#include "dataplane/congestion/swift.h"

#include <gtest/gtest.h>

namespace sluice::congestion {
namespace {

constexpr TimeNs kStart = 5 * kSecondNs;  // a monotonic clock does not begin at 0
constexpr TimeNs kRoundTripNs = 50 * kMicrosecondNs;

class SwiftTest : public testing::Test {
 protected:
  // Acknowledges a full window after another for `rounds` rounds, each frame with this delay.
  void ack_rounds(int rounds, TimeNs delay_ns) {
    for (const TimeNs end = now_ + rounds * kRoundMinNs; now_ < end;) {
      ack(delay_ns);
    }
  }
  void ack(std::optional<TimeNs> delay_ns) {
    now_ += kRoundTripNs;
    const std::uint64_t frames = swift_.window_frames();
    swift_.on_acked({frames, frames, delay_ns, 0, kRoundTripNs}, now_);
  }
  // Ends slow start with a window of about `frames`.
  void settle_at(double frames) {
    while (swift_.window() < frames) {
      ack(kRoundTripNs);
    }
    swift_.on_lost(1, now_);
    ack_rounds(1, kRoundTripNs);
  }

  Swift swift_{{}};
  TimeNs now_ = kStart;
};

TEST_F(SwiftTest, BeginsWithItsFirstWindowAndDoublesEachRoundTrip) {
  EXPECT_EQ(swift_.window_frames(), 16U);
  EXPECT_EQ(Swift({.window_first_frames = 16, .window_max_frames = 4}).window_frames(), 4U);
  ack(kRoundTripNs);
  EXPECT_EQ(swift_.window_frames(), 32U);
  ack(kRoundTripNs);
  EXPECT_EQ(swift_.window_frames(), 64U);
}

TEST_F(SwiftTest, WindowStaysWithinWhatAcksCanCover) {
  ack_rounds(10, kRoundTripNs);
  EXPECT_EQ(swift_.window_frames(), wire::kAckSpanMax);
  EXPECT_EQ(Swift({.window_first_frames = 0, .window_max_frames = 0}).window_frames(), 1U);
}

TEST_F(SwiftTest, GrowsByAFramePerRoundTripWithinTheTarget) {
  settle_at(100);
  const double before = swift_.window();
  for (int i = 0; i < 10; ++i) {
    ack(kRoundTripNs);
  }
  EXPECT_NEAR(swift_.window() - before, 10, 0.5);
}

TEST_F(SwiftTest, AWindowThatIsNotUsedDoesNotGrow) {
  for (int i = 0; i < 100; ++i) {
    now_ += kRoundTripNs;
    swift_.on_acked({4, 4, kRoundTripNs, 0, kRoundTripNs}, now_);
  }
  EXPECT_EQ(swift_.window_frames(), 16U);
}

TEST_F(SwiftTest, AStandingQueueShrinksTheWindowByItsExcess) {
  settle_at(100);
  constexpr TimeNs kDelayNs = 2 * kTargetNs;
  double before = 0;
  double target = 0;
  do {  // the round under way still has a short sample
    before = swift_.window();
    target = static_cast<double>(swift_.target_ns());
    ack(kDelayNs);
  } while (swift_.window() >= before);
  const double excess = (kDelayNs - target) / kDelayNs;
  EXPECT_NEAR(swift_.window(), before * (1 - kBeta * excess), 2);
}

TEST_F(SwiftTest, ADecreaseIsLimitedAndHappensOnceARound) {
  settle_at(200);
  ack_rounds(1, kRoundTripNs);
  const double before = swift_.window();
  ack_rounds(4, kSecondNs);
  EXPECT_GE(swift_.window(), before * 0.5 * 0.5 * 0.5 * 0.5 * 0.99);
  EXPECT_LE(swift_.window(), before * 0.5 * 0.5 * 0.6);
}

// A thread that lost its core for a while makes everything late that was on its way then.
TEST_F(SwiftTest, LateThreadsAreNoQueue) {
  settle_at(100);
  const double before = swift_.window();
  for (int i = 0; i < 400; ++i) {
    ack(i % 4 == 0 ? kRoundTripNs : 4 * kMillisecondNs);
  }
  EXPECT_GE(swift_.window(), before);
}

TEST_F(SwiftTest, SlowStartEndsWithTheFirstDelayBeyondTheTarget) {
  ack(kRoundTripNs);
  ack(5 * kMillisecondNs);
  const double before = swift_.window();
  ack(kRoundTripNs);
  EXPECT_NEAR(swift_.window(), before + 1, 0.1);
}

TEST_F(SwiftTest, FewLossesAreNoCongestion) {
  settle_at(200);
  const double before = swift_.window();
  for (int i = 0; i < 1'000; ++i) {
    if (i % 2 == 0) {
      swift_.on_lost(swift_.window_frames() / 50, now_);  // 1 % of all frames
    }
    ack(kRoundTripNs);
  }
  EXPECT_GE(swift_.window(), before);
}

TEST_F(SwiftTest, ManyLossesHalveTheWindowAtMost) {
  settle_at(400);
  ack_rounds(2, kRoundTripNs);
  const double before = swift_.window();
  now_ += kRoundMinNs;
  swift_.on_lost(400, now_);
  ack_rounds(1, kRoundTripNs);
  EXPECT_NEAR(swift_.window(), before / 2, before * 0.1);
}

TEST_F(SwiftTest, ProbeTimeoutsHalveTheWindowAndThenBeginAnew) {
  settle_at(100);
  const double before = swift_.window();
  swift_.on_probe_timeout(1);
  EXPECT_NEAR(swift_.window(), before / 2, 1e-6);
  swift_.on_probe_timeout(2);
  EXPECT_NEAR(swift_.window(), before / 4, 1e-6);
  swift_.on_probe_timeout(kTimeoutsBeforeReset);
  EXPECT_EQ(swift_.window_frames(), 1U);
  ack(kRoundTripNs);
  ack(kRoundTripNs);
  EXPECT_EQ(swift_.window_frames(), 4U) << "slow start";
}

TEST_F(SwiftTest, BelowAFrameItPaces) {
  swift_.on_sent(now_);
  EXPECT_LE(swift_.next_send_ns(), now_) << "with a whole window nothing waits";
  settle_at(17);
  while (swift_.window() > kWindowMin) {
    ack_rounds(1, kSecondNs);
  }
  EXPECT_EQ(swift_.window_frames(), 1U);
  const TimeNs before = swift_.next_send_ns();
  swift_.on_sent(now_);
  EXPECT_EQ(swift_.next_send_ns() - now_, 16 * kRoundTripNs);
  swift_.undo_sent(before);
  EXPECT_EQ(swift_.next_send_ns(), before);
  ack_rounds(2, kRoundTripNs);
  EXPECT_GE(swift_.window(), 1.0);
  EXPECT_LE(swift_.next_send_ns(), now_);
}

TEST_F(SwiftTest, SmallWindowsAreGrantedMoreDelay) {
  const TimeNs at_16 = swift_.target_ns();
  EXPECT_GT(at_16, kTargetNs);
  settle_at(1000);
  EXPECT_NEAR(static_cast<double>(swift_.target_ns()), kTargetNs, 2'000);
  while (swift_.window_frames() > 1) {
    ack_rounds(1, kSecondNs);
  }
  EXPECT_LE(swift_.target_ns(), kTargetNs + kFlowScalingNs);
  EXPECT_GT(swift_.target_ns(), at_16);
}

TEST_F(SwiftTest, ALongPathRaisesTheTargetAndAQueueFoundAtTheBeginningDoesNot) {
  swift_.on_acked({1, 1, kRoundTripNs, 0, kRoundTripNs}, now_);
  EXPECT_EQ(swift_.base_delay_ns(), kRoundTripNs);
  Swift latecomer{{}};
  const TimeNs delay_ns = swift_.target_ns();
  latecomer.on_acked({1, 1, delay_ns, 0, delay_ns}, now_);
  EXPECT_EQ(latecomer.target_ns(), swift_.target_ns());
  Swift far{{}};
  far.on_acked({1, 200, 20 * kMillisecondNs, 0, 20 * kMillisecondNs}, now_);
  EXPECT_GT(far.target_ns(), 22 * kMillisecondNs);
}

TEST_F(SwiftTest, WhatLayUnseenIsNoQueueAndNoShorterPath) {
  settle_at(100);
  const double before = swift_.window();
  for (int i = 0; i < 100; ++i) {
    now_ += 4 * kMillisecondNs;
    swift_.on_acked({50, 100, 4 * kMillisecondNs, 4 * kMillisecondNs, 4 * kMillisecondNs}, now_);
  }
  EXPECT_GE(swift_.window(), before);
  EXPECT_EQ(swift_.base_delay_ns(), kRoundTripNs);
}

TEST_F(SwiftTest, APathThatBecameLongerIsFoundOutAtTheSmallestWindow) {
  settle_at(20);
  ack_rounds(100, 10 * kMillisecondNs);
  EXPECT_GT(swift_.base_delay_ns(), 9 * kMillisecondNs);
  EXPECT_GT(swift_.window(), 1.0);
}

TEST_F(SwiftTest, AcksWithoutASampleChangeNothing) {
  for (int i = 0; i < 100; ++i) {
    ack(std::nullopt);
  }
  EXPECT_EQ(swift_.window_frames(), 16U);
  EXPECT_EQ(swift_.base_delay_ns(), 0U);
}

}  // namespace
}  // namespace sluice::congestion
