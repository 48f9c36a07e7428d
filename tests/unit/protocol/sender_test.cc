#include "dataplane/protocol/sender.h"

#include <array>
#include <gtest/gtest.h>
#include <memory>

#include "dataplane/wire/packet.h"
#include "tests/unit/protocol/fixture.h"

namespace sluice::protocol {
namespace {

constexpr std::uint64_t kPages = 4 * kExtentPages;
constexpr TimeNs kStart = kSecondNs;

class SenderTest : public ::testing::Test {
 protected:
  SenderTest() { make({}); }
  void make(SenderConfig config) {
    sender_ = std::make_unique<Sender>(config, memory_.layout,
                                       page::ShardMap(memory_.layout.extents(), 1, 0), memory_.map);
  }
  void TearDown() override { EXPECT_TRUE(sender_->invariants_hold()); }

  void dirty(PageNumber page, int value) {
    memory_.fill(page, value);
    sender_->mark_dirty(page, 1);
  }
  // The next frame, decoded; nullptr if there is none.
  std::unique_ptr<Packet> next() {
    OutgoingFrame out;
    if (!sender_->next_frame(now_, out)) {
      return nullptr;
    }
    auto packet = std::make_unique<Packet>(out);
    EXPECT_TRUE(packet->valid);
    return packet;
  }
  // Sends one page in a frame of its own.
  Sequence send_page(PageNumber page, int value) {
    dirty(page, value);
    const auto packet = next();
    return packet ? packet->frame.header.sequence : 0;
  }
  std::size_t drain() {
    std::size_t frames = 0;
    while (next()) {
      ++frames;
    }
    return frames;
  }
  void ack(Sequence cumulative, std::initializer_list<Sequence> received = {}) {
    sender_->on_ack(make_ack(++acks_, cumulative, received, now_ - kMicrosecondNs), now_);
  }
  [[nodiscard]] const SenderCounters& counters() const { return sender_->counters(); }

  Memory memory_{kPages};
  std::unique_ptr<Sender> sender_;
  TimeNs now_ = kStart;
  Sequence acks_ = 0;
};

// ---- packing ----

TEST_F(SenderTest, PacksAdjacentPagesIntoOneRecord) {
  dirty(10, 1);
  dirty(11, 2);
  const auto packet = next();
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->frame.header.sequence, 1U);
  EXPECT_EQ(packet->frame.header.timestamp_ns, now_);
  ASSERT_EQ(packet->frame.header.records, 1);
  EXPECT_EQ(packet->frame.records[0],
            (wire::Record{wire::RecordType::kRaw, 0, 2, 0, 2 * kPageBytes, 10}));
  EXPECT_EQ(packet->frame.payload[kPageBytes], std::byte{2});
  EXPECT_EQ(sender_->in_flight_pages(), 2U);
  EXPECT_EQ(counters().raw_pages_sent, 2U);
  EXPECT_EQ(counters().bytes_sent, packet->bytes.size());
}

TEST_F(SenderTest, RecordsEndAtExtentBorders) {
  dirty(kExtentPages - 1, 1);
  dirty(kExtentPages, 1);
  const auto packet = next();
  ASSERT_EQ(packet->frame.header.records, 2);
  EXPECT_EQ(packet->frame.records[1].page, kExtentPages);
}

TEST_F(SenderTest, FillsAFrameUpToTheMtu) {
  for (const std::size_t mtu : {4500U, 9000U, 20'000U, 65'535U}) {
    make({.mtu = mtu});
    for (PageNumber page = 0; page < 40; page += 2) {
      dirty(page, 1);
    }
    const auto packet = next();
    EXPECT_EQ(packet->frame.header.records, wire::raw_pages_per_frame(mtu));
    EXPECT_LE(packet->bytes.size() + wire::kIpv4Bytes + wire::kUdpBytes, mtu);
  }
}

TEST_F(SenderTest, ZeroPagesNeverSentNeedNoFrame) {
  sender_->mark_dirty(0, kExtentPages);
  EXPECT_FALSE(next());
  EXPECT_TRUE(sender_->settled());
  EXPECT_EQ(counters().frames_sent, 0U);
}

TEST_F(SenderTest, LooksAtABoundedNumberOfPages) {
  sender_->mark_dirty(0, kPages);
  EXPECT_FALSE(next());
  EXPECT_GT(sender_->pending_pages(), 0U) << "left for the next call";
  while (sender_->pending_pages() > 0) {
    EXPECT_FALSE(next());
  }
}

TEST_F(SenderTest, ARunOfZerosUpToAnExtentCostsOneRecord) {
  for (PageNumber page = 0; page < 2 * kExtentPages; ++page) {
    dirty(page, 1);
  }
  make({.window = {1024, 1024}});
  sender_->mark_dirty(0, 2 * kExtentPages);
  drain();
  ack(counters().frames_sent + 1);
  ASSERT_TRUE(sender_->settled());
  for (PageNumber page = 0; page < 2 * kExtentPages; ++page) {
    dirty(page, 0);
  }
  // The search goes on where it stopped, so the first run starts at page 0 again.
  const auto packet = next();
  ASSERT_EQ(packet->frame.header.records, 2);
  EXPECT_EQ(packet->frame.records[0].type, wire::RecordType::kZero);
  EXPECT_EQ(packet->frame.records[0].pages, kExtentPages);
  EXPECT_EQ(packet->frame.records[1].pages, kExtentPages);
  EXPECT_EQ(counters().zero_pages_sent, 2 * kExtentPages);
}

TEST_F(SenderTest, AZeroPageIsSentWhileAnOlderVersionMayBeUnderWay) {
  send_page(3, 1);
  dirty(3, 0);
  const auto packet = next();
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->frame.records[0].type, wire::RecordType::kZero);
}

