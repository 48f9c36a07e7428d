#include "dataplane/protocol/receiver.h"

#include <array>
#include <gtest/gtest.h>
#include <limits>

#include "tests/unit/protocol/fixture.h"

namespace sluice::protocol {
namespace {

constexpr std::uint64_t kPages = 600;  // two extents, the second with padding

// A frame of one record and its payload.
struct Built {
  std::vector<std::byte> payload;
  wire::DataFrame frame;
};

Built build(Sequence sequence, std::uint32_t floor_distance, const wire::Record& record, int fill) {
  Built built;
  built.payload.assign(record.payload_bytes, static_cast<std::byte>(fill));
  built.frame.header.sequence = sequence;
  built.frame.header.floor_distance = floor_distance;
  built.frame.header.records = 1;
  built.frame.header.body_bytes =
      static_cast<std::uint16_t>(wire::kRecordBytes + record.payload_bytes);
  built.frame.records[0] = record;
  built.frame.payload = built.payload;
  return built;
}

wire::Record raw(PageNumber page, std::uint16_t pages = 1) {
  return {
      wire::RecordType::kRaw, 0, pages, 0, static_cast<std::uint16_t>(pages * kPageBytes), page};
}
wire::Record zero(PageNumber page, std::uint16_t pages) {
  return {wire::RecordType::kZero, 0, pages, 0, 0, page};
}
wire::Record half(PageNumber page, std::uint8_t index) {
  return {
      wire::RecordType::kFragment, index, 1, static_cast<std::uint16_t>(index * 2048), 2048, page};
}

class ReceiverTest : public ::testing::Test {
 protected:
  bool apply(Sequence sequence, std::uint32_t floor_distance, const wire::Record& record,
             int fill) {
    const Built built = build(sequence, floor_distance, record, fill);
    return receiver_.on_data(built.frame, now_, reason_);
  }
  wire::AckFrame ack() {
    std::array<std::byte, wire::kAckBytesMax> bytes{};
    const std::size_t size = receiver_.make_ack(now_, bytes);
    wire::AckFrame frame;
    EXPECT_TRUE(wire::decode_ack(std::span(bytes).first(size), frame, reason_));
    return frame;
  }
  std::vector<page::ExtentDigest> digests() {
    std::vector<page::ExtentDigest> out(memory_.layout.extents());
    receiver_.fold_digests(out);
    return out;
  }
  page::ExtentDigest digest_of_memory(std::uint64_t extent) {
    std::array<page::PageHash, kExtentPages> hashes{};
    for (std::size_t i = 0; i < kExtentPages; ++i) {
      const PageNumber page = extent * kExtentPages + i;
      hashes[i] = memory_.layout.contains(page) ? page::hash_page(memory_.map.address(page))
                                                : page::zero_page_hash();
    }
    return page::fold_extent(hashes);
  }

