#include <gtest/gtest.h>
#include <memory>
#include <set>

#include "dataplane/protocol/sender.h"
#include "tests/unit/protocol/fixture.h"

namespace sluice::protocol {
namespace {

constexpr std::uint64_t kPages = 4 * kExtentPages;
// The last extent is not tracked, as a region of device state.
constexpr std::uint64_t kTrackedPages = 3 * kExtentPages;
constexpr PageNumber kPage = kExtentPages + 7;

class SenderAuditTest : public ::testing::Test {
 protected:
  SenderAuditTest() { make(AuditMode::kJudge); }
  void TearDown() override { EXPECT_TRUE(sender_->invariants_hold()); }

  void make(AuditMode mode, std::size_t mtu = 9000) {
    SenderConfig config;
    config.mtu = mtu;
    config.audit = mode;
    config.audited_pages = kTrackedPages;
    sender_ = std::make_unique<Sender>(config, memory_.layout,
                                       page::ShardMap(memory_.layout.extents(), 1, 0), memory_.map);
    sender_->begin_iteration();
  }
  // Written, reported, sent and, unless `acked` is false, acknowledged.
  void send(PageNumber page, int value, bool acked = true) {
    memory_.fill(page, value);
    sender_->mark_dirty(page, 1);
    OutgoingFrame out;
    while (sender_->next_frame(now_, out)) {
      ++sent_;
    }
    if (acked) {
      sender_->on_ack(make_ack(++acks_, sent_ + 1, {}, now_ - kMicrosecondNs), now_);
    }
  }
  // Until every page has been looked at.
  void audit_all() {
    for (std::uint64_t i = 0; i < kPages; ++i) {
      sender_->audit(16);
    }
  }
  std::optional<PageNumber> judge() { return sender_->find_unseen_write(0, kPages); }
  [[nodiscard]] std::uint64_t audited() const { return sender_->counters().audited_pages; }

  Memory memory_{kPages};
  std::unique_ptr<Sender> sender_;
  TimeNs now_ = kSecondNs;
  Sequence sent_ = 0;
  Sequence acks_ = 0;
};

TEST_F(SenderAuditTest, AcknowledgedPagesAreFoundUnchanged) {
  send(kPage, 1);
  send(0, 2);
  audit_all();
  EXPECT_GE(audited(), 2U);
  EXPECT_EQ(judge(), std::nullopt);
  EXPECT_EQ(sender_->pending_pages(), 0U);
}

TEST_F(SenderAuditTest, AWriteThatNoScanReportsIsFound) {
  send(kPage, 1);
  send(0, 2);
  memory_.fill(kPage, 3);
  audit_all();
  EXPECT_EQ(judge(), kPage);
  EXPECT_EQ(sender_->find_unseen_write(kPage + 1, kPages - kPage - 1), std::nullopt);
  EXPECT_EQ(sender_->find_unseen_write(0, kPage), std::nullopt);
}

TEST_F(SenderAuditTest, AWriteThatTheNextScanReportsIsInnocent) {
  send(kPage, 1);
  memory_.fill(kPage, 3);
  audit_all();
  sender_->mark_dirty(kPage, 1);
  EXPECT_EQ(judge(), std::nullopt);
  send(kPage, 3);
  audit_all();
  EXPECT_EQ(judge(), std::nullopt);
}

TEST_F(SenderAuditTest, AHotPageIsInnocentToo) {
  send(kPage, 1);
  sender_->begin_iteration();
  memory_.fill(kPage, 3);
  audit_all();
  sender_->mark_dirty(kPage, 1);
  EXPECT_EQ(sender_->deferred_pages(), 1U);
  EXPECT_EQ(judge(), std::nullopt);
  audit_all();
  EXPECT_EQ(judge(), std::nullopt);
}

TEST_F(SenderAuditTest, WhatIsUnderWayOrStillHasToGoIsNotLookedAt) {
  send(kPage, 1, /*acked=*/false);
  sender_->mark_dirty(0, 1);
  memory_.fill(kPage, 3);
  memory_.fill(0, 3);
  audit_all();
  EXPECT_EQ(audited(), 0U);
  EXPECT_EQ(judge(), std::nullopt);
}

TEST_F(SenderAuditTest, PagesThatWereZeroAreAuditedButNotThoseNeverLookedAt) {
  send(kPage, 0);
  EXPECT_EQ(sent_, 0U);
  memory_.fill(kPage, 3);
  memory_.fill(kPage + 1, 3);  // never reported: reading it could populate it
  audit_all();
  EXPECT_EQ(judge(), kPage);
  EXPECT_EQ(sender_->find_unseen_write(kPage + 1, 1), std::nullopt);
}

TEST_F(SenderAuditTest, WhatIsNotTrackedIsNotAudited) {
  send(kTrackedPages, 1);
  memory_.fill(kTrackedPages, 3);
  audit_all();
  EXPECT_EQ(audited(), 0U);
}

TEST_F(SenderAuditTest, MemoryGivenBackIsSentAgain) {
  send(kPage, 1);
  memory_.fill(kPage, 0);
  audit_all();
  EXPECT_EQ(judge(), std::nullopt);
  EXPECT_EQ(sender_->pending_pages(), 1U);
}

TEST_F(SenderAuditTest, WhereUnseenWritesAreExpectedThePageIsSentAgain) {
  make(AuditMode::kResend);
  send(kPage, 1);
  memory_.fill(kPage, 3);
  audit_all();
  EXPECT_EQ(judge(), std::nullopt);
  EXPECT_EQ(sender_->pending_pages(), 1U);
}

TEST_F(SenderAuditTest, SwitchedOffItReadsNothing) {
  make(AuditMode::kOff);
  send(kPage, 1);
  memory_.fill(kPage, 3);
  audit_all();
  EXPECT_EQ(audited(), 0U);
}

TEST_F(SenderAuditTest, PagesInFragmentsAreAuditedOnceWholly) {
  make(AuditMode::kJudge, 1500);
  send(kPage, 1);
  audit_all();
  EXPECT_GT(audited(), 0U);
  EXPECT_EQ(judge(), std::nullopt);
  memory_.fill(kPage, 3);
  audit_all();
  EXPECT_EQ(judge(), kPage);
}

// ---- the order in which pages are looked at ----

class AuditRoundsOrder : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(AuditRoundsOrder, ReachesEveryPageAndAllPartsEarly) {
  const std::uint64_t extents = GetParam();
  const std::uint64_t pages = extents * kExtentPages;
  AuditRounds audit(pages);
  for (std::uint64_t page = 0; page < pages; ++page) {
    audit.admit(page);
  }
  std::set<std::uint64_t> seen;
  std::set<std::uint64_t> quarters;
  while (seen.size() < pages) {
    const auto page = audit.next();
    if (!page) {
      continue;
    }
    ASSERT_TRUE(seen.insert(*page).second) << "page " << *page << " twice in a round";
    quarters.insert(*page * 4 / pages);
    if (seen.size() == pages / 4) {
      EXPECT_EQ(quarters.size(), 4U);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, AuditRoundsOrder, ::testing::Values(1, 2, 3, 7, 32, 33));

}  // namespace
}  // namespace sluice::protocol