TEST_F(SenderTest, GoesOnWhereItStoppedAndWraps) {
  send_page(100, 1);
  dirty(5, 1);
  dirty(200, 1);
  const auto packet = next();
  EXPECT_EQ(packet->frame.records[0].page, 200U);
  EXPECT_EQ(packet->frame.records[1].page, 5U);
}

TEST_F(SenderTest, MarksOnlyPagesOfItsShardThatExist) {
  const page::Layout layout({10, 40 * kExtentPages});
  std::vector<std::byte> unused(kPageBytes);
  const page::MemoryMap map(layout, {unused.data(), unused.data()});
  Sender sender({}, layout, page::ShardMap(layout.extents(), 2, 1), map);
  sender.mark_dirty(0, 31 * kExtentPages);
  EXPECT_EQ(sender.pending_pages(), 0U);
  sender.mark_dirty(0, ~std::uint64_t{0});
  EXPECT_EQ(sender.pending_pages(), 9 * kExtentPages);
  EXPECT_TRUE(sender.invariants_hold());
}

// ---- window, pace, undo ----

TEST_F(SenderTest, WindowLimitsFramesInFlight) {
  make({.window = {3, 3}});
  for (PageNumber page = 0; page < 20; ++page) {
    dirty(page, 1);
  }
  EXPECT_EQ(drain(), 3U);
  ack(2);
  EXPECT_EQ(drain(), 1U);
}

TEST_F(SenderTest, UndoTakesFramesBackAsIfNeverMade) {
  for (PageNumber page = 0; page < 8; ++page) {
    dirty(page, 1);
  }
  const auto first = next();
  const auto second = next();
  ASSERT_TRUE(second);
  sender_->undo_last_frame();
  sender_->undo_last_frame();
  EXPECT_EQ(sender_->pending_pages(), 8U);
  EXPECT_EQ(sender_->in_flight_frames(), 0U);
  EXPECT_EQ(sender_->deadline_ns(), 0U);
  EXPECT_EQ(sender_->last_heard_ns(), 0U);
  EXPECT_EQ(counters().frames_sent + counters().bytes_sent + counters().raw_pages_sent, 0U);
  const auto again = next();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes, first->bytes);
  EXPECT_EQ(next()->bytes, second->bytes);
}

TEST_F(SenderTest, FloorDistanceNamesTheOldestUnsettledFrame) {
  for (PageNumber page = 0; page < 6; ++page) {
    dirty(page * 2, page == 0 ? 1 : static_cast<int>(page));
    const auto packet = next();
    EXPECT_EQ(packet->frame.header.floor_distance, page);
  }
  ack(1, {2, 4, 6});  // 1 and 3 are lost by the packet threshold, 5 is not yet
  EXPECT_EQ(counters().frames_lost, 2U);
  const auto packet = next();
  EXPECT_EQ(packet->frame.header.sequence, 7U);
  EXPECT_EQ(packet->frame.header.floor_distance, 2U);
}

