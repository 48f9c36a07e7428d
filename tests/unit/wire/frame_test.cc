#include "dataplane/wire/frame.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <set>
#include <string>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/wire/codec.h"

namespace sluice::wire {
namespace {

using Bytes = std::vector<std::byte>;

// Offsets as drawn in frame.h, written out once more: the tests must not share the code's.
constexpr std::size_t kTypeAt = 1;
constexpr std::size_t kBodyBytesAt = 4;
constexpr std::size_t kRecordsAt = 6;
constexpr std::size_t kReservedAt = 7;
constexpr std::size_t kSequenceAt = 16;
constexpr std::size_t kFloorDistanceAt = 32;
constexpr std::size_t kCrcAt = 36;
constexpr std::size_t kBodyAt = 40;

constexpr FrameHeader kHeader{.type = FrameType::kData,
                              .flow = 0x0102,
                              .body_bytes = 0,
                              .records = 0,
                              .session = 0x1112131415161718,
                              .sequence = 0x2122232425262728,
                              .timestamp_ns = 0x3132333435363738,
                              .floor_distance = 0x41424344};

Record raw(PageNumber page, std::uint16_t pages) {
  return {.type = RecordType::kRaw,
          .index = 0,
          .pages = pages,
          .offset = 0,
          .payload_bytes = static_cast<std::uint16_t>(pages * kPageBytes),
          .page = page};
}

Record zero(PageNumber page, std::uint16_t pages) {
  return {.type = RecordType::kZero,
          .index = 0,
          .pages = pages,
          .offset = 0,
          .payload_bytes = 0,
          .page = page};
}

Record fragment(PageNumber page, std::uint8_t index, std::uint16_t offset, std::uint16_t bytes) {
  return {.type = RecordType::kFragment,
          .index = index,
          .pages = 1,
          .offset = offset,
          .payload_bytes = bytes,
          .page = page};
}

// Written from the definition (reflected polynomial 0x82F63B78), bit by bit.
std::uint32_t slow_crc32c(std::span<const std::byte> bytes) {
  std::uint32_t crc = UINT32_MAX;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    }
  }
  return ~crc;
}

// Makes the checksum right again after a test changed the first `covered_bytes`.
void reseal(Bytes& frame, std::size_t covered_bytes) {
  store_le(frame.data() + kCrcAt, std::uint32_t{0});
  store_le(frame.data() + kCrcAt, slow_crc32c(std::span(frame).first(covered_bytes)));
}

// The records' frame with a payload of a repeating pattern.
Bytes data_frame(const std::vector<Record>& records, const FrameHeader& header = kHeader) {
  Bytes frame(data_prefix_bytes(records.size()));
  EXPECT_EQ(encode_data_prefix(header, records, frame), frame.size());
  std::size_t payload_bytes = 0;
  for (const Record& record : records) {
    payload_bytes += record.payload_bytes;
  }
  for (std::size_t i = 0; i < payload_bytes; ++i) {
    frame.push_back(static_cast<std::byte>(i * 7 + i / 256));
  }
  return frame;
}

Bytes ack_frame(const Ack& ack, const FrameHeader& header = kHeader) {
  Bytes frame(kAckBytesMax);
  frame.resize(encode_ack(header, ack, frame));
  return frame;
}

Ack ack_of_words(std::uint16_t words) {
  Ack ack{.cumulative = 0x5152535455565758,
          .largest = 0x6162636465666768,
          .ack_delay_ns = 0x71727374,
          .bitmap_words = words,
          .bitmap = {}};
  for (std::size_t i = 0; i < words; ++i) {
    ack.bitmap[i] = 0x8182838485868788 + i;
  }
  return ack;
}

// The reason for which decoding fails; kCount if it does not fail.
DropReason data_drop(std::span<const std::byte> frame) {
  DataFrame out;
  DropReason reason = DropReason::kCount;
  const bool decoded = decode_data(frame, out, reason);
  EXPECT_EQ(decoded, reason == DropReason::kCount);
  return reason;
}

DropReason ack_drop(std::span<const std::byte> frame) {
  AckFrame out;
  DropReason reason = DropReason::kCount;
  const bool decoded = decode_ack(frame, out, reason);
  EXPECT_EQ(decoded, reason == DropReason::kCount);
  return reason;
}

