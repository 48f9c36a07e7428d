#include "control/agent/cordon.h"

#include <gtest/gtest.h>

namespace sluice::agent {
namespace {

constexpr Cordon::Clock::time_point kNow{};

TEST(Cordon, KeepsPeoplesGuestsOutAndNotTheControllers) {
  Cordon cordon("h1");
  EXPECT_TRUE(cordon.admit(false, kNow));
  cordon.told("cordoned by run r3", kNow);
  const auto refused = cordon.admit(false, kNow);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_EQ(refused.error().message,
            "host h1 takes no guests: it is cordoned by run r3; choose another one, or first give "
            "it back: sluice uncordon h1");
  EXPECT_TRUE(cordon.admit(true, kNow));
  cordon.told("", kNow);
  EXPECT_TRUE(cordon.admit(false, kNow));
}

TEST(Cordon, EndsWithItsController) {
  Cordon cordon("h1");
  cordon.told("cordoned by an operator", kNow);
  EXPECT_FALSE(cordon.admit(false, kNow + Cordon::kHolds));
  EXPECT_TRUE(cordon.admit(false, kNow + Cordon::kHolds + std::chrono::seconds(1)));
}

}  // namespace
}  // namespace sluice::agent
