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
  ASSERT_TRUE(HandoverRecords::open(run_dir_, "boot-1")
                  ->write({0xFEDCBA9876543210, "db1", "h2", "192.0.2.2:7400", 9}));
  const auto reopened = HandoverRecords::open(run_dir_, "boot-1");
  const auto found = reopened->read_all().records;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].session, 0xFEDCBA9876543210U);
  EXPECT_EQ(found[0].guest, "db1");
  EXPECT_EQ(found[0].to, "h2");
  EXPECT_EQ(found[0].address, "192.0.2.2:7400");
  EXPECT_EQ(found[0].records_id, 9U);
  reopened->remove(found[0].session);
  EXPECT_TRUE(reopened->read_all().records.empty());
}

TEST_F(Records, AStoreKeepsItsNumberUntilItIsLost) {
  const auto first = (*OutcomeRecords::open(run_dir_, "boot-1"))->store_id();
  EXPECT_NE(first, 0U);
  EXPECT_EQ((*OutcomeRecords::open(run_dir_, "boot-1"))->store_id(), first);
  std::filesystem::remove_all(run_dir_ + "/outcome");
  EXPECT_NE((*OutcomeRecords::open(run_dir_, "boot-1"))->store_id(), first);
}

TEST_F(Records, RecordsOfAnEarlierBootAreDropped) {
  std::uint64_t first = 0;
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    first = outcomes->store_id();
    EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
    EXPECT_TRUE(outcomes->own(5));
    ASSERT_TRUE(HandoverRecords::open(run_dir_, "boot-1")->write({1, "db2", "h2", "a:1"}));
  }
  const auto outcomes = *OutcomeRecords::open(run_dir_, "boot-2");
  EXPECT_NE(outcomes->store_id(), first) << "its \"never owned\" must not be believed";
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_TRUE(outcomes->owned_but_not_running().empty());
  EXPECT_TRUE(HandoverRecords::open(run_dir_, "boot-2")->read_all().records.empty());
  EXPECT_EQ((*OutcomeRecords::open(run_dir_, "boot-2"))->store_id(), outcomes->store_id());
}

TEST_F(Records, AStoreThatCannotBeReadIsNotReplaced) {
  std::filesystem::create_directories(run_dir_ + "/outcome");
  std::ofstream(run_dir_ + "/outcome/store") << "!";
  const auto outcomes = OutcomeRecords::open(run_dir_, "boot-1");
  ASSERT_FALSE(outcomes);
  EXPECT_NE(outcomes.error().message.find(run_dir_ + "/outcome/store"), std::string::npos);
}

TEST_F(Records, AHandoverThatCannotBeReadIsNamed) {
  const auto records = HandoverRecords::open(run_dir_, "boot-1");
  ASSERT_TRUE(records->write({9, "db1", "h2", "192.0.2.2:7400"}));
  std::ofstream(run_dir_ + "/handover/1.json") << "{";
  std::ofstream(run_dir_ + "/handover/2.json") << R"({"guest": 7})";
  std::ofstream(run_dir_ + "/handover/other.json")
      << R"({"session": "1", "guest": "a", "to": "b", "address": "c"})";
  std::filesystem::create_directory(run_dir_ + "/handover/4.json");
  std::ofstream(run_dir_ + "/handover/3.json.new") << "{";
  const auto found = records->read_all();
  ASSERT_EQ(found.records.size(), 1U);
  EXPECT_EQ(found.records[0].session, 9U);
  EXPECT_EQ(found.unreadable.size(), 4U);
  std::string all;
  for (const auto& line : found.unreadable) all += line;
  for (const char* name : {"1.json", "2.json", "other.json", "4.json"})
    EXPECT_NE(all.find(run_dir_ + "/handover/" + name), std::string::npos) << name;
}

TEST_F(Records, AnOutcomeThatCannotBeReadIsNotAbsent) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
    EXPECT_TRUE(outcomes->own(5));
  }
  std::ofstream(run_dir_ + "/outcome/0000000000000005.json", std::ios::trunc) << "{";
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_EQ(outcomes->unreadable().size(), 1U);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kLost);
  EXPECT_FALSE(outcomes->begin(5, "db1", "h1"));
}

TEST_F(Records, ASessionIsUndecidedThenOwned) {
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
  EXPECT_FALSE(outcomes->begin(5, "db1", "h1"));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  EXPECT_TRUE(outcomes->own(5));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided)
      << "it may still turn out that the guest cannot run here";
  outcomes->mark_running(5);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kOwned);
  EXPECT_FALSE(outcomes->begin(5, "db1", "h1"));
}

TEST_F(Records, WhatWasOwnedBeforeSaysNothingAboutALaterTwin) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
    EXPECT_TRUE(outcomes->own(5));
  }
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    EXPECT_TRUE(outcomes->conclude("db1"));
    EXPECT_TRUE(outcomes->owned_but_not_running().empty());
    EXPECT_TRUE(outcomes->begin(6, "db1", "h1"));
  }
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_TRUE(outcomes->owned_but_not_running().empty());
  EXPECT_EQ(outcomes->outcome(5), Ownership::kOwned);
}

TEST_F(Records, ALaterHandoverReplacesTheRecordOfAnEarlierOne) {
  const auto records = *HandoverRecords::open(run_dir_, "boot-1");
  ASSERT_TRUE(records.write({1, "db1", "h2", "192.0.2.2:7400"}));
  ASSERT_TRUE(records.write({2, "db2", "h2", "192.0.2.2:7400"}));
  ASSERT_TRUE(records.write({3, "db1", "h3", "192.0.2.3:7400"}));
  std::set<std::uint64_t> sessions;
  for (const auto& record : records.read_all().records) sessions.insert(record.session);
  EXPECT_EQ(sessions, (std::set<std::uint64_t>{2, 3}));
}

