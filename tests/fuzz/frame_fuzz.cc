// Frames and packets: whatever bytes arrive, nothing outside of them is read, and what is accepted
// says the same when it is encoded again.
#include <algorithm>
#include <array>
#include <vector>

#include "dataplane/wire/codec.h"
#include "dataplane/wire/frame.h"
#include "dataplane/wire/neighbour.h"
#include "dataplane/wire/packet.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::wire {
namespace {

using fuzz::require;

constexpr std::size_t kCrcAt = 36;  // as drawn in frame.h
constexpr Endpoint kLocal{{2, 0, 0, 0, 0, 1}, IpAddress(0x0A4D0101), 7401};
constexpr Endpoint kLocal6{
    {2, 0, 0, 0, 0, 1}, IpAddress(IpAddress::V6Bytes{0xFD, 0, 0, 0, 0, 0, 0, 1}), 7401};
constexpr std::uint16_t kPorts = 4;

// CRC-32C (RFC 3720, B.4) over the frame with its own field as 0, bit by bit: not the code under
// test.
std::uint32_t crc32c(std::span<const std::byte> bytes) {
  std::uint32_t crc = UINT32_MAX;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    crc ^= i >= kCrcAt && i < kCrcAt + 4 ? 0 : std::to_integer<std::uint32_t>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit) {
      crc = crc >> 1U ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    }
  }
  return ~crc;
}

// What the checksum of a frame of this type covers, if the frame is as long.
std::size_t covered_bytes(std::span<const std::byte> frame, FrameType type) {
  switch (type) {
    case FrameType::kData:
      return data_prefix_bytes(std::to_integer<std::size_t>(frame[6]));
    case FrameType::kAck:
      return kFrameHeaderBytes + load_le<std::uint16_t>(frame.data() + 4);
    case FrameType::kProbe:
      return kFrameHeaderBytes;
    case FrameType::kProbeReply:
      return kProbeReplyBytes;
  }
  return 0;
}

// Few inputs have a right checksum: it is put right, so that the checks behind it are reached.
void put_right(std::span<std::byte> frame, Protection protection) {
  DropReason reason{};
  const auto key = peek(frame, reason);
  if (!key) {
    return;
  }
  const std::size_t covered = covered_bytes(frame, key->type);
  if (covered <= frame.size()) {
    const bool sealed = protection == Protection::kSealed;
    store_le(frame.data() + kCrcAt, sealed ? 0U : crc32c(frame.first(covered)));
  }
}

bool is_reason(DropReason reason) {
  return reason >= DropReason::kTooShort && reason < DropReason::kCount;
}

void require_same(std::span<const std::byte> encoded, std::span<const std::byte> frame) {
  require(
      encoded.size() <= frame.size() && std::equal(encoded.begin(), encoded.end(), frame.begin()),
      "a frame that was accepted is encoded to the same bytes");
}

void check_data(std::span<const std::byte> frame, Protection protection) {
  DataFrame data;
  DropReason reason{};
  if (!decode_data(frame, data, reason, protection)) {
    require(is_reason(reason), "a frame is dropped for a reason");
    return;
  }
  const std::byte* const payload = data.payload.data();
  require(payload >= frame.data() && payload + data.payload.size() <= frame.data() + frame.size(),
          "the payload lies in the frame");
  std::array<std::byte, kDataPrefixBytesMax> out;
  const std::span records(data.records.data(), data.header.records);
  require_same(std::span(out).first(encode_data_prefix(data.header, records, out, protection)),
               frame);
}

void check_ack(std::span<const std::byte> frame, Protection protection) {
  AckFrame ack;
  DropReason reason{};
  if (!decode_ack(frame, ack, reason, protection)) {
    require(is_reason(reason), "a frame is dropped for a reason");
    return;
  }
  // Trailing words of zeros need not come back, so the meaning is compared.
  std::array<std::byte, kAckBytesMax> out;
  const std::size_t bytes = encode_ack(ack.header, ack.ack, out, protection);
  AckFrame again;
  require(decode_ack(std::span(out).first(bytes), again, reason, protection),
          "an encoded ack is accepted");
  again.ack.bitmap_words = ack.ack.bitmap_words;
  require(again.ack == ack.ack && again.header.sequence == ack.header.sequence &&
              again.header.session == ack.header.session && again.header.flow == ack.header.flow &&
              again.header.timestamp_ns == ack.header.timestamp_ns,
          "an ack that was accepted means the same when it is encoded again");
}

void check_probes(std::span<const std::byte> frame, Protection protection) {
  FrameHeader probe;
  DropReason reason{};
  std::array<std::byte, kProbeReplyBytes> out;
  if (decode_probe(frame, probe, reason, protection)) {
    require(kFrameHeaderBytes + probe.body_bytes <= frame.size(), "a probe's padding arrived");
    require_same(std::span(out).first(encode_probe_prefix(probe, out, protection)), frame);
  }
  ProbeReplyFrame reply;
  if (decode_probe_reply(frame, reply, reason, protection)) {
    FrameHeader answered = reply.header;
    answered.sequence = reply.probe;
    answered.body_bytes = reply.probe_body_bytes;
    require_same(
        std::span(out).first(encode_probe_reply(answered, reply.header.sequence, out, protection)),
        frame);
  }
}

void check_packet(std::span<const std::byte> packet, const Endpoint& local) {
  const auto payload = udp_payload(packet, local, kPorts);
  if (!payload) {
    return;
  }
  require(payload->data() >= packet.data() + kPacketPrefixBytes &&
              payload->data() + payload->size() <= packet.data() + packet.size(),
          "a packet's payload lies in the packet");
  DropReason reason{};
  (void)peek(*payload, reason);
}

// Whatever asks for an address is answered in the room that there is, or not at all.
void check_neighbours(std::span<const std::byte> packet, const Endpoint& local) {
  std::vector<std::byte> answer(kNeighbourPacketBytesMax);
  require(answer_neighbour_request(packet, local, answer) <= answer.size(), "an answer fits");
  (void)parse_neighbour_answer(packet, local);
}

// What a template makes is understood by its receiver.
void check_template(std::span<const std::byte> content, const Endpoint& local) {
  Endpoint remote = local;
  remote.mac.back() = 2;
  const PacketTemplate headers(remote, local, 0);
  std::vector<std::byte> packet(headers.bytes());
  packet.insert(packet.end(), content.begin(), content.end());
  headers.fill(packet, content.size());
  if (needs_checksum(packet)) {
    finish_checksum(packet, {});
  }
  const auto payload = udp_payload(packet, local, 1);
  require(payload && payload->size() == content.size(), "a packet of ours is understood");
}

}  // namespace
}  // namespace sluice::wire

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::wire;
  if (size > 65'000) {
    return 0;
  }
  // On the heap and of exact size, so that AddressSanitizer sees the first byte read beyond.
  const auto* const first = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(first, first + size);
  for (const Protection protection : {Protection::kChecksum, Protection::kSealed}) {
    for (const bool right : {false, true}) {
      if (right) {
        put_right(bytes, protection);
      }
      check_data(bytes, protection);
      check_ack(bytes, protection);
      check_probes(bytes, protection);
    }
  }
  for (const Endpoint& local : {kLocal, kLocal6}) {
    check_packet(bytes, local);
    check_neighbours(bytes, local);
    check_template(bytes, local);
  }
  return 0;
}
