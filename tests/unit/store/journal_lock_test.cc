#include "control/store/journal_lock.h"

#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <utility>

namespace sluice::store {
namespace {

class JournalLockTest : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(directory_); }

  const std::string directory_ = [] {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-lock-XXXXXX").string();
    return std::string(mkdtemp(pattern.data()));
  }();
  const std::string journal_ = directory_ + "/journal.db";
};

TEST_F(JournalLockTest, ASecondControllerOfTheNameIsRefusedAndToldOfTheFirst) {
  auto first = JournalLock::take(journal_, "c1");
  ASSERT_TRUE(first) << first.error().message;
  for (int i = 0; i < 2; ++i) {
    const auto second = JournalLock::take(journal_, "c1");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
    EXPECT_EQ(second.error().message.find(
                  fmt::format("another controller c1 (pid {}) runs on the journal", getpid())),
              0U)
        << second.error().message;
  }
  EXPECT_TRUE(JournalLock::take(journal_, "c2")) << "one that stands by";
  { const JournalLock gone = std::move(*first); }
  EXPECT_TRUE(JournalLock::take(journal_, "c1"));
}

TEST_F(JournalLockTest, WhereItCannotBeKeptNobodyHasIt) {
  const auto lock = JournalLock::take(directory_ + "/missing/journal.db", "c1");
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::kPermission);
}

}  // namespace
}  // namespace sluice::store