// ---- acks ----

TEST_F(SenderTest, AcknowledgedPagesAreClean) {
  send_page(1, 1);
  send_page(2, 1);
  ack(2);
  EXPECT_EQ(sender_->in_flight_pages(), 1U);
  ack(2, {2});
  EXPECT_TRUE(sender_->settled());
  EXPECT_EQ(counters().frames_acked, 2U);
  EXPECT_EQ(sender_->last_heard_ns(), now_);
}

TEST_F(SenderTest, AckOfASupersededVersionDoesNotCleanThePage) {
  send_page(1, 1);
  dirty(1, 2);
  ack(2);
  EXPECT_EQ(sender_->pending_pages(), 1U);
  next();
  EXPECT_EQ(sender_->in_flight_pages(), 1U);
  ack(3);
  EXPECT_TRUE(sender_->settled());
}

TEST_F(SenderTest, LossOfASupersededVersionSendsNothingTwice) {
  send_page(1, 1);
  send_page(1, 2);
  send_page(2, 1);
  send_page(3, 1);
  ack(1, {2, 3, 4});
  EXPECT_EQ(counters().frames_lost, 1U);
  EXPECT_EQ(counters().pages_resent_after_loss, 0U);
  EXPECT_TRUE(sender_->settled());
}

TEST_F(SenderTest, AnOlderVersionsFateDoesNotTouchTheNewerInFlight) {
  send_page(1, 1);
  for (PageNumber page = 2; page < 5; ++page) {
    send_page(page, 1);
  }
  send_page(1, 2);
  ack(1, {2, 3, 4});  // the older version is lost
  EXPECT_EQ(counters().frames_lost, 1U);
  EXPECT_EQ(sender_->pending_pages(), 0U);
  EXPECT_EQ(sender_->in_flight_pages(), 1U);
  send_page(1, 3);
  ack(6);  // the version in between has arrived
  EXPECT_EQ(sender_->in_flight_pages(), 1U);
  ack(7);
  EXPECT_TRUE(sender_->settled());
}

TEST_F(SenderTest, RejectsImpossibleAcks) {
  send_page(1, 1);
  send_page(2, 1);
  std::vector<wire::AckFrame> bad(7, make_ack(1, 2, {2}, now_));
  bad[0].header.sequence = 0;
  bad[1].ack.largest = 3;  // never sent
  bad[2].ack.largest = 0;
  bad[3].ack.cumulative = 4;  // beyond largest + 1
  bad[4].ack.cumulative = 0;
  bad[5].ack.bitmap[0] |= 2;  // frame 3: beyond what was sent
  bad[6].ack.bitmap[0] = 0;   // largest itself not received
  for (const wire::AckFrame& frame : bad) {
    sender_->on_ack(frame, now_);
  }
  EXPECT_EQ(counters().acks_rejected, bad.size());
  EXPECT_EQ(counters().acks_received, bad.size());
  EXPECT_EQ(sender_->in_flight_frames(), 2U);
  EXPECT_EQ(sender_->last_heard_ns(), kStart);
}

TEST_F(SenderTest, IgnoresAcksOlderThanTheNewest) {
  send_page(1, 1);
  send_page(2, 1);
  sender_->on_ack(make_ack(5, 2, {}, 0), now_);
  sender_->on_ack(make_ack(4, 3, {}, 0), now_);
  EXPECT_EQ(sender_->in_flight_frames(), 1U);
  EXPECT_EQ(counters().acks_rejected, 0U);
}

TEST_F(SenderTest, SamplesTheRttOnlyFromNewlyAckedLargest) {
  send_page(1, 1);
  send_page(2, 1);
  now_ += 3 * kMillisecondNs;
  sender_->on_ack(make_ack(1, 1, {2}, kStart), now_);
  EXPECT_EQ(sender_->rtt().smoothed_ns(), 3 * kMillisecondNs);
  now_ += 50 * kMillisecondNs;
  sender_->on_ack(make_ack(2, 3, {}, kStart), now_);  // largest was acked before
  EXPECT_EQ(sender_->rtt().smoothed_ns(), 3 * kMillisecondNs);
  send_page(3, 1);
  sender_->on_ack(make_ack(3, 4, {}, now_ + 1), now_);  // an echo from the future
  EXPECT_EQ(sender_->rtt().smoothed_ns(), 3 * kMillisecondNs);
}