  Memory memory_{kPages};
  Receiver receiver_{{.session = 1, .flow = 2, .ack_every_frames = 4, .ack_delay_max_ns = 100},
                     memory_.layout,
                     page::ShardMap(memory_.layout.extents(), 1, 0),
                     memory_.map};
  TimeNs now_ = 1'000;
  wire::DropReason reason_{};
};

// It would wrap the cumulative number, and acks after it would have bitmaps beyond any bound.
TEST_F(ReceiverTest, TheLastOfAllNumbersIsRefused) {
  EXPECT_FALSE(apply(std::numeric_limits<Sequence>::max(), 0, zero(0, 1), 0));
  EXPECT_EQ(reason_, wire::DropReason::kOutOfRange);
  ASSERT_TRUE(apply(std::numeric_limits<Sequence>::max() - 1, 0, zero(0, 1), 0));
  const wire::AckFrame frame = ack();
  EXPECT_EQ(frame.ack.cumulative, std::numeric_limits<Sequence>::max());
  EXPECT_EQ(frame.ack.bitmap_words, 0);
}

TEST_F(ReceiverTest, AppliesRawPagesAndHashesThemFromMemory) {
  ASSERT_TRUE(apply(1, 0, raw(510, 2), 7));
  EXPECT_TRUE(memory_.is_filled(510, 7));
  EXPECT_TRUE(memory_.is_filled(511, 7));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
  EXPECT_EQ(digests()[1], digest_of_memory(1));
  EXPECT_EQ(receiver_.counters().raw_pages_applied, 2U);
}

TEST_F(ReceiverTest, AnOlderFrameNeverOverwritesANewerOne) {
  ASSERT_TRUE(apply(2, 1, raw(5), 2));
  ASSERT_TRUE(apply(1, 0, raw(5), 1));
  EXPECT_TRUE(memory_.is_filled(5, 2));
  EXPECT_EQ(receiver_.counters().stale_pages, 1U);
  ASSERT_TRUE(apply(4, 1, zero(4, 3), 0));
  ASSERT_TRUE(apply(3, 0, raw(5), 3));
  EXPECT_TRUE(memory_.is_filled(5, 0));
}

TEST_F(ReceiverTest, DropsDuplicatesAndSettledFrames) {
  ASSERT_TRUE(apply(1, 0, raw(1), 1));
  EXPECT_FALSE(apply(1, 0, raw(1), 9));
  EXPECT_EQ(reason_, wire::DropReason::kDuplicate);
  ASSERT_TRUE(apply(3, 1, raw(1), 3));
  EXPECT_FALSE(apply(3, 1, raw(1), 9)) << "above the cumulative number";
  ASSERT_TRUE(apply(10, 2, raw(2), 1)) << "everything below 8 is settled";
  EXPECT_FALSE(apply(7, 0, raw(1), 9));
  EXPECT_EQ(reason_, wire::DropReason::kDuplicate);
  EXPECT_TRUE(memory_.is_filled(1, 3));
}

TEST_F(ReceiverTest, ChecksAFrameBeforeApplyingAnyOfIt) {
  Built built = build(1, 0, raw(1), 1);
  built.frame.header.records = 2;
  built.frame.records[1] = zero(590, 20);  // beyond the region
  EXPECT_FALSE(receiver_.on_data(built.frame, now_, reason_));
  EXPECT_EQ(reason_, wire::DropReason::kOutOfRange);
  EXPECT_TRUE(memory_.is_filled(1, 0));
  EXPECT_FALSE(receiver_.ack_due(now_, true));
  EXPECT_TRUE(apply(1, 0, raw(1), 1)) << "the dropped frame did not use up its number";
}

TEST_F(ReceiverTest, DropsImpossibleSequences) {
  EXPECT_FALSE(apply(0, 0, raw(1), 1));
  EXPECT_EQ(reason_, wire::DropReason::kOutOfRange);
  EXPECT_FALSE(apply(5, 5, raw(1), 1));
  EXPECT_FALSE(apply(5'000, wire::kAckSpanMax, raw(1), 1))
      << "more unsettled than a sender may have";
  EXPECT_EQ(reason_, wire::DropReason::kOutOfRange);
  EXPECT_TRUE(apply(5'000, wire::kAckSpanMax - 1, raw(1), 1));
}

TEST_F(ReceiverTest, DropsPagesOfOtherShards) {
  // Region 0 fills the first chunk, so that region 1 belongs to the second shard.
  const page::Layout layout({page::ShardMap::kChunkPages, 1});
  std::vector<std::byte> content(kPageBytes);
  const page::MemoryMap map(layout, {content.data(), content.data()});
  Receiver receiver({}, layout, page::ShardMap(layout.extents(), 2, 1), map);
  EXPECT_FALSE(receiver.on_data(build(1, 0, raw(0), 1).frame, now_, reason_));
  EXPECT_EQ(reason_, wire::DropReason::kOutOfRange);
  EXPECT_TRUE(
      receiver.on_data(build(1, 0, raw(page::ShardMap::kChunkPages), 1).frame, now_, reason_));
}

TEST_F(ReceiverTest, ZerosOntoAZeroPageAreNotWritten) {
  // The hash says zero, so memory must not be touched: mark it to see that.
  memory_.fill(3, 9);
  ASSERT_TRUE(apply(1, 0, zero(3, 1), 0));
  EXPECT_TRUE(memory_.is_filled(3, 9));
  receiver_.set_initial_hash(3, page::hash_page(memory_.map.address(3)));
  ASSERT_TRUE(apply(2, 0, zero(3, 1), 0));
  EXPECT_TRUE(memory_.is_filled(3, 0));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
}

TEST_F(ReceiverTest, FragmentsInAnyOrderMakeAPage) {
  ASSERT_TRUE(apply(2, 1, half(5, 1), 8));
  EXPECT_NE(digests()[0], digest_of_memory(0)) << "incomplete";
  ASSERT_TRUE(apply(1, 0, half(5, 0), 8));
  EXPECT_TRUE(memory_.is_filled(5, 8));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
  EXPECT_EQ(receiver_.counters().raw_pages_applied, 1U);
}

TEST_F(ReceiverTest, AnIncompletePageFoldsToNoMatchEvenIfItsContentFits) {
  ASSERT_TRUE(apply(1, 0, half(5, 0), 0));
  EXPECT_TRUE(memory_.is_filled(5, 0));
  EXPECT_NE(digests()[0], digest_of_memory(0));
}

TEST_F(ReceiverTest, FragmentsOfTwoVersionsDoNotMix) {
  ASSERT_TRUE(apply(1, 0, half(5, 0), 1));
  ASSERT_TRUE(apply(4, 3, half(5, 1), 2));
  ASSERT_TRUE(apply(2, 1, half(5, 1), 1));  // completes nothing: version 3 has begun
  EXPECT_EQ(receiver_.counters().stale_pages, 1U);
  EXPECT_NE(digests()[0], digest_of_memory(0));
  ASSERT_TRUE(apply(3, 2, half(5, 0), 2));
  EXPECT_TRUE(memory_.is_filled(5, 2));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
}

TEST_F(ReceiverTest, ZerosReplaceAnIncompletePage) {
  ASSERT_TRUE(apply(1, 0, half(5, 0), 1));
  ASSERT_TRUE(apply(3, 2, zero(5, 1), 0));
  ASSERT_TRUE(apply(2, 1, half(5, 1), 1));
  EXPECT_TRUE(memory_.is_filled(5, 0));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
}

TEST_F(ReceiverTest, AFragmentNeverChangesAVersionThatIsWhole) {
  ASSERT_TRUE(apply(1, 0, half(5, 0), 1));
  ASSERT_TRUE(apply(3, 2, zero(5, 1), 0));
  ASSERT_TRUE(apply(4, 3, half(5, 1), 1));  // claims to belong to version 3
  EXPECT_TRUE(memory_.is_filled(5, 0));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
}

// The path may narrow within a session.
TEST_F(ReceiverTest, TakesFragmentsAfterWholePages) {
  ASSERT_TRUE(apply(1, 0, raw(5), 1));
  ASSERT_TRUE(apply(2, 0, half(5, 0), 2));
  EXPECT_NE(digests()[0], digest_of_memory(0)) << "half a version matches nothing";
  ASSERT_TRUE(apply(3, 0, half(5, 1), 2));
  EXPECT_TRUE(memory_.is_filled(5, 2));
  EXPECT_EQ(digests()[0], digest_of_memory(0));
}

TEST_F(ReceiverTest, AnswersEveryProbeUnderItsOwnNumber) {
  std::array<std::byte, wire::kProbeReplyBytes> reply{};
  for (Sequence number = 1; number <= 2; ++number) {
    wire::FrameHeader probe;
    probe.type = wire::FrameType::kProbe;
    probe.session = 7;
    probe.flow = 3;
    probe.sequence = 40;
    probe.body_bytes = 1432;
    EXPECT_EQ(receiver_.make_probe_reply(probe, reply), reply.size());
    wire::ProbeReplyFrame decoded;
    ASSERT_TRUE(wire::decode_probe_reply(reply, decoded, reason_));
    EXPECT_EQ(decoded.header.sequence, number);
    EXPECT_EQ(decoded.header.session, 7U);
    EXPECT_EQ(decoded.header.flow, 3U);
    EXPECT_EQ(decoded.probe, 40U);
    EXPECT_EQ(decoded.probe_body_bytes, 1432U);
  }
}

TEST_F(ReceiverTest, AcksWhenEnoughArrivedOrTimePassedOrIdle) {
  EXPECT_FALSE(receiver_.ack_due(now_, true));
  ASSERT_TRUE(apply(1, 0, raw(1), 1));
  EXPECT_FALSE(receiver_.ack_due(now_, false));
  EXPECT_TRUE(receiver_.ack_due(now_, true));
  EXPECT_TRUE(receiver_.ack_due(now_ + 100, false));
  for (Sequence s = 2; s <= 4; ++s) {
    ASSERT_TRUE(apply(s, 0, raw(1), 1));
  }
  EXPECT_TRUE(receiver_.ack_due(now_, false));
  (void)ack();
  EXPECT_FALSE(receiver_.ack_due(now_ + 100, true));
}

TEST_F(ReceiverTest, AckTellsWhatArrived) {
  for (const Sequence s : {1U, 2U, 4U, 70U, 200U}) {
    Built built = build(s, static_cast<std::uint32_t>(s - 1), raw(1), 1);
    built.frame.header.timestamp_ns = 10 * s;
    ASSERT_TRUE(receiver_.on_data(built.frame, now_, reason_));
  }
  now_ += 50;
  ASSERT_TRUE(apply(69, 68, raw(1), 1));
  const wire::AckFrame frame = ack();
  EXPECT_EQ(frame.header.session, 1U);
  EXPECT_EQ(frame.header.flow, 2U);
  EXPECT_EQ(frame.header.sequence, 1U);
  EXPECT_EQ(frame.header.timestamp_ns, 2'000U) << "of the largest, not of the last";
  EXPECT_EQ(frame.ack.ack_delay_ns, 50U);
  EXPECT_EQ(frame.ack.cumulative, 3U);
  EXPECT_EQ(frame.ack.largest, 200U);
  std::vector<Sequence> bits;
  for (std::size_t i = 0; i < frame.ack.bitmap_words * 64U; ++i) {
    if ((frame.ack.bitmap[i / 64] >> (i % 64) & 1U) != 0) {
      bits.push_back(frame.ack.cumulative + i);
    }
  }
  EXPECT_EQ(bits, (std::vector<Sequence>{4, 69, 70, 200}));
  EXPECT_EQ(ack().header.sequence, 2U);
}

TEST_F(ReceiverTest, CumulativePassesOverWhatTheSenderSettled) {
  ASSERT_TRUE(apply(1, 0, raw(1), 1));
  ASSERT_TRUE(apply(5, 4, raw(1), 1));
  EXPECT_EQ(ack().ack.cumulative, 2U);
  ASSERT_TRUE(apply(6, 2, raw(1), 1));  // 2 and 3 are settled, 4 is not
  EXPECT_EQ(ack().ack.cumulative, 4U);
  ASSERT_TRUE(apply(4, 0, raw(1), 1));
  EXPECT_EQ(ack().ack.cumulative, 7U);
}

TEST_F(ReceiverTest, WindowOfBitsWrapsCleanly) {
  // Every second frame is lost and settled a while later: old bits must not come back as
  // duplicates.
  for (Sequence s = 1; s < 5'000; s += 2) {
    const auto floor_distance = static_cast<std::uint32_t>(std::min<Sequence>(s - 1, 700));
    ASSERT_TRUE(apply(s, floor_distance, raw(1), 1)) << s;
    const wire::Ack now = ack().ack;
    ASSERT_EQ(now.largest, s);
    ASSERT_LE(now.largest + 1 - now.cumulative, 701U);
  }
}

// ---- audit ----

TEST_F(ReceiverTest, MemoryThatDoesNotKeepWhatWasWrittenFailsTheProof) {
  ASSERT_TRUE(apply(1, 0, raw(510, 2), 7));
  const auto before = digests();
  receiver_.audit(kPages);
  EXPECT_EQ(digests(), before);
  *memory_.map.address(511) ^= std::byte{1};
  for (int i = 0; i < 100; ++i) {
    receiver_.audit(1);
  }
  EXPECT_NE(digests()[0], before[0]);
  EXPECT_EQ(digests()[0], digest_of_memory(0));
}

TEST_F(ReceiverTest, APageOfWhichPartsAreMissingIsNotAudited) {
  ASSERT_TRUE(apply(1, 0, half(5, 0), 1));
  ASSERT_TRUE(apply(2, 0, half(5, 1), 1));
  ASSERT_TRUE(apply(3, 0, half(5, 0), 2));
  const auto incomplete = digests();
  EXPECT_NE(incomplete[0], digest_of_memory(0));
  for (int i = 0; i < 100; ++i) {
    receiver_.audit(1);
  }
  EXPECT_EQ(digests(), incomplete) << "it must go on not to match";
}

}  // namespace
}  // namespace sluice::protocol