// The reason for which a DATA frame of this one record, unlike anything the encoder makes, is
// dropped.
DropReason record_drop(const Record& record, const FrameHeader& header = kHeader) {
  Bytes frame = data_frame({zero(0, 1)}, header);
  std::byte* at = frame.data() + kBodyAt;
  at[0] = static_cast<std::byte>(record.type);
  at[1] = std::byte{record.index};
  store_le(at + 2, record.pages);
  store_le(at + 4, record.offset);
  store_le(at + 6, record.payload_bytes);
  store_le(at + 8, record.page);
  const std::size_t body_bytes = kRecordBytes + record.payload_bytes;
  store_le(frame.data() + kBodyBytesAt, static_cast<std::uint16_t>(body_bytes));
  reseal(frame, data_prefix_bytes(1));
  frame.resize(kBodyAt + body_bytes);
  return data_drop(frame);
}

Bytes to_bytes(const std::vector<int>& values) {
  Bytes bytes;
  for (const int value : values) {
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

// A change here is a change of the format: raise kVersion.
TEST(FrameGolden, DataPrefix) {
  const Bytes golden = to_bytes({
      0x02, 0x01, 0x02, 0x01, 0x20, 0x20, 0x02, 0x00,  // version, type, flow, body_bytes, records
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // session
      0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,  // sequence
      0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,  // timestamp_ns
      0x44, 0x43, 0x42, 0x41, 0xDC, 0xCD, 0xDB, 0x14,  // floor_distance, header_crc
      0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x20,  // RAW, index, pages, offset, payload_bytes
      0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x00, 0x00,  // page
      0x02, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00,  // ZERO
      0x00, 0x66, 0x64, 0x63, 0x62, 0x61, 0x00, 0x00,
  });
  const Bytes frame = data_frame({raw(0x515253545556, 2), zero(0x616263646600, 512)});
  EXPECT_EQ(Bytes(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(golden.size())),
            golden);
}

TEST(FrameGolden, Ack) {
  const Bytes golden = to_bytes({
      0x02, 0x02, 0x02, 0x01, 0x28, 0x00, 0x00, 0x00,  // version, type, flow, body_bytes, records
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // session
      0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,  // sequence
      0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,  // timestamp_ns
      0x00, 0x00, 0x00, 0x00, 0x30, 0x35, 0x05, 0x3E,  // floor_distance, header_crc
      0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,  // cumulative
      0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61,  // largest
      0x74, 0x73, 0x72, 0x71, 0x02, 0x00, 0x00, 0x00,  // ack_delay_ns, bitmap_words
      0x88, 0x87, 0x86, 0x85, 0x84, 0x83, 0x82, 0x81,  // bitmap
      0x98, 0x97, 0x96, 0x95, 0x94, 0x93, 0x92, 0x91,
  });
  Ack ack = ack_of_words(2);
  ack.bitmap[1] = 0x9192939495969798;
  EXPECT_EQ(ack_frame(ack), golden);
}

rc::Gen<Record> any_run() {
  return rc::gen::exec([] {
    const bool is_raw = *rc::gen::arbitrary<bool>();
    const auto pages_max = is_raw ? kRawPagesMax : kZeroPagesMax;
    const auto pages =
        *rc::gen::inRange<std::uint16_t>(1, static_cast<std::uint16_t>(pages_max + 1));
    const auto extent = *rc::gen::inRange<std::uint64_t>(0, UINT64_MAX / kExtentPages);
    const auto first = *rc::gen::inRange<std::uint64_t>(0, kExtentPages - pages + 1);
    const PageNumber page = extent * kExtentPages + first;
    return is_raw ? raw(page, pages) : zero(page, pages);
  });
}

FrameHeader any_header() {
  FrameHeader header = kHeader;
  header.flow = *rc::gen::arbitrary<std::uint16_t>();
  header.session = *rc::gen::arbitrary<std::uint64_t>();
  header.sequence = *rc::gen::inRange<std::uint64_t>(1, UINT64_MAX);
  header.timestamp_ns = *rc::gen::arbitrary<std::uint64_t>();
  const auto floor_max = std::min<std::uint64_t>(header.sequence, UINT32_MAX);
  header.floor_distance =
      *rc::gen::inRange<std::uint32_t>(0, static_cast<std::uint32_t>(floor_max));
  return header;
}

void expect_same(const FrameHeader& a, const FrameHeader& b) {
  RC_ASSERT(a.flow == b.flow);
  RC_ASSERT(a.session == b.session);
  RC_ASSERT(a.sequence == b.sequence);
  RC_ASSERT(a.timestamp_ns == b.timestamp_ns);
}

RC_GTEST_PROP(FrameRoundTrip, Data, ()) {
  const FrameHeader header = any_header();
  auto records = *rc::gen::resize(
      kRecordsMax, rc::gen::nonEmpty(rc::gen::container<std::vector<Record>>(any_run())));
  records.resize(std::min(records.size(), kRecordsMax));
  // Together they must fit body_bytes.
  std::size_t payload_bytes = 0;
  for (Record& record : records) {
    if (payload_bytes + record.payload_bytes > kRawPagesMax * kPageBytes) {
      record = zero(record.page, record.pages);
    }
    payload_bytes += record.payload_bytes;
  }
  Bytes frame = data_frame(records, header);
  const std::size_t frame_bytes = frame.size();
  frame.resize(frame_bytes + *rc::gen::inRange<std::size_t>(0, 20));

  DataFrame out;
  DropReason reason{};
  RC_ASSERT(decode_data(frame, out, reason));
  expect_same(out.header, header);
  RC_ASSERT(out.header.type == FrameType::kData);
  RC_ASSERT(out.header.floor_distance == header.floor_distance);
  RC_ASSERT(out.header.body_bytes == frame_bytes - kFrameHeaderBytes);
  RC_ASSERT(out.header.records == records.size());
  RC_ASSERT(std::equal(records.begin(), records.end(), out.records.begin()));
  RC_ASSERT(out.payload.data() == frame.data() + data_prefix_bytes(records.size()));
  RC_ASSERT(out.payload.size() == payload_bytes);

  const auto key = peek(frame, reason);
  RC_ASSERT(key.has_value());
  RC_ASSERT(key->type == FrameType::kData);
  RC_ASSERT(key->session == header.session);
  RC_ASSERT(key->flow == header.flow);
}

RC_GTEST_PROP(FrameRoundTrip, Ack, ()) {
  const FrameHeader header = any_header();
  Ack ack;
  ack.cumulative = *rc::gen::inRange<std::uint64_t>(1, UINT64_MAX);
  ack.largest = *rc::gen::inRange<std::uint64_t>(1, UINT64_MAX);
  ack.ack_delay_ns = *rc::gen::arbitrary<std::uint32_t>();
  ack.bitmap_words = *rc::gen::inRange<std::uint16_t>(0, kAckWordsMax + 1);
  std::uint16_t words_needed = 0;
  for (std::uint16_t i = 0; i < ack.bitmap_words; ++i) {
    ack.bitmap[i] = *rc::gen::element<std::uint64_t>(0, 1, UINT64_MAX, 0x8000000000000000);
    if (ack.bitmap[i] != 0) {
      words_needed = static_cast<std::uint16_t>(i + 1);
    }
  }
  const Bytes frame = ack_frame(ack, header);

  AckFrame out;
  std::fill(out.ack.bitmap.begin(), out.ack.bitmap.end(), UINT64_MAX);
  DropReason reason{};
  RC_ASSERT(decode_ack(frame, out, reason));
  expect_same(out.header, header);
  RC_ASSERT(out.header.type == FrameType::kAck);
  RC_ASSERT(out.header.floor_distance == 0U);
  ack.bitmap_words = words_needed;  // empty words at the end are not sent
  RC_ASSERT(out.ack == ack);
}

TEST(FrameRoundTrip, FragmentsOfEverySize) {
  for (std::uint16_t size = kPageBytes / kFragmentsMax; size < kPageBytes; ++size) {
    std::uint8_t index = 0;
    for (std::size_t offset = 0; offset < kPageBytes; offset += size, ++index) {
      const auto bytes =
          static_cast<std::uint16_t>(std::min<std::size_t>(size, kPageBytes - offset));
      const Record record = fragment(77, index, static_cast<std::uint16_t>(offset), bytes);
      DataFrame out;
      DropReason reason{};
      const Bytes frame = data_frame({record});
      ASSERT_TRUE(decode_data(frame, out, reason)) << "size " << size << " index " << int{index};
      ASSERT_EQ(out.records[0], record);
    }
  }
}

TEST(FrameRoundTrip, LargestBody) {
  std::vector<Record> records(kRecordsMax, zero(0, 1));
  records[3] = raw(kExtentPages - kRawPagesMax, kRawPagesMax);
  const Bytes frame = data_frame(records);
  EXPECT_EQ(frame.size(), kDataPrefixBytesMax + kRawPagesMax * kPageBytes);
  EXPECT_EQ(data_drop(frame), DropReason::kCount);
}

// Every length below the whole is refused, and AddressSanitizer sees any look beyond it.
TEST(FrameHostile, TruncatedAtEveryLength) {
  const Bytes data = data_frame({raw(8, 2), zero(512, 3)});
  const Bytes ack = ack_frame(ack_of_words(3));
  for (std::size_t length = 0; length < data.size(); ++length) {
    const Bytes cut(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(length));
    const auto reason = length < kFrameHeaderBytes ? DropReason::kTooShort : DropReason::kBadLength;
    ASSERT_EQ(data_drop(cut), reason) << "length " << length;
  }
  for (std::size_t length = 0; length < ack.size(); ++length) {
    const Bytes cut(ack.begin(), ack.begin() + static_cast<std::ptrdiff_t>(length));
    const auto reason = length < kFrameHeaderBytes ? DropReason::kTooShort : DropReason::kBadLength;
    ASSERT_EQ(ack_drop(cut), reason) << "length " << length;
  }
}

TEST(FrameHostile, EverySingleBitFlipIsDetected) {
  const std::vector<Record> records{raw(8, 2), zero(512, 3)};
  const Bytes data = data_frame(records);
  for (std::size_t bit = 0; bit < data_prefix_bytes(records.size()) * 8; ++bit) {
    Bytes flipped = data;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_NE(data_drop(flipped), DropReason::kCount) << "bit " << bit;
  }
  const Bytes ack = ack_frame(ack_of_words(3));
  for (std::size_t bit = 0; bit < ack.size() * 8; ++bit) {
    Bytes flipped = ack;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_NE(ack_drop(flipped), DropReason::kCount) << "bit " << bit;
  }
}

TEST(FrameHostile, PaddingIsIgnoredAndPayloadIsNotCovered) {
  Bytes frame = data_frame({raw(8, 1)});
  frame[data_prefix_bytes(1)] ^= std::byte{0xFF};
  frame.resize(frame.size() + 18, std::byte{0xAA});
  DataFrame out;
  DropReason reason{};
  ASSERT_TRUE(decode_data(frame, out, reason));
  EXPECT_EQ(out.payload.size(), kPageBytes);

  Bytes ack = ack_frame(ack_of_words(1));
  ack.resize(ack.size() + 18, std::byte{0xAA});
  EXPECT_EQ(ack_drop(ack), DropReason::kCount);
}

TEST(FrameHostile, VersionAndType) {
  Bytes data = data_frame({zero(8, 1)});
  Bytes ack = ack_frame(ack_of_words(1));
  EXPECT_EQ(data_drop(ack), DropReason::kBadType);
  EXPECT_EQ(ack_drop(data), DropReason::kBadType);
  for (const int type : {0, 5, 255}) {
    data[kTypeAt] = static_cast<std::byte>(type);
    EXPECT_EQ(data_drop(data), DropReason::kBadType);
  }
  for (const int version : {0, kVersion + 1, 255}) {
    data[0] = static_cast<std::byte>(version);
    ack[0] = static_cast<std::byte>(version);
    EXPECT_EQ(data_drop(data), DropReason::kBadVersion);
    EXPECT_EQ(ack_drop(ack), DropReason::kBadVersion);
  }
}

TEST(FrameHostile, PeekChecksOnlyWhatItNeeds) {
  Bytes frame = data_frame({raw(8, 1)});
  frame.resize(kFrameHeaderBytes);
  frame[kCrcAt] ^= std::byte{1};
  DropReason reason{};
  EXPECT_TRUE(peek(frame, reason).has_value());
  EXPECT_FALSE(peek(std::span(frame).first(kFrameHeaderBytes - 1), reason).has_value());
  EXPECT_EQ(reason, DropReason::kTooShort);
  frame[kTypeAt] = std::byte{5};
  EXPECT_FALSE(peek(frame, reason).has_value());
  EXPECT_EQ(reason, DropReason::kBadType);
  frame[0] = std::byte{0};
  EXPECT_FALSE(peek(frame, reason).has_value());
  EXPECT_EQ(reason, DropReason::kBadVersion);
}

TEST(FrameHostile, ReservedHeaderByte) {
  Bytes data = data_frame({zero(8, 1)});
  data[kReservedAt] = std::byte{1};
  EXPECT_EQ(data_drop(data), DropReason::kBadChecksum);
  reseal(data, data.size());
  EXPECT_EQ(data_drop(data), DropReason::kBadRecord);

  Bytes ack = ack_frame(ack_of_words(1));
  ack[kReservedAt] = std::byte{1};
  reseal(ack, ack.size());
  EXPECT_EQ(ack_drop(ack), DropReason::kBadRecord);
}

TEST(FrameHostile, SequenceAndFloor) {
  Bytes data = data_frame({zero(8, 1)});
  store_le(data.data() + kSequenceAt, std::uint64_t{0x41424344});
  reseal(data, data.size());
  EXPECT_EQ(data_drop(data), DropReason::kOutOfRange) << "the floor would be 0";
  store_le(data.data() + kSequenceAt, std::uint64_t{0x41424345});
  reseal(data, data.size());
  EXPECT_EQ(data_drop(data), DropReason::kCount);
  store_le(data.data() + kSequenceAt, std::uint64_t{0});
  store_le(data.data() + kFloorDistanceAt, std::uint32_t{0});
  reseal(data, data.size());
  EXPECT_EQ(data_drop(data), DropReason::kOutOfRange);

  Bytes ack = ack_frame(ack_of_words(1));
  store_le(ack.data() + kSequenceAt, std::uint64_t{0});
  reseal(ack, ack.size());
  EXPECT_EQ(ack_drop(ack), DropReason::kOutOfRange);
}

// A checksum in the clear would tell about the record table that is encrypted.
TEST(Frame, ToBeSealedHasNoChecksum) {
  FrameHeader header;
  header.sequence = 5;
  Bytes data(kDataPrefixBytesMax);
  const Record record = zero(8, 1);
  data.resize(encode_data_prefix(header, {&record, 1}, data, Protection::kSealed));
  Bytes ack(kAckBytesMax);
  ack.resize(encode_ack(header, ack_of_words(1), ack, Protection::kSealed));
  DataFrame data_out;
  AckFrame ack_out;
  for (Bytes* frame : {&data, &ack}) {
    EXPECT_EQ(load_le<std::uint32_t>(frame->data() + 36), 0U);
  }
  DropReason reason{};
  EXPECT_TRUE(decode_data(data, data_out, reason, Protection::kSealed));
  EXPECT_EQ(data_out.records[0], record);
  EXPECT_TRUE(decode_ack(ack, ack_out, reason, Protection::kSealed));
  EXPECT_EQ(data_drop(data), DropReason::kBadChecksum);
  EXPECT_EQ(ack_drop(ack), DropReason::kBadChecksum);
  data[36] = std::byte{1};
  EXPECT_FALSE(decode_data(data, data_out, reason, Protection::kSealed));
  EXPECT_EQ(reason, DropReason::kBadRecord);
}

TEST(FrameHostile, LengthsThatDisagree) {
  const Bytes whole = data_frame({raw(8, 1), zero(9, 1)});
  const std::size_t body_bytes = whole.size() - kFrameHeaderBytes;
  for (const std::size_t wrong : {std::size_t{0}, kRecordBytes, 2 * kRecordBytes - 1,
                                  2 * kRecordBytes, body_bytes - 1, body_bytes + 1}) {
    Bytes frame = whole;
    frame.resize(whole.size() + 1);
    store_le(frame.data() + kBodyBytesAt, static_cast<std::uint16_t>(wrong));
    reseal(frame, data_prefix_bytes(2));
    EXPECT_EQ(data_drop(frame), DropReason::kBadLength) << wrong;
  }
  for (const std::size_t records : {std::size_t{0}, kRecordsMax + 1, std::size_t{255}}) {
    Bytes frame = whole;
    frame[kRecordsAt] = static_cast<std::byte>(records);
    reseal(frame, std::min(data_prefix_bytes(records), frame.size()));
    EXPECT_EQ(data_drop(frame), DropReason::kBadLength) << records;
  }
}

TEST(FrameHostile, Runs) {
  EXPECT_EQ(record_drop(raw(0, 1)), DropReason::kCount);
  EXPECT_EQ(record_drop(raw(kExtentPages - 15, 15)), DropReason::kCount);
  EXPECT_EQ(record_drop(raw(kExtentPages - 14, 15)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(raw(UINT64_MAX, 1)), DropReason::kCount);
  EXPECT_EQ(record_drop(raw(UINT64_MAX, 2)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(raw(0, 0)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(raw(0, 16)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(zero(0, 512)), DropReason::kCount);
  EXPECT_EQ(record_drop(zero(1, 512)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(zero(0, 513)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(zero(0, 0)), DropReason::kBadRecord);

  for (Record record : {raw(0, 1), zero(0, 1)}) {
    record.index = 1;
    EXPECT_EQ(record_drop(record), DropReason::kBadRecord);
    record.index = 0;
    record.offset = 8;
    EXPECT_EQ(record_drop(record), DropReason::kBadRecord);
    record.offset = 0;
    record.payload_bytes = 4095;
    EXPECT_EQ(record_drop(record), DropReason::kBadRecord);
    for (const int type : {0, 4, 255}) {
      record.type = static_cast<RecordType>(type);
      EXPECT_EQ(record_drop(record), DropReason::kBadRecord);
    }
  }
}

TEST(FrameHostile, Fragments) {
  EXPECT_EQ(record_drop(fragment(5, 0, 0, 1368)), DropReason::kCount);
  EXPECT_EQ(record_drop(fragment(5, 1, 1368, 1368)), DropReason::kCount);
  EXPECT_EQ(record_drop(fragment(5, 2, 2736, 1360)), DropReason::kCount);

  EXPECT_EQ(record_drop(fragment(5, 0, 0, 0)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(fragment(5, 0, 0, 4096)), DropReason::kBadRecord) << "a page is RAW";
  EXPECT_EQ(record_drop(fragment(5, 0, 8, 1368)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(fragment(5, 1, 1360, 1368)), DropReason::kBadRecord);
  EXPECT_EQ(record_drop(fragment(5, 2, 2736, 1361)), DropReason::kBadRecord) << "beyond the page";
  EXPECT_EQ(record_drop(fragment(5, 2, 2735, 1361)), DropReason::kBadRecord) << "uneven";
  EXPECT_EQ(record_drop(fragment(5, 1, 1000, 3096)), DropReason::kBadRecord) << "last is largest";
  EXPECT_EQ(record_drop(fragment(5, 0, 0, 511)), DropReason::kBadRecord) << "more than 8";
  EXPECT_EQ(record_drop(fragment(5, 8, 3648, 448)), DropReason::kBadRecord) << "index 8";
  EXPECT_EQ(record_drop(fragment(5, 255, 65535, 1)), DropReason::kBadRecord);
  Record two_pages = fragment(5, 0, 0, 1368);
  two_pages.pages = 2;
  EXPECT_EQ(record_drop(two_pages), DropReason::kBadRecord);

  FrameHeader header = kHeader;
  header.floor_distance = 0;
  header.sequence = 2;
  EXPECT_EQ(record_drop(fragment(5, 2, 2736, 1360), header), DropReason::kOutOfRange);
  header.sequence = 3;
  EXPECT_EQ(record_drop(fragment(5, 2, 2736, 1360), header), DropReason::kCount);
}

TEST(FrameHostile, FragmentBesideAnotherRecord) {
  Bytes frame = data_frame({zero(8, 1), zero(9, 1)});
  std::byte* second = frame.data() + data_prefix_bytes(1);
  second[0] = static_cast<std::byte>(RecordType::kFragment);
  store_le(second + 6, std::uint16_t{2048});
  store_le(frame.data() + kBodyBytesAt, static_cast<std::uint16_t>(2 * kRecordBytes + 2048));
  reseal(frame, data_prefix_bytes(2));
  frame.resize(frame.size() + 2048);
  EXPECT_EQ(data_drop(frame), DropReason::kBadRecord);
}

TEST(FrameHostile, AckFields) {
  struct Change {
    std::size_t at;
    std::uint16_t value;
    DropReason reason;
  };
  for (const Change& change : {
           Change{kRecordsAt, 1, DropReason::kBadLength},
           Change{kBodyBytesAt, 23, DropReason::kBadLength},
           Change{kBodyBytesAt, 24, DropReason::kBadLength},
           Change{kBodyBytesAt, 33, DropReason::kBadLength},
           Change{kBodyAt + 20, 0, DropReason::kBadLength},
           Change{kBodyAt + 20, 2, DropReason::kBadLength},
           Change{kBodyAt + 20, 17, DropReason::kBadLength},
           Change{kBodyAt + 20, 0xFFFF, DropReason::kBadLength},
           Change{kBodyAt + 22, 1, DropReason::kBadRecord},
           Change{kFloorDistanceAt, 1, DropReason::kBadRecord},
       }) {
    Bytes frame = ack_frame(ack_of_words(1));
    const std::size_t bytes = frame.size();
    frame.resize(bytes + 8);
    store_le(frame.data() + change.at, change.value);
    reseal(frame, bytes);
    EXPECT_EQ(ack_drop(frame), change.reason) << change.at << " = " << change.value;
  }
  for (const std::size_t at : {kBodyAt, kBodyAt + 8}) {
    Bytes frame = ack_frame(ack_of_words(1));
    store_le(frame.data() + at, std::uint64_t{0});
    reseal(frame, frame.size());
    EXPECT_EQ(ack_drop(frame), DropReason::kOutOfRange) << at;
  }
}

// Consistent in itself, but more than the receiver has room for.
TEST(FrameHostile, AckOfMoreWordsThanThereAre) {
  constexpr std::size_t kWords = kAckWordsMax + 1;
  Bytes frame = ack_frame(ack_of_words(kAckWordsMax));
  EXPECT_EQ(ack_drop(frame), DropReason::kCount);
  frame.resize(kBodyAt + kAckBodyBytes + kWords * 8, std::byte{0xFF});
  store_le(frame.data() + kBodyBytesAt, static_cast<std::uint16_t>(frame.size() - kBodyAt));
  store_le(frame.data() + kBodyAt + 20, static_cast<std::uint16_t>(kWords));
  reseal(frame, frame.size());
  EXPECT_EQ(ack_drop(frame), DropReason::kBadLength);
}

// Frames with a right checksum but random fields: whatever is accepted is consistent, and is what
// the encoder would have made of it.
TEST(FrameHostile, WhatIsAcceptedIsCanonical) {
  constexpr std::uint64_t kSeed = 20240229;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  std::size_t accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    const auto page = random.below(2 * kExtentPages);
    Bytes frame = random.chance(0.5) ? data_frame({zero(page / 8, 256)})
                                     : data_frame({fragment(page, 1, 2048, 2048)});
    const std::size_t prefix_bytes = data_prefix_bytes(1);
    for (std::uint64_t change = 0; change <= random.below(2); ++change) {
      const std::size_t at = 4 + random.below(prefix_bytes - 4);
      frame[at] = static_cast<std::byte>(random.chance(0.5) ? random.below(4) : random.next());
    }
    reseal(frame, prefix_bytes);
    DataFrame out;
    DropReason reason{};
    if (!decode_data(frame, out, reason)) {
      continue;
    }
    ++accepted;
    ASSERT_EQ(out.payload.data(), frame.data() + prefix_bytes);
    ASSERT_LE(out.payload.size(), frame.size() - prefix_bytes);
    Bytes again(kDataPrefixBytesMax);
    const std::span records(out.records.data(), out.header.records);
    again.resize(encode_data_prefix(out.header, records, again));
    ASSERT_TRUE(std::equal(again.begin(), again.end(), frame.begin())) << "round " << round;
  }
  EXPECT_GT(accepted, 1'000U);
}

TEST(DropReasons, HaveDistinctNames) {
  std::set<std::string> names;
  for (int value = 1; value < static_cast<int>(DropReason::kCount); ++value) {
    names.insert(to_string(static_cast<DropReason>(value)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(DropReason::kCount) - 1);
  EXPECT_EQ(names.count("unknown"), 0U);
  EXPECT_STREQ(to_string(DropReason::kCount), "unknown");
}

}  // namespace
}  // namespace sluice::wire
