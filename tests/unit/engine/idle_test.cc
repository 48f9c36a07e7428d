#include "dataplane/engine/idle.h"

#include <gtest/gtest.h>

namespace sluice::engine {
namespace {

using Action = IdleBackoff::Action;

TEST(IdleBackoff, GoesFromSpinningOverYieldingToLongerSleeps) {
  IdleBackoff backoff;
  Action last = Action::kSpin;
  TimeNs longest_ns = 0;
  for (std::uint32_t i = 0; i < IdleBackoff::kSpins + IdleBackoff::kYields + 20; ++i) {
    const IdleBackoff::Wait wait = backoff.on_idle();
    EXPECT_GE(wait.action, last) << "went back without anything to do, at " << i;
    if (wait.action == Action::kSleep) {
      EXPECT_GE(wait.sleep_ns, longest_ns);
      EXPECT_LE(wait.sleep_ns, IdleBackoff::kSleepMaxNs);
      longest_ns = wait.sleep_ns;
    }
    last = wait.action;
  }
  EXPECT_EQ(last, Action::kSleep);
  EXPECT_EQ(longest_ns, IdleBackoff::kSleepMaxNs);
}

TEST(IdleBackoff, StartsAfreshAfterWork) {
  IdleBackoff backoff;
  while (backoff.on_idle().action != Action::kSleep) {
  }
  (void)backoff.on_idle();
  backoff.on_busy();
  EXPECT_EQ(backoff.on_idle().action, Action::kSpin);
  IdleBackoff::Wait wait;
  while ((wait = backoff.on_idle()).action != Action::kSleep) {
  }
  EXPECT_EQ(wait.sleep_ns, IdleBackoff::kSleepFirstNs);
}

}  // namespace
}  // namespace sluice::engine
