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
  EXPECT_EQ(ControllerFence::load(directory_)->epoch, 0U);
  ControllerFence fence(directory_, {});
  EXPECT_TRUE(fence.admit({"aa", 3}));
  EXPECT_TRUE(fence.admit({"aa", 3}));
  EXPECT_EQ(fence.admit({"aa", 2}).error().kind, ErrorKind::kPermission);
  EXPECT_EQ(fence.obeyed().epoch, 3U);

  const auto kept = ControllerFence::load(directory_);
  ASSERT_TRUE(kept);
  ControllerFence restarted(directory_, *kept);
  EXPECT_EQ(restarted.admit({"aa", 2}).error().kind, ErrorKind::kPermission);
  EXPECT_TRUE(restarted.admit({"aa", 4}));
}

TEST_F(ControllerFenceTest, AnotherJournalIsRefusedWhateverItsEpochUntilItReplacesTheOneObeyed) {
  ControllerFence fence(directory_, {});
  ASSERT_TRUE(fence.admit({"aa", 17}));
  for (const std::uint64_t epoch : {1, 17, 18}) {
    const auto refused = fence.admit({"bb", epoch, {"cc"}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kPermission);
    EXPECT_NE(refused.error().message.find("--adopt-agents"), std::string::npos);
  }
  EXPECT_TRUE(fence.admit({"aa", 17}));
  EXPECT_TRUE(fence.admit({"bb", 1, {"cc", "aa"}}));
  // Whoever still leads by the old one does so no more.
  EXPECT_EQ(fence.admit({"aa", 18}).error().kind, ErrorKind::kPermission);
  const auto kept = ControllerFence::load(directory_);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->journal, "bb");
  EXPECT_EQ(kept->epoch, 1U);
}

// Two that lead by copies of one journal count their epochs each for itself.
TEST_F(ControllerFenceTest, OfTwoControllersWithOneEpochTheFirstIsObeyedAlsoAfterARestart) {
  ControllerFence fence(directory_, {});
  ASSERT_TRUE(fence.admit({"aa", 2, {}, "1a"}));
  const auto refused = fence.admit({"aa", 2, {}, "2b"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kPermission);
  for (const char* word : {"same epoch 2", "--adopt-agents"})
    EXPECT_NE(refused.error().message.find(word), std::string::npos) << refused.error().message;
  EXPECT_TRUE(fence.admit({"aa", 2, {}, "1a"}));
  EXPECT_TRUE(fence.admit({"aa", 2})) << "one of an earlier version says no instance";

  const auto kept = ControllerFence::load(directory_);
  ASSERT_TRUE(kept);
  ControllerFence restarted(directory_, *kept);
  EXPECT_EQ(restarted.admit({"aa", 2, {}, "2b"}).error().kind, ErrorKind::kPermission);
  EXPECT_TRUE(restarted.admit({"aa", 3, {}, "3c"}));
  EXPECT_EQ(restarted.obeyed().instance, "3c");
  EXPECT_EQ(restarted.admit({"aa", 4, {}, "no such id"}).error().kind, ErrorKind::kInvalid);
}

TEST_F(ControllerFenceTest, WhoeverSaysItsInstanceFirstIsTakenForTheOneThatHasTheEpoch) {
  std::ofstream(directory_ + "/controller-epoch") << "17 aa";
  const auto kept = ControllerFence::load(directory_);
  ASSERT_TRUE(kept) << kept.error().message;
  ControllerFence fence(directory_, *kept);
  EXPECT_TRUE(fence.admit({"aa", 17, {}, "1a"}));
  EXPECT_EQ(fence.admit({"aa", 17, {}, "2b"}).error().kind, ErrorKind::kPermission);
}

TEST_F(ControllerFenceTest, WhatAnEarlierVersionKeptIsReadAndItsControllersAreObeyedByNumber) {
  std::ofstream(directory_ + "/controller-epoch") << "17";
  const auto kept = ControllerFence::load(directory_);
  ASSERT_TRUE(kept) << kept.error().message;
  ControllerFence fence(directory_, *kept);
  EXPECT_EQ(fence.admit({"", 16}).error().kind, ErrorKind::kPermission);
  EXPECT_EQ(fence.admit({"aa", 16}).error().kind, ErrorKind::kPermission);
  EXPECT_TRUE(fence.admit({"", 17}));
  EXPECT_TRUE(fence.admit({"aa", 18}));
  EXPECT_EQ(fence.admit({"bb", 19}).error().kind, ErrorKind::kPermission);
  // A controller that went back to that version.
  EXPECT_TRUE(fence.admit({"", 19}));
  EXPECT_EQ(fence.obeyed().journal, "aa");
  std::uint64_t number = 0;
  std::ifstream(directory_ + "/controller-epoch") >> number;
  EXPECT_EQ(number, 19U) << "an agent that goes back reads it";
}

TEST_F(ControllerFenceTest, ObeysNobodyWhoseEpochItCannotKeep) {
  ControllerFence fence(directory_ + "/missing", {});
  EXPECT_FALSE(fence.admit({"aa", 3}));
  EXPECT_EQ(fence.obeyed().epoch, 0U);
  EXPECT_EQ(fence.admit({"no such id", 3}).error().kind, ErrorKind::kInvalid);
}

TEST_F(ControllerFenceTest, AFileThatHoldsSomethingElseIsRefused) {
  for (const char* text : {"seven", "7 of nine"}) {
    std::ofstream(directory_ + "/controller-epoch") << text;
    EXPECT_EQ(ControllerFence::load(directory_).error().kind, ErrorKind::kInvalid) << text;
  }
}

}  // namespace
}  // namespace sluice::agent