// ---- losses ----

TEST_F(SenderTest, PacketThresholdIsThree) {
  for (PageNumber page = 0; page < 4; ++page) {
    send_page(page, 1);
  }
  ack(1, {3});
  EXPECT_EQ(counters().frames_lost, 0U) << "two newer are not enough";
  ack(1, {3, 4});
  EXPECT_EQ(counters().frames_lost, 1U);
  EXPECT_EQ(sender_->pending_pages(), 1U);
}

TEST_F(SenderTest, TimeThresholdDeclaresLossAfterNineEighthsOfTheRtt) {
  send_page(1, 1);
  send_page(2, 1);
  now_ += 8 * kMillisecondNs;
  sender_->on_ack(make_ack(1, 1, {2}, kStart), now_);
  ASSERT_EQ(sender_->deadline_ns(), kStart + 9 * kMillisecondNs);
  sender_->on_time(sender_->deadline_ns() - 1);
  EXPECT_EQ(counters().frames_lost, 0U);
  sender_->on_time(sender_->deadline_ns());
  EXPECT_EQ(counters().frames_lost, 1U);
  EXPECT_EQ(counters().probe_timeouts, 0U);
  EXPECT_EQ(sender_->deadline_ns(), 0U);
}

TEST_F(SenderTest, ALostPageGoesAgainWithItsNewestContent) {
  send_page(7, 1);
  for (PageNumber page = 0; page < 3; ++page) {
    send_page(page, 1);
  }
  ack(1, {2, 3, 4});
  memory_.fill(7, 9);
  const auto packet = next();
  EXPECT_EQ(packet->frame.header.sequence, 5U);
  EXPECT_EQ(packet->frame.records[0].page, 7U);
  EXPECT_EQ(packet->frame.payload[0], std::byte{9});
  EXPECT_EQ(counters().pages_resent_after_loss, 1U);
}

TEST_F(SenderTest, ALateAckIsASpuriousLossAndLeavesThePagePending) {
  for (PageNumber page = 0; page < 4; ++page) {
    send_page(page, 1);
  }
  ack(1, {2, 3, 4});
  ack(5);
  ack(5);
  EXPECT_EQ(counters().spurious_losses, 1U);
  EXPECT_EQ(sender_->pending_pages(), 1U);
}

TEST_F(SenderTest, ACumulativeNumberThatPassedOverALossIsNoLateAck) {
  for (PageNumber page = 0; page < 4; ++page) {
    send_page(page, 1);
  }
  ack(1, {2, 3, 4});
  next();  // tells the receiver that 1 is settled
  ack(6);
  EXPECT_EQ(counters().spurious_losses, 0U);
  EXPECT_TRUE(sender_->settled());
}

// ---- probe timeout ----

TEST_F(SenderTest, ProbeTimeoutSendsTheOldestPagesAgainWithoutDeclaringLoss) {
  make({.window = {4, 4}});
  for (PageNumber page = 0; page < 6; ++page) {
    dirty(page * 2, 1);  // two pages a frame
  }
  EXPECT_EQ(drain(), 3U);
  dirty(100, 1);
  EXPECT_EQ(drain(), 1U);
  now_ = sender_->deadline_ns();
  sender_->on_time(now_);
  EXPECT_EQ(counters().probe_timeouts, 1U);
  EXPECT_EQ(counters().frames_lost, 0U);
  EXPECT_EQ(sender_->in_flight_frames(), 4U);
  EXPECT_EQ(sender_->pending_pages(), 4U) << "of the two oldest frames";
  dirty(200, 1);
  EXPECT_EQ(drain(), kProbeFrames) << "beyond the window";
}

TEST_F(SenderTest, ProbeTimeoutBacksOffUntilAnAckArrives) {
  send_page(1, 1);
  const TimeNs timeout = sender_->rtt().probe_timeout_ns();
  for (std::uint32_t expected = 0; expected < 9; ++expected) {
    const TimeNs before = now_;
    now_ = sender_->deadline_ns();
    EXPECT_EQ(now_ - before, std::min(timeout << expected, kProbeTimeoutMaxNs));
    sender_->on_time(now_);
    ASSERT_EQ(drain(), 1U);
  }
  sender_->on_ack(make_ack(1, counters().frames_sent, {counters().frames_sent}, 0), now_);
  send_page(2, 1);
  EXPECT_EQ(sender_->deadline_ns() - now_, timeout);
}