TEST_F(Records, ACommitForADiscardedSessionIsRefused) {
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
  outcomes->discard(5);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_FALSE(outcomes->own(5));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  EXPECT_FALSE(outcomes->own(6)) << "a session that never began";
}

TEST_F(Records, OwnershipSurvivesTheAgentAndSaysWhoMustStillBeResumed) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    EXPECT_TRUE(outcomes->begin(1, "ran", "h1"));
    EXPECT_TRUE(outcomes->begin(2, "waits", "h1"));
    EXPECT_TRUE(outcomes->begin(3, "db1", "h1"));
    EXPECT_TRUE(outcomes->own(1));
    outcomes->mark_running(1);
    EXPECT_TRUE(outcomes->own(2));
  }
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_EQ(outcomes->outcome(1), Ownership::kOwned);
  EXPECT_EQ(outcomes->outcome(2), Ownership::kUndecided) << "it may still refuse to run here";
  EXPECT_EQ(outcomes->outcome(3), Ownership::kNever) << "its twin died with the agent";
  const auto waiting = outcomes->owned_but_not_running();
  ASSERT_EQ(waiting.size(), 1U);
  EXPECT_EQ(waiting[0].guest, "waits");
  EXPECT_EQ(waiting[0].session, 2U);
  EXPECT_TRUE(outcomes->conclude("waits"));
  EXPECT_EQ(outcomes->outcome(2), Ownership::kOwned);
}

TEST_F(Records, ATwinThatNeverRanIsUndecidedUntilItIsGone) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
    EXPECT_TRUE(outcomes->own(5));
  }
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  outcomes->disown(5);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  EXPECT_FALSE(outcomes->own(5)) << "a late commit";
  outcomes->discard(5);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
}

// Its number is for all on the link to read: whoever gave it another meaning here could tell its
// source what is not so.
TEST_F(Records, ADiscardedSessionIsNotBegunAgain) {
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
  outcomes->discard(5);
  EXPECT_FALSE(outcomes->begin(5, "web", "h3"));
  EXPECT_EQ(outcomes->outcome(5), Ownership::kNever);
  for (std::uint64_t session = 100; session < 20'000; ++session) {
    ASSERT_TRUE(outcomes->begin(session, "db1", "h1"));
    outcomes->discard(session);
  }
  EXPECT_TRUE(outcomes->begin(5, "web", "h3")) << "not all are remembered";
  EXPECT_FALSE(outcomes->begin(19'999, "web", "h3"));
}

TEST_F(Records, AnOutcomeNamesTheGuestAndItsSource) {
  {
    auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
    EXPECT_EQ(outcomes->look_up(5).guest, "");
    EXPECT_TRUE(outcomes->begin(5, "db1", "h1"));
    EXPECT_EQ(outcomes->look_up(5).from, "h1");
    EXPECT_TRUE(outcomes->own(5));
    EXPECT_TRUE(outcomes->begin(6, "db2", "h2"));
    EXPECT_TRUE(outcomes->own(6));
    outcomes->mark_running(6);
  }
  const auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_EQ(outcomes->look_up(5).guest, "db1");
  EXPECT_EQ(outcomes->look_up(5).from, "h1");
  EXPECT_EQ(outcomes->look_up(6).guest, "db2");
  EXPECT_EQ(outcomes->look_up(6).from, "h2");
}

TEST_F(Records, ARecordOfAnEarlierVersionNamesNoSource) {
  std::filesystem::create_directories(run_dir_ + "/outcome");
  std::ofstream(run_dir_ + "/outcome/0000000000000005.json")
      << R"({"guest": "db1", "state": "owned"})";
  std::ofstream(run_dir_ + "/outcome/0000000000000006.json")
      << R"({"guest": "db2", "state": "running"})";
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  EXPECT_EQ(outcomes->outcome(6), Ownership::kOwned);
  EXPECT_EQ(outcomes->look_up(6).guest, "db2");
  EXPECT_EQ(outcomes->look_up(6).from, "");
}

// Whoever asks is to ask again: nothing is lost yet.
TEST_F(Records, AStoreThatCannotBeLookedIntoOwnsNothingAndNeverOwnedNothing) {
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  std::filesystem::remove_all(run_dir_ + "/outcome");
  std::filesystem::create_symlink("outcome", run_dir_ + "/outcome");  // leads to itself
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  EXPECT_FALSE(outcomes->begin(5, "db1", "h1"));
}

TEST_F(Records, ARecordThatCannotBeReadForAMomentIsNotLost) {
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  ASSERT_TRUE(outcomes->begin(5, "db1", "h1"));
  ASSERT_TRUE(outcomes->own(5));
  outcomes->mark_running(5);
  const std::string path = run_dir_ + "/outcome/0000000000000005.json";
  std::filesystem::rename(path, run_dir_ + "/aside");
  std::filesystem::create_symlink(path, path);  // leads to itself
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
  std::filesystem::rename(run_dir_ + "/aside", path);
  EXPECT_EQ(outcomes->outcome(5), Ownership::kOwned);
}

TEST_F(Records, ATwinThatNobodyLetsRunIsNotSaidToRun) {
  auto outcomes = *OutcomeRecords::open(run_dir_, "boot-1");
  std::ofstream(run_dir_ + "/outcome/0000000000000005.json")
      << R"({"guest": "db1", "from": "h1", "state": "owned"})";
  EXPECT_EQ(outcomes->outcome(5), Ownership::kUndecided);
}

}  // namespace
}  // namespace sluice::agent
