#include "control/controller/running_clock.h"

#include <atomic>
#include <gtest/gtest.h>

namespace sluice::controller {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

class RunningClockTest : public testing::Test {
 protected:
  void pass(RunningClock::Duration time) { now_ = now_.load() + time.count(); }

  std::atomic<RunningClock::Duration::rep> now_ = RunningClock::Duration(seconds(1000)).count();
  RunningClock clock_{
      [this] { return RunningClock::Steady::time_point(RunningClock::Duration(now_.load())); }};
};

TEST_F(RunningClockTest, CountsWhatPassesWhileItIsLookedAt) {
  const auto began = clock_.now();
  for (int i = 0; i < 10; ++i) {
    pass(seconds(4));
    EXPECT_EQ(clock_.now() - began, (i + 1) * seconds(4));
  }
  EXPECT_EQ(clock_.stood_still(), seconds(0));
}

TEST_F(RunningClockTest, LeavesOutWhatTheProcessStoodStill) {
  const auto began = clock_.now();
  pass(seconds(2));
  EXPECT_EQ(clock_.now() - began, seconds(2));
  pass(minutes(40));
  EXPECT_EQ(clock_.now() - began, seconds(2));
  pass(seconds(3));
  EXPECT_EQ(clock_.now() - began, seconds(5));
  EXPECT_EQ(clock_.stood_still(), minutes(40));
  pass(minutes(1));
  EXPECT_EQ(clock_.stood_still(), minutes(41));
}

}  // namespace
}  // namespace sluice::controller