TEST_F(SenderTest, ASilentPeerNeverFillsTheSpan) {
  make({.window = {wire::kAckSpanMax, wire::kAckSpanMax}});
  for (PageNumber page = 0; page < kPages; ++page) {
    dirty(page, 1);
  }
  drain();
  EXPECT_EQ(sender_->in_flight_frames(), wire::kAckSpanMax - kProbeFrames);
  for (int i = 0; i < 50; ++i) {
    now_ = sender_->deadline_ns();
    sender_->on_time(now_);
    ASSERT_GT(drain(), 0U) << "every timeout must get a probe out";
    ASSERT_TRUE(sender_->invariants_hold());
  }
}

TEST_F(SenderTest, FramesThatCarryNothingNewAreSettledByTheProbeTimeout) {
  send_page(1, 1);
  sender_->begin_iteration();
  dirty(1, 2);
  sender_->begin_iteration();
  dirty(1, 3);  // hot: deferred, so nothing can go instead of the frame in flight
  ASSERT_EQ(sender_->deferred_pages(), 1U);
  sender_->on_time(sender_->deadline_ns());
  EXPECT_EQ(sender_->in_flight_frames(), 0U);
  EXPECT_EQ(sender_->deadline_ns(), 0U);
}

// ---- hot pages ----

TEST_F(SenderTest, TheFirstMarkingDoesNotCountAsDirtied) {
  dirty(1, 1);
  sender_->begin_iteration();
  dirty(1, 2);
  EXPECT_EQ(sender_->pending_pages(), 1U);
  EXPECT_EQ(sender_->deferred_pages(), 0U);
}

TEST_F(SenderTest, PagesDirtiedInConsecutiveIterationsWaitForTheFinalPass) {
  sender_->begin_iteration();
  dirty(1, 1);
  dirty(2, 1);
  sender_->begin_iteration();
  dirty(1, 2);
  EXPECT_EQ(sender_->deferred_pages(), 1U);
  EXPECT_EQ(sender_->pending_pages(), 1U);
  EXPECT_FALSE(sender_->settled());
  drain();
  sender_->begin_iteration();
  dirty(1, 3);
  EXPECT_EQ(sender_->deferred_pages(), 1U);
  EXPECT_FALSE(next());
  sender_->begin_final_pass();
  EXPECT_EQ(sender_->deferred_pages(), 0U);
  EXPECT_EQ(sender_->pending_pages(), 1U);
  dirty(1, 4);
  EXPECT_EQ(sender_->pending_pages(), 1U) << "nothing is deferred any more";
}

TEST_F(SenderTest, APageThatCooledDownBecomesPending) {
  sender_->begin_iteration();
  dirty(1, 1);
  sender_->begin_iteration();
  dirty(1, 2);
  sender_->begin_iteration();
  EXPECT_EQ(sender_->deferred_pages(), 1U);
  sender_->begin_iteration();
  EXPECT_EQ(sender_->deferred_pages(), 0U);
  EXPECT_EQ(sender_->pending_pages(), 1U);
}

// ---- fragments ----

class FragmentTest : public SenderTest {
 protected:
  FragmentTest() { make({.mtu = 1500}); }
};

TEST_F(FragmentTest, APageGoesInConsecutiveFrames) {
  dirty(1, 5);
  dirty(2, 0);
  for (std::uint8_t i = 0; i < 3; ++i) {
    const auto packet = next();
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->frame.records[0].type, wire::RecordType::kFragment);
    EXPECT_EQ(packet->frame.records[0].index, i);
    EXPECT_LE(packet->bytes.size() + wire::kIpv4Bytes + wire::kUdpBytes, 1500U);
  }
  EXPECT_FALSE(next());
  EXPECT_EQ(counters().raw_pages_sent, 1U);
  ack(3);
  EXPECT_FALSE(sender_->settled()) << "one fragment is missing";
  ack(4);
  EXPECT_TRUE(sender_->settled());
}

