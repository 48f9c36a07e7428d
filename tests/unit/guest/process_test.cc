// What a program that the agent starts for a guest may do.
#include "drivers/guest/qemu/process.h"

#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

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

TEST(Process, AProgramThatIsNotThereIsNamed) {
  const auto status = run_and_capture({"/nowhere/program"}, kSecondNs);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "cannot start /nowhere/program: No such file or directory");
}

}  // namespace
}  // namespace sluice::guest::qemu
