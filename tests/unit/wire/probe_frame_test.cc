// PROBE and PROBE_REPLY frames: format, round trip, and what hostile input does.
#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/wire/codec.h"
#include "dataplane/wire/frame.h"
#include "dataplane/wire/packet.h"

namespace sluice::wire {
namespace {

using Bytes = std::vector<std::byte>;

constexpr FrameHeader kHeader{.type = FrameType::kData,
                              .flow = 0x0102,
                              .body_bytes = 0x0304,
                              .records = 7,
                              .session = 0x1112131415161718,
                              .sequence = 0x2122232425262728,
                              .timestamp_ns = 0x3132333435363738,
                              .floor_distance = 0x41424344};

// With its padding.
Bytes probe_frame(std::uint16_t padding_bytes) {
  FrameHeader header = kHeader;
  header.body_bytes = padding_bytes;
  Bytes frame(kFrameHeaderBytes + padding_bytes, std::byte{0x5A});
  EXPECT_EQ(encode_probe_prefix(header, frame), kFrameHeaderBytes);
  return frame;
}

Bytes reply_frame(Sequence sequence = 9) {
  Bytes frame(kProbeReplyBytes);
  EXPECT_EQ(encode_probe_reply(kHeader, sequence, frame), kProbeReplyBytes);
  return frame;
}

DropReason probe_drop(std::span<const std::byte> frame) {
  FrameHeader out;
  DropReason reason = DropReason::kCount;
  const bool decoded = decode_probe(frame, out, reason);
  EXPECT_EQ(decoded, reason == DropReason::kCount);
  return reason;
}

DropReason reply_drop(std::span<const std::byte> frame) {
  ProbeReplyFrame out;
  DropReason reason = DropReason::kCount;
  const bool decoded = decode_probe_reply(frame, out, reason);
  EXPECT_EQ(decoded, reason == DropReason::kCount);
  return reason;
}

// Written from the definition (reflected polynomial 0x82F63B78), bit by bit.
void reseal(Bytes& frame, std::size_t covered_bytes) {
  constexpr std::size_t kCrcAt = 36;
  store_le(frame.data() + kCrcAt, std::uint32_t{0});
  std::uint32_t crc = UINT32_MAX;
  for (const std::byte byte : std::span(frame).first(covered_bytes)) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    }
  }
  store_le(frame.data() + kCrcAt, ~crc);
}

// A frame with one byte changed and its checksum right again.
Bytes changed(Bytes frame, std::size_t at, std::byte value, std::size_t covered_bytes) {
  frame[at] = value;
  reseal(frame, covered_bytes);
  return frame;
}