TEST_F(FragmentTest, GoesOnWhenTheWindowOpens) {
  make({.mtu = 1500, .window = {2, 2}});
  dirty(1, 5);
  EXPECT_EQ(drain(), 2U);
  ack(3);
  EXPECT_FALSE(sender_->settled());
  const auto packet = next();
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->frame.records[0].index, 2);
  ack(4);
  EXPECT_TRUE(sender_->settled());
}

TEST_F(FragmentTest, LossOfOneFragmentSendsThePageAgain) {
  dirty(1, 5);
  dirty(10, 6);
  EXPECT_EQ(drain(), 6U);
  ack(1, {2, 3, 4, 5, 6});
  EXPECT_EQ(sender_->pending_pages(), 1U);
  EXPECT_EQ(counters().pages_resent_after_loss, 1U);
  EXPECT_EQ(drain(), 3U);
  ack(10);
  EXPECT_TRUE(sender_->settled());
}

TEST_F(FragmentTest, ASupersededVersionIsNotSentToItsEnd) {
  dirty(1, 5);
  next();
  dirty(1, 6);
  const auto packet = next();
  EXPECT_EQ(packet->frame.records[0].index, 0);
  EXPECT_EQ(packet->frame.payload[0], std::byte{6});
}

TEST_F(FragmentTest, UndoGoesBackFragmentByFragment) {
  dirty(1, 5);
  std::array<std::unique_ptr<Packet>, 3> first;
  for (auto& packet : first) {
    packet = next();
  }
  for (int undone = 1; undone <= 3; ++undone) {
    for (int i = 0; i < undone; ++i) {
      sender_->undo_last_frame();
    }
    EXPECT_TRUE(sender_->invariants_hold());
    for (int i = 3 - undone; i < 3; ++i) {
      EXPECT_EQ(next()->bytes, first[static_cast<std::size_t>(i)]->bytes);
    }
  }
  EXPECT_EQ(counters().raw_pages_sent, 1U);
}

// ---- a path that narrows ----

TEST_F(SenderTest, ALowerMtuSplitsWhatIsSentFromThenOn) {
  dirty(1, 5);
  sender_->lower_mtu(1500);
  EXPECT_EQ(sender_->mtu(), 1500U);
  const auto packet = next();
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->frame.records[0].type, wire::RecordType::kFragment);
  EXPECT_LE(packet->bytes.size() + wire::kIpv4Bytes + wire::kUdpBytes, 1500U);
}

TEST_F(SenderTest, ALowerMtuGivesUpOnlyWhatIsTooLarge) {
  make({.mtu = 9000});
  for (PageNumber page = 1; page <= 3; ++page) {
    dirty(page, 5);
  }
  EXPECT_EQ(drain(), 2U) << "two pages, and one";
  sender_->lower_mtu(4500);
  EXPECT_EQ(sender_->pending_pages(), 2U);
  EXPECT_EQ(sender_->in_flight_pages(), 1U);
  EXPECT_EQ(counters().frames_lost, 1U);
  EXPECT_TRUE(sender_->invariants_hold());
  EXPECT_EQ(drain(), 2U) << "one page a frame";
  ack(2, {2, 3, 4});
  EXPECT_TRUE(sender_->settled());
}

// Each fragment of the old size that still arrives counts for its own version only.
TEST_F(FragmentTest, ALowerMtuMidPageBeginsANewVersion) {
  dirty(1, 5);
  next();
  next();
  sender_->lower_mtu(640);
  EXPECT_TRUE(sender_->invariants_hold());
  EXPECT_EQ(sender_->pending_pages(), 1U);
  EXPECT_EQ(drain(), 8U) << "all of the page";
  ack(3);
  EXPECT_EQ(sender_->in_flight_pages(), 1U) << "only fragments given up were acknowledged";
  ack(11);
  EXPECT_TRUE(sender_->settled());
}

// ---- digests ----

TEST_F(SenderTest, DigestsFollowWhatWasSent) {
  std::vector<page::ExtentDigest> before(memory_.layout.extents());
  std::vector<page::ExtentDigest> after(memory_.layout.extents());
  sender_->fold_digests(before);
  EXPECT_EQ(before[0], before[1]) << "all zero";
  dirty(kExtentPages + 3, 1);
  sender_->fold_digests(after);
  EXPECT_EQ(before, after) << "not sent yet";
  next();
  sender_->fold_digests(after);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_NE(after[1], before[1]);
}

}  // namespace
}  // namespace sluice::protocol
