#include "dataplane/congestion/rate_controller.h"

#include <gtest/gtest.h>
#include <ostream>
#include <string>

#include "dataplane/base/random.h"
#include "dataplane/wire/frame.h"

namespace sluice::congestion {
namespace {

constexpr TimeNs kStart = 5 * kSecondNs;  // a monotonic clock does not begin at 0

double bits_in(TimeNs time_ns, std::uint64_t bits_per_second) {
  return static_cast<double>(time_ns) / static_cast<double>(kSecondNs) *
         static_cast<double>(bits_per_second);
}

// Sends all frames that may leave at `now`; returns their bytes.
std::uint64_t send_due(RateController& rate, std::uint64_t frame_bytes, TimeNs now) {
  std::uint64_t bytes = 0;
  while (rate.next_send_ns() <= now) {
    rate.on_sent(frame_bytes, now);
    bytes += frame_bytes;
  }
  return bytes;
}

struct PaceCase {
  std::uint64_t bits_per_second;
  std::uint64_t frame_bytes;

  friend void PrintTo(const PaceCase& pace, std::ostream* out) {
    *out << pace.bits_per_second << " bit/s in frames of " << pace.frame_bytes << " bytes";
  }
};

class Pacing : public testing::TestWithParam<PaceCase> {};

// A worker that comes round at irregular times, but never later than the burst allows for, holds
// the rate.
TEST_P(Pacing, HoldsTheRateWithinOnePercent) {
  constexpr std::uint64_t kSeed = 99;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  const auto [bits_per_second, frame_bytes] = GetParam();
  const RateConfig config{.bits_per_second = bits_per_second};
  RateController rate(config);
  Random random(kSeed);
  TimeNs now = kStart;
  send_due(rate, frame_bytes, now);  // the burst at the beginning is not part of the steady rate
  const TimeNs begin = now;
  std::uint64_t bytes = 0;
  while (now < begin + 200 * kMillisecondNs) {
    now += 1 + random.below(config.burst_ns);
    bytes += send_due(rate, frame_bytes, now);
  }
  const double ratio = static_cast<double>(bytes) * 8 / bits_in(now - begin, bits_per_second);
  EXPECT_NEAR(ratio, 1.0, 0.01);
}

// However late the worker comes, what leaves at once is a burst and a frame, and no more.
TEST_P(Pacing, NoMoreThanABurstAfterAPause) {
  const auto [bits_per_second, frame_bytes] = GetParam();
  const RateConfig config{.bits_per_second = bits_per_second};
  RateController rate(config);
  const double most_bits =
      bits_in(config.burst_ns, bits_per_second) + static_cast<double>(frame_bytes) * 8 + 8;
  TimeNs now = kStart;
  for (const TimeNs pause_ns : {10 * kMillisecondNs, kSecondNs, 3600 * kSecondNs}) {
    now += pause_ns;
    const std::uint64_t bytes = send_due(rate, frame_bytes, now);
    EXPECT_LE(static_cast<double>(bytes) * 8, most_bits) << "pause of " << pause_ns << " ns";
    EXPECT_GT(bytes, 0U);
  }
}

// A worker slower than the burst allows for loses what it could not use, and never exceeds the cap.
TEST_P(Pacing, NeverExceedsTheCap) {
  constexpr std::uint64_t kSeed = 7;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  const auto [bits_per_second, frame_bytes] = GetParam();
  const RateConfig config{.bits_per_second = bits_per_second};
  RateController rate(config);
  Random random(kSeed);
  TimeNs now = kStart;
  std::uint64_t bytes = 0;
  for (int i = 0; i < 1'000; ++i) {
    bytes += send_due(rate, frame_bytes, now);
    const double allowed = bits_in(now - kStart + config.burst_ns, bits_per_second);
    ASSERT_LE(static_cast<double>(bytes) * 8,
              allowed * 1.001 + static_cast<double>(frame_bytes) * 8);
    now += random.below(3 * config.burst_ns);
  }
}

INSTANTIATE_TEST_SUITE_P(
    RatesAndFrames, Pacing,
    testing::Values(PaceCase{10'000'000, 8'298}, PaceCase{1'000'000'000, 1'514},
                    PaceCase{10'000'000'000, 8'298}, PaceCase{100'000'000'000, 98},
                    PaceCase{99'999'999'977, 64}, PaceCase{400'000'000'000, 65'549}));

// Parts of a nanosecond add up exactly instead of being rounded away.
TEST(RateController, CarriesPartsOfANanosecond) {
  RateController rate({.bits_per_second = 3'000'000'000});
  rate.on_sent(1, kStart);
  const TimeNs first_ns = rate.next_send_ns();
  for (int i = 0; i < 3'000; ++i) {
    rate.on_sent(1, kStart);
  }
  EXPECT_EQ(rate.next_send_ns() - first_ns, 8'000U);
}

TEST(RateController, WithoutARateOnlyTheWindowLimits) {
  RateController rate({.bits_per_second = 0, .window_frames = 64});
  for (int i = 0; i < 1'000; ++i) {
    rate.on_sent(65'535, kStart);
    ASSERT_LE(rate.next_send_ns(), kStart);
  }
  EXPECT_EQ(rate.window_frames(), 64U);
}

TEST(RateController, FirstFrameLeavesAtOnce) {
  const RateController rate({.bits_per_second = 1'000});
  EXPECT_LE(rate.next_send_ns(), TimeNs{1});
}

TEST(RateController, WindowStaysWithinWhatAcksCanCover) {
  EXPECT_EQ(RateController({.window_frames = 0}).window_frames(), 1U);
  EXPECT_EQ(RateController({.window_frames = 1}).window_frames(), 1U);
  EXPECT_EQ(RateController({.window_frames = wire::kAckSpanMax}).window_frames(),
            wire::kAckSpanMax);
  EXPECT_EQ(RateController({.window_frames = wire::kAckSpanMax + 1}).window_frames(),
            wire::kAckSpanMax);
}

TEST(RateController, AcksAndLossesLeaveRateAndWindowAlone) {
  RateController rate({.bits_per_second = 1'000'000'000, .window_frames = 64});
  rate.on_sent(8'298, kStart);
  const TimeNs next_ns = rate.next_send_ns();
  rate.on_acked(1, kMillisecondNs, kStart + kMillisecondNs);
  rate.on_lost(10, kStart + kMillisecondNs);
  EXPECT_EQ(rate.next_send_ns(), next_ns);
  EXPECT_EQ(rate.window_frames(), 64U);
}

}  // namespace
}  // namespace sluice::congestion