TEST(ProbeFrame, IsDecodedAsItWasMade) {
  for (const std::uint16_t padding : {0, 1, 1432, 8932, 65'467}) {
    const Bytes frame = probe_frame(padding);
    FrameHeader out;
    DropReason reason{};
    ASSERT_TRUE(decode_probe(frame, out, reason)) << padding;
    EXPECT_EQ(out.type, FrameType::kProbe);
    EXPECT_EQ(out.body_bytes, padding);
    EXPECT_EQ(out.records, 0);
    EXPECT_EQ(out.floor_distance, 0U);
    EXPECT_EQ(out.session, kHeader.session);
    EXPECT_EQ(out.flow, kHeader.flow);
    EXPECT_EQ(out.sequence, kHeader.sequence);
    EXPECT_EQ(out.timestamp_ns, kHeader.timestamp_ns);
    const auto key = peek(frame, reason);
    ASSERT_TRUE(key);
    EXPECT_EQ(key->type, FrameType::kProbe);
  }
}

TEST(ProbeFrame, IsAsLargeAsThePathIsAskedFor) {
  for (const std::size_t mtu :
       {kMtuMin, std::size_t{1500}, std::size_t{9000}, std::size_t{65'535}}) {
    EXPECT_EQ(probe_frame(probe_body_bytes(mtu)).size() + kIpv4Bytes + kUdpBytes, mtu);
    EXPECT_NE(fragment_bytes(mtu), 0U) << "data frames must fit what a probe may find";
  }
}

TEST(ProbeReplyFrame, SaysWhatArrived) {
  ProbeReplyFrame out;
  DropReason reason{};
  ASSERT_TRUE(decode_probe_reply(reply_frame(9), out, reason));
  EXPECT_EQ(out.header.type, FrameType::kProbeReply);
  EXPECT_EQ(out.header.sequence, 9U);
  EXPECT_EQ(out.header.session, kHeader.session);
  EXPECT_EQ(out.header.flow, kHeader.flow);
  EXPECT_EQ(out.header.timestamp_ns, kHeader.timestamp_ns);
  EXPECT_EQ(out.probe, kHeader.sequence);
  EXPECT_EQ(out.probe_body_bytes, kHeader.body_bytes);
}

TEST(ProbeReplyFrame, Golden) {
  const std::array<int, kProbeReplyBytes> golden = {
      0x02, 0x04, 0x02, 0x01, 0x10, 0x00, 0x00, 0x00,  // version, type, flow, body_bytes, records
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // session
      0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // sequence
      0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,  // timestamp_ns
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // floor_distance, header_crc
      0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,  // probe
      0x04, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // probe_body_bytes
  };
  Bytes wanted;
  for (const int value : golden) {
    wanted.push_back(static_cast<std::byte>(value));
  }
  reseal(wanted, kProbeReplyBytes);
  EXPECT_EQ(reply_frame(9), wanted);
}

TEST(ProbeHostile, TruncatedAtEveryLength) {
  const Bytes probe = probe_frame(300);
  const Bytes reply = reply_frame();
  for (std::size_t length = 0; length < probe.size(); ++length) {
    const Bytes cut(probe.begin(), probe.begin() + static_cast<std::ptrdiff_t>(length));
    const auto reason = length < kFrameHeaderBytes ? DropReason::kTooShort : DropReason::kBadLength;
    ASSERT_EQ(probe_drop(cut), reason) << "length " << length;
  }
  for (std::size_t length = 0; length < reply.size(); ++length) {
    const Bytes cut(reply.begin(), reply.begin() + static_cast<std::ptrdiff_t>(length));
    const auto reason = length < kFrameHeaderBytes ? DropReason::kTooShort : DropReason::kBadLength;
    ASSERT_EQ(reply_drop(cut), reason) << "length " << length;
  }
}

TEST(ProbeHostile, EverySingleBitFlipThatMattersIsDetected) {
  Bytes probe = probe_frame(16);
  for (std::size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
    probe[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_NE(probe_drop(probe), DropReason::kCount) << "bit " << bit;
    probe[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  probe.back() ^= std::byte{1};
  EXPECT_EQ(probe_drop(probe), DropReason::kCount) << "the padding says nothing";
  Bytes reply = reply_frame();
  for (std::size_t bit = 0; bit < reply.size() * 8; ++bit) {
    reply[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_NE(reply_drop(reply), DropReason::kCount) << "bit " << bit;
    reply[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}

TEST(ProbeHostile, FieldsThatMakeNoSense) {
  const auto probe = [](std::size_t at, std::byte value) {
    return probe_drop(changed(probe_frame(8), at, value, kFrameHeaderBytes));
  };
  const auto reply = [](std::size_t at, std::byte value) {
    return reply_drop(changed(reply_frame(), at, value, kProbeReplyBytes));
  };
  EXPECT_EQ(probe(1, std::byte{5}), DropReason::kBadType);
  EXPECT_EQ(probe(1, std::byte{0}), DropReason::kBadType);
  EXPECT_EQ(probe(1, std::byte{4}), DropReason::kBadType) << "decoded as what it is not";
  EXPECT_EQ(probe(4, std::byte{9}), DropReason::kBadLength);
  EXPECT_EQ(probe(6, std::byte{1}), DropReason::kBadLength) << "records";
  EXPECT_EQ(probe(7, std::byte{1}), DropReason::kBadRecord);
  EXPECT_EQ(probe(32, std::byte{1}), DropReason::kBadRecord) << "floor_distance";
  EXPECT_EQ(reply(1, std::byte{3}), DropReason::kBadType);
  EXPECT_EQ(reply(4, std::byte{15}), DropReason::kBadLength);
  EXPECT_EQ(reply(6, std::byte{1}), DropReason::kBadLength);
  EXPECT_EQ(reply(32, std::byte{1}), DropReason::kBadRecord);
  EXPECT_EQ(reply(50, std::byte{1}), DropReason::kBadRecord) << "a body larger than a body can be";
  EXPECT_EQ(reply(52, std::byte{1}), DropReason::kBadRecord) << "reserved";
  EXPECT_EQ(reply_drop(reply_frame(0)), DropReason::kOutOfRange);
  Bytes of_no_probe = reply_frame();
  std::fill_n(of_no_probe.begin() + kFrameHeaderBytes, sizeof(Sequence), std::byte{0});
  reseal(of_no_probe, kProbeReplyBytes);
  EXPECT_EQ(reply_drop(of_no_probe), DropReason::kOutOfRange);
}

// Under AddressSanitizer.
TEST(ProbeHostile, RandomBytesAreRefused) {
  Random random(4711);
  for (int i = 0; i < 20'000; ++i) {
    Bytes frame(random.below(120));
    for (std::byte& byte : frame) {
      byte = static_cast<std::byte>(random.next());
    }
    if (frame.size() > 1) {
      frame[0] = std::byte{kVersion};
      frame[1] = static_cast<std::byte>(3 + random.below(2));
    }
    ASSERT_NE(probe_drop(frame), DropReason::kCount) << i;
    ASSERT_NE(reply_drop(frame), DropReason::kCount) << i;
  }
}

}  // namespace
}  // namespace sluice::wire
