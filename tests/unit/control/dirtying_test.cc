#include "control/model/dirtying.h"

#include <gtest/gtest.h>

namespace sluice::model {
namespace {

constexpr std::uint64_t kMib = 1UL << 20;

TEST(Dirtying, OfWhatWasNotSeenIsNothing) {
  EXPECT_EQ(fit_dirtying({}), Dirtying{});
  EXPECT_EQ(fit_dirtying({{5 * kMib, 0}}), Dirtying{});
}

TEST(Dirtying, OfOnePeriodIsItsRate) {
  EXPECT_EQ(fit_dirtying({{50 * kMib, kSecondNs / 2}}), (Dirtying{100 * kMib, 0, 0}));
}

TEST(Dirtying, ThatGrowsWithThePeriodIsARate) {
  EXPECT_EQ(fit_dirtying({{40 * kMib, 4 * kSecondNs}, {10 * kMib, kSecondNs}}),
            (Dirtying{10 * kMib, 0, 0}));
}

TEST(Dirtying, ThatDoesNotGrowIsAWorkingSet) {
  EXPECT_EQ(fit_dirtying({{96 * kMib, kSecondNs / 4}, {96 * kMib, 2 * kSecondNs}}),
            (Dirtying{0, 96 * kMib, 250}));
  // Which may have become smaller.
  EXPECT_EQ(fit_dirtying({{96 * kMib, kSecondNs / 4}, {90 * kMib, 2 * kSecondNs}}),
            (Dirtying{0, 96 * kMib, 250}));
}

TEST(Dirtying, OfBothIsTakenApart) {
  // 64 MiB that are always dirty, and 10 MiB a second besides; what lies in between says nothing
  // new.
  EXPECT_EQ(fit_dirtying({{74 * kMib, kSecondNs},
                          {66 * kMib + kMib / 2, kSecondNs / 4},
                          {84 * kMib, 2 * kSecondNs}}),
            (Dirtying{10 * kMib, 64 * kMib, 250}));
}

TEST(Dirtying, OfPeriodsOfOneLengthIsARate) {
  EXPECT_EQ(fit_dirtying({{12 * kMib, kSecondNs}, {13 * kMib, kSecondNs * 5 / 4}}),
            (Dirtying{10 * kMib + 2 * kMib / 5, 0, 0}));
}

}  // namespace
}  // namespace sluice::model
