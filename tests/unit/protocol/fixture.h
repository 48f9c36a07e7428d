// A small page space with memory on both sides, and shorthands for frames and acks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "dataplane/page/layout.h"
#include "dataplane/protocol/receiver.h"
#include "dataplane/protocol/sender.h"

namespace sluice::protocol {

// One region's memory, page-aligned not needed by pure code.
class Memory {
 public:
  explicit Memory(std::uint64_t pages)
      : layout({pages}), bytes_(pages * kPageBytes), map(layout, {bytes_.data()}) {}
  void fill(PageNumber page, int value) { std::memset(map.address(page), value, kPageBytes); }
  [[nodiscard]] bool is_filled(PageNumber page, int value) const {
    const std::byte* content = map.address(page);
    return std::all_of(content, content + kPageBytes,
                       [&](std::byte b) { return b == static_cast<std::byte>(value); });
  }

  page::Layout layout;

 private:
  std::vector<std::byte> bytes_;

 public:
  page::MemoryMap map;
};

// A decoded copy of an outgoing frame, contents included.
struct Packet {
  explicit Packet(const OutgoingFrame& out)
      : bytes(out.prefix.begin(), out.prefix.begin() + out.prefix_bytes) {
    for (std::size_t i = 0; i < out.slices; ++i) {
      bytes.insert(bytes.end(), out.slice[i].begin(), out.slice[i].end());
    }
    wire::DropReason reason{};
    valid = wire::decode_data(bytes, frame, reason);
  }
  Packet(const Packet&) = delete;
  Packet& operator=(const Packet&) = delete;

  std::vector<std::byte> bytes;
  wire::DataFrame frame;
  bool valid = false;
};

// An ack of exactly these frames, as a receiver whose cumulative number is `cumulative` would send
// it.
inline wire::AckFrame make_ack(Sequence number, Sequence cumulative,
                               std::initializer_list<Sequence> received, TimeNs echo_ns) {
  wire::AckFrame frame;
  frame.header.type = wire::FrameType::kAck;
  frame.header.sequence = number;
  frame.header.timestamp_ns = echo_ns;
  frame.ack.cumulative = cumulative;
  frame.ack.largest = cumulative - 1;
  for (const Sequence sequence : received) {
    const std::size_t bit = sequence - cumulative;
    frame.ack.bitmap[bit / 64] |= 1ULL << bit % 64;
    frame.ack.largest = std::max(frame.ack.largest, sequence);
    frame.ack.bitmap_words =
        std::max(frame.ack.bitmap_words, static_cast<std::uint16_t>(bit / 64 + 1));
  }
  return frame;
}

}  // namespace sluice::protocol
