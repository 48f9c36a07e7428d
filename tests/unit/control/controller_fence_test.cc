#include "control/agent/controller_fence.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

namespace sluice::agent {
namespace {

class ControllerFenceTest : public testing::Test {
 protected:
  ControllerFenceTest() { std::filesystem::create_directories(directory_); }
  ~ControllerFenceTest() override { std::filesystem::remove_all(directory_); }

  const std::string directory_ = testing::TempDir() + "controller-fence-" +
                                 testing::UnitTest::GetInstance()->current_test_info()->name() +
                                 std::to_string(getpid());
};

TEST_F(ControllerFenceTest, RefusesOlderControllersAlsoAfterARestart) {
  EXPECT_EQ(*ControllerFence::load(directory_), 0U);
  ControllerFence fence(directory_, 0);
  EXPECT_TRUE(fence.admit(3));
  EXPECT_TRUE(fence.admit(3));
  EXPECT_EQ(fence.admit(2).error().kind, ErrorKind::kPermission);
  EXPECT_EQ(fence.highest(), 3U);

  const auto kept = ControllerFence::load(directory_);
  ASSERT_TRUE(kept);
  ControllerFence restarted(directory_, *kept);
  EXPECT_EQ(restarted.admit(2).error().kind, ErrorKind::kPermission);
  EXPECT_TRUE(restarted.admit(4));
}

TEST_F(ControllerFenceTest, ObeysNobodyWhoseEpochItCannotKeep) {
  ControllerFence fence(directory_ + "/missing", 0);
  EXPECT_FALSE(fence.admit(3));
  EXPECT_EQ(fence.highest(), 0U);
}

TEST_F(ControllerFenceTest, AFileThatHoldsSomethingElseIsRefused) {
  std::ofstream(directory_ + "/controller-epoch") << "seven";
  EXPECT_EQ(ControllerFence::load(directory_).error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace sluice::agent
