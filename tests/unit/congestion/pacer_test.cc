#include "dataplane/congestion/pacer.h"

#include <gtest/gtest.h>
#include <ostream>
#include <string>

#include "dataplane/base/random.h"

namespace sluice::congestion {
namespace {

constexpr TimeNs kStart = 5 * kSecondNs;  // a monotonic clock does not begin at 0

double bits_in(TimeNs time_ns, std::uint64_t bits_per_second) {
  return static_cast<double>(time_ns) / static_cast<double>(kSecondNs) *
         static_cast<double>(bits_per_second);
}

struct PaceCase {
  std::uint64_t bits_per_second;
  std::uint64_t frame_bytes;

  friend void PrintTo(const PaceCase& pace, std::ostream* out) {
    *out << pace.bits_per_second << " bit/s in frames of " << pace.frame_bytes << " bytes";
  }
};

// Sends all frames that may leave at `now`; returns their bytes.
std::uint64_t send_due(Pacer& pacer, const PaceCase& pace, TimeNs now) {
  std::uint64_t bytes = 0;
  while (pacer.next_send_ns() <= now) {
    pacer.on_sent(pace.frame_bytes, pace.bits_per_second, now);
    bytes += pace.frame_bytes;
  }
  return bytes;
}

class Pacing : public testing::TestWithParam<PaceCase> {};

// A worker that comes round at irregular times, but never later than the burst allows for, holds
// the rate.
TEST_P(Pacing, HoldsTheRateWithinOnePercent) {
  constexpr std::uint64_t kSeed = 99;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  const auto [bits_per_second, frame_bytes] = GetParam();
  Pacer pacer;
  Random random(kSeed);
  TimeNs now = kStart;
  send_due(pacer, GetParam(), now);  // the burst at the beginning is not part of the steady rate
  const TimeNs begin = now;
  std::uint64_t bytes = 0;
  while (now < begin + 200 * kMillisecondNs) {
    now += 1 + random.below(kPacerBurstNs);
    bytes += send_due(pacer, GetParam(), now);
  }
  const double ratio = static_cast<double>(bytes) * 8 / bits_in(now - begin, bits_per_second);
  EXPECT_NEAR(ratio, 1.0, 0.01);
}

// However late the worker comes, what leaves at once is a burst and a frame, and no more.
TEST_P(Pacing, NoMoreThanABurstAfterAPause) {
  const auto [bits_per_second, frame_bytes] = GetParam();
  Pacer pacer;
  const double most_bits =
      bits_in(kPacerBurstNs, bits_per_second) + static_cast<double>(frame_bytes) * 8 + 8;
  TimeNs now = kStart;
  for (const TimeNs pause_ns : {10 * kMillisecondNs, kSecondNs, 3600 * kSecondNs}) {
    now += pause_ns;
    const std::uint64_t bytes = send_due(pacer, GetParam(), now);
    EXPECT_LE(static_cast<double>(bytes) * 8, most_bits) << "pause of " << pause_ns << " ns";
    EXPECT_GT(bytes, 0U);
  }
}

// A worker slower than the burst allows for loses what it could not use, and never exceeds the cap.
TEST_P(Pacing, NeverExceedsTheCap) {
  constexpr std::uint64_t kSeed = 7;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  const auto [bits_per_second, frame_bytes] = GetParam();
  Pacer pacer;
  Random random(kSeed);
  TimeNs now = kStart;
  std::uint64_t bytes = 0;
  for (int i = 0; i < 1'000; ++i) {
    bytes += send_due(pacer, GetParam(), now);
    const double allowed = bits_in(now - kStart + kPacerBurstNs, bits_per_second);
    ASSERT_LE(static_cast<double>(bytes) * 8,
              allowed * 1.001 + static_cast<double>(frame_bytes) * 8);
    now += random.below(3 * kPacerBurstNs);
  }
}

INSTANTIATE_TEST_SUITE_P(
    RatesAndFrames, Pacing,
    testing::Values(PaceCase{10'000'000, 8'298}, PaceCase{1'000'000'000, 1'514},
                    PaceCase{10'000'000'000, 8'298}, PaceCase{100'000'000'000, 98},
                    PaceCase{99'999'999'977, 64}, PaceCase{400'000'000'000, 65'549}));

// Parts of a nanosecond add up exactly instead of being rounded away.
TEST(Pacer, CarriesPartsOfANanosecond) {
  Pacer pacer;
  pacer.on_sent(1, 3'000'000'000, kStart);
  const TimeNs first_ns = pacer.next_send_ns();
  for (int i = 0; i < 3'000; ++i) {
    pacer.on_sent(1, 3'000'000'000, kStart);
  }
  EXPECT_EQ(pacer.next_send_ns() - first_ns, 8'000U);
}

TEST(Pacer, WithoutARateNothingWaits) {
  Pacer pacer;
  for (int i = 0; i < 1'000; ++i) {
    pacer.on_sent(65'535, 0, kStart);
    ASSERT_LE(pacer.next_send_ns(), kStart);
  }
}

TEST(Pacer, FirstFrameLeavesAtOnce) { EXPECT_LE(Pacer().next_send_ns(), TimeNs{1}); }

}  // namespace
}  // namespace sluice::congestion
