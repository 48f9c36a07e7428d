#include "dataplane/base/random.h"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>

namespace sluice {
namespace {

// The reference sequence of SplitMix64: a change would make every recorded seed worthless.
TEST(Random, KnownSequence) {
  Random random(1234567);
  for (const std::uint64_t expected :
       {6457827717110365317ULL, 3203168211198807973ULL, 9817491932198370423ULL,
        4593380528125082431ULL, 16408922859458223821ULL}) {
    EXPECT_EQ(random.next(), expected);
  }
}

TEST(Random, SameSeedSameSequence) {
  Random a(7);
  Random b(7);
  Random c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t value = a.next();
    EXPECT_EQ(value, b.next());
    differs |= value != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, BelowIsUniform) {
  constexpr std::uint64_t kBound = 10;
  constexpr int kDraws = 100'000;
  Random random(42);
  std::array<int, kBound> hits{};
  for (int i = 0; i < kDraws; ++i) {
    const std::uint64_t value = random.below(kBound);
    ASSERT_LT(value, kBound);
    ++hits[value];
  }
  const auto [least, most] = std::minmax_element(hits.begin(), hits.end());
  EXPECT_GT(*least, 9'500);
  EXPECT_LT(*most, 10'500);
}

TEST(Random, BelowAtTheEdges) {
  Random random(3);
  for (int i = 0; i < 1'000; ++i) {
    ASSERT_EQ(random.below(1), 0U);
    ASSERT_LT(random.below(UINT64_MAX), UINT64_MAX);
  }
}

TEST(Random, Chance) {
  Random random(5);
  int hits = 0;
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_FALSE(random.chance(0.0));
    ASSERT_TRUE(random.chance(1.0));
    hits += random.chance(0.3) ? 1 : 0;
  }
  EXPECT_GT(hits, 29'000);
  EXPECT_LT(hits, 31'000);
}

}  // namespace
}  // namespace sluice
