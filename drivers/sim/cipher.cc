#include "drivers/sim/cipher.h"

#include <cstring>
#include <xxhash.h>

#include "dataplane/base/random.h"
#include "dataplane/wire/frame.h"

namespace sluice::sim {
namespace {

class Key final : public port::FrameKey {
 public:
  explicit Key(std::uint64_t value) : value_(value) {}
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_;
};

// Of one frame: key and sequence number.
std::uint64_t frame_secret(std::span<const std::byte> frame, const port::FrameKey& key) {
  wire::DropReason reason{};
  const auto peeked = wire::peek(frame, reason);
  return Random(static_cast<const Key&>(key).value() ^ (peeked ? peeked->sequence : 0)).next();
}

void scramble(std::span<std::byte> body, std::uint64_t secret) {
  std::size_t at = 0;
  for (; at + sizeof(secret) <= body.size(); at += sizeof(secret)) {
    std::uint64_t word = 0;
    std::memcpy(&word, body.data() + at, sizeof(word));
    word ^= secret;
    std::memcpy(body.data() + at, &word, sizeof(word));
  }
  for (; at < body.size(); ++at) {
    body[at] ^= static_cast<std::byte>(secret);
  }
}

XXH128_hash_t tag_of(std::span<const std::byte> header_and_body, std::uint64_t secret) {
  return XXH3_128bits_withSeed(header_and_body.data(), header_and_body.size(), secret);
}
static_assert(sizeof(XXH128_hash_t) == wire::kTagBytes);

void seal(std::vector<std::byte>& packet, const port::FrameKey& key) {
  const std::span<std::byte> frame = std::span(packet).subspan(wire::kPacketPrefixBytes);
  const std::uint64_t secret = frame_secret(frame, key);
  scramble(frame.subspan(wire::kFrameHeaderBytes), secret);
  const XXH128_hash_t tag = tag_of(frame, secret);
  packet.resize(packet.size() + sizeof(tag));
  std::memcpy(packet.data() + packet.size() - sizeof(tag), &tag, sizeof(tag));
}

}  // namespace

std::unique_ptr<port::FlowKeys> make_flow_keys(std::uint64_t secret, std::uint16_t flow) {
  auto keys = std::make_unique<port::FlowKeys>();
  for (const wire::FrameType type : wire::kFrameTypes) {
    const auto number = static_cast<std::uint64_t>(flow) << 8U | static_cast<std::uint8_t>(type);
    keys->set(type, std::make_unique<Key>(Random(secret ^ number << 40U).next()));
  }
  return keys;
}

std::vector<std::byte> assemble(const port::OutgoingPacket& packet) {
  std::vector<std::byte> bytes(packet.head.begin(), packet.head.begin() + packet.head_bytes);
  for (std::size_t i = 0; i < packet.slices; ++i) {
    bytes.insert(bytes.end(), packet.slice[i].begin(), packet.slice[i].end());
  }
  if (packet.key != nullptr) {
    seal(bytes, *packet.key);
  }
  return bytes;
}

bool SealedOnce::note(const port::FrameKey& key, std::span<const std::byte> sealed_packet) {
  wire::DropReason reason{};
  const auto peeked = wire::peek(sealed_packet.subspan(wire::kPacketPrefixBytes), reason);
  const std::uint64_t content = XXH3_64bits(sealed_packet.data(), sealed_packet.size());
  const auto name = std::pair(static_cast<const Key&>(key).value(), peeked ? peeked->sequence : 0);
  return seen_.emplace(name, content).first->second == content;
}

void open(std::span<port::SealedFrame> frames) {
  for (port::SealedFrame& frame : frames) {
    const std::span<std::byte> covered = frame.bytes.first(frame.bytes.size() - wire::kTagBytes);
    const std::uint64_t secret = frame_secret(covered, *frame.key);
    const XXH128_hash_t tag = tag_of(covered, secret);
    frame.authentic = std::memcmp(&tag, covered.data() + covered.size(), sizeof(tag)) == 0;
    scramble(covered.subspan(wire::kFrameHeaderBytes), secret);
  }
}

std::optional<std::vector<std::byte>> opened(std::span<const std::byte> frame,
                                             const port::FlowKeys& keys) {
  wire::DropReason reason{};
  const auto peeked = wire::peek(frame, reason);
  if (!peeked) {
    return std::nullopt;
  }
  const std::size_t bytes = wire::kFrameHeaderBytes + peeked->body_bytes + wire::kTagBytes;
  if (frame.size() < bytes) {
    return std::nullopt;
  }
  std::vector<std::byte> copy(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(bytes));
  port::SealedFrame sealed{copy, keys.of(peeked->type)};
  open({&sealed, 1});
  return sealed.authentic ? std::optional(std::move(copy)) : std::nullopt;
}

}  // namespace sluice::sim
