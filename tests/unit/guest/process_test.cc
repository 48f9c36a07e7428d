// What a program that the agent starts for a guest may do.
#include "drivers/guest/qemu/process.h"

#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <sys/resource.h>
#include <unistd.h>

namespace sluice::guest::qemu {
namespace {

bool may_get_privileges() {
  std::ifstream file("/proc/thread-self/status");
  std::stringstream text;
  text << file.rdbuf();
  return text.str().find("NoNewPrivs:\t0") != std::string::npos;
}

TEST(Process, AStartedProgramGetsNoNewPrivilegesAndItsStarterStaysAsItWas) {
  if (!may_get_privileges()) GTEST_SKIP() << "this process may get no new privileges itself";
  for (int i = 0; i < 2; ++i) {
    const auto status =
        run_and_capture({"/bin/grep", "NoNewPrivs", "/proc/self/status"}, 20 * kSecondNs);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(*status, "NoNewPrivs:\t1\n");
  }
  EXPECT_TRUE(may_get_privileges());
}

TEST(Process, OneThatCannotBeWatchedHasNotGone) {
  const auto self = Process::open(getpid(), 0);
  ASSERT_TRUE(self) << self.error().message;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto unseen = Process::open(getpid(), 0);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(unseen);
  EXPECT_NE(unseen.error().kind, ErrorKind::kNotFound) << unseen.error().message;
}

TEST(Process, OneWhoseNumberIsUsedByAnotherHasGone) {
  const auto start_time = process_start_time(getpid()).value();
  EXPECT_TRUE(Process::open(getpid(), start_time));
  EXPECT_EQ(Process::open(getpid(), start_time + 1).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(Process::open(0, 0).error().kind, ErrorKind::kNotFound);
}

TEST(Process, AProgramThatIsNotThereIsNamed) {
  const auto status = run_and_capture({"/nowhere/program"}, kSecondNs);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "cannot start /nowhere/program: No such file or directory");
}

}  // namespace
}  // namespace sluice::guest::qemu
