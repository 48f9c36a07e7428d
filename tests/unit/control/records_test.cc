#include "control/agent/records.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <unistd.h>

namespace sluice::agent {
namespace {

class Records : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "sluice-records-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    run_dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(run_dir_); }

  std::string run_dir_;
};

TEST_F(Records, AHandoverSurvivesTheAgent) {
  ASSERT_TRUE(HandoverRecords::open(run_dir_)->write(
      {0xFEDCBA9876543210, "db1", "h2", "192.0.2.2:7400", 9}));
  const auto reopened = HandoverRecords::open(run_dir_);
  const auto found = reopened->read_all();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].session, 0xFEDCBA9876543210U);
  EXPECT_EQ(found[0].guest, "db1");
  EXPECT_EQ(found[0].to, "h2");
  EXPECT_EQ(found[0].address, "192.0.2.2:7400");
  EXPECT_EQ(found[0].records_id, 9U);
  reopened->remove(found[0].session);
  EXPECT_TRUE(reopened->read_all().empty());
}

TEST_F(Records, AStoreKeepsItsNumberUntilItIsLost) {
  const auto first = (*OutcomeRecords::open(run_dir_))->store_id();
  EXPECT_NE(first, 0U);
  EXPECT_EQ((*OutcomeRecords::open(run_dir_))->store_id(), first);
  std::filesystem::remove_all(run_dir_ + "/outcome");
  EXPECT_NE((*OutcomeRecords::open(run_dir_))->store_id(), first);
}

TEST_F(Records, FilesThatMakeNoSenseAreSkipped) {
  const auto records = HandoverRecords::open(run_dir_);
  std::ofstream(run_dir_ + "/handover/1.json") << "{";
  std::ofstream(run_dir_ + "/handover/2.json") << R"({"guest": 7})";
  std::ofstream(run_dir_ + "/handover/3.json.new")
      << R"({"session": "1", "guest": "a", "to": "b", "address": "c"})";
  EXPECT_TRUE(records->read_all().empty());
}

TEST_F(Records, ASessionIsUndecidedThenOwned) {
  auto outcomes = *OutcomeRecords::open(run_dir_);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_TRUE(outcomes->begin(5));
  EXPECT_FALSE(outcomes->begin(5));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  EXPECT_TRUE(outcomes->own(5, "db1"));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided)
      << "it may still turn out that the guest cannot run here";
  outcomes->mark_running(5, "db1");
  EXPECT_EQ(outcomes->outcome(5), Ownership::kOwned);
  EXPECT_FALSE(outcomes->begin(5));
}

TEST_F(Records, AGuestThatIsKeptWithoutRunningIsOwnedAndResumedLater) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_);
    EXPECT_TRUE(outcomes->begin(5));
    EXPECT_TRUE(outcomes->own(5, "db1"));
    outcomes->keep(5);
    EXPECT_EQ(outcomes->outcome(5), Ownership::kOwned);
  }
  EXPECT_EQ((*OutcomeRecords::open(run_dir_))->owned_but_not_running(),
            std::vector<std::string>{"db1"});
}

TEST_F(Records, WhatWasOwnedBeforeSaysNothingAboutALaterTwin) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_);
    EXPECT_TRUE(outcomes->begin(5));
    EXPECT_TRUE(outcomes->own(5, "db1"));
  }
  {
    auto outcomes = *OutcomeRecords::open(run_dir_);
    outcomes->conclude("db1");
    EXPECT_TRUE(outcomes->owned_but_not_running().empty());
    EXPECT_TRUE(outcomes->begin(6));
  }
  auto outcomes = *OutcomeRecords::open(run_dir_);
  EXPECT_TRUE(outcomes->owned_but_not_running().empty());
  EXPECT_EQ(outcomes->outcome(5), Ownership::kOwned);
}

TEST_F(Records, ALaterHandoverReplacesTheRecordOfAnEarlierOne) {
  const auto records = *HandoverRecords::open(run_dir_);
  ASSERT_TRUE(records.write({1, "db1", "h2", "192.0.2.2:7400"}));
  ASSERT_TRUE(records.write({2, "db2", "h2", "192.0.2.2:7400"}));
  ASSERT_TRUE(records.write({3, "db1", "h3", "192.0.2.3:7400"}));
  std::set<std::uint64_t> sessions;
  for (const auto& record : records.read_all()) sessions.insert(record.session);
  EXPECT_EQ(sessions, (std::set<std::uint64_t>{2, 3}));
}

TEST_F(Records, ACommitForADiscardedSessionIsRefused) {
  auto outcomes = *OutcomeRecords::open(run_dir_);
  EXPECT_TRUE(outcomes->begin(5));
  outcomes->discard(5);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_FALSE(outcomes->own(5, "db1"));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_FALSE(outcomes->own(6, "db1")) << "a session that never began";
}

TEST_F(Records, OwnershipSurvivesTheAgentAndSaysWhoMustStillBeResumed) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_);
    EXPECT_TRUE(outcomes->begin(1));
    EXPECT_TRUE(outcomes->begin(2));
    EXPECT_TRUE(outcomes->begin(3));
    EXPECT_TRUE(outcomes->own(1, "ran"));
    outcomes->mark_running(1, "ran");
    EXPECT_TRUE(outcomes->own(2, "waits"));
  }
  auto outcomes = *OutcomeRecords::open(run_dir_);
  EXPECT_EQ(outcomes->outcome(1), Ownership::kOwned);
  EXPECT_EQ(outcomes->outcome(2), Ownership::kOwned);
  EXPECT_EQ(outcomes->outcome(3), Ownership::kNever) << "its twin died with the agent";
  EXPECT_EQ(outcomes->owned_but_not_running(), std::vector<std::string>{"waits"});
}

}  // namespace
}  // namespace sluice::agent
