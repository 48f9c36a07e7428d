// What the engine asks of a network port. Implemented by drivers/dpdk; by an in-memory link in
// tests.
//
// A worker has one queue pair to itself. It takes the queue as a template parameter, so that no
// call per frame is virtual.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/port/frame_key.h"
#include "dataplane/wire/frame.h"
#include "dataplane/wire/packet.h"

namespace sluice::port {

// A packet from the network, starting at its Ethernet header, in one piece; valid until release().
// Its bytes are the worker's until then: open() decrypts them in place.
struct ReceivedPacket {
  std::span<std::byte> bytes;
  void* handle = nullptr;  // the queue's own
};

// A packet for the network: `head` is copied by transmit(), the slices are referenced where the
// port can (they are guest memory registered with the port, and stay mapped until
// references_outstanding() is 0) and copied where it cannot. With a key the frame in it is sealed:
// all of it is copied, encrypted in the port's own buffer, and followed by its tag, for which the
// packet's headers have reckoned.
struct OutgoingPacket {
  static constexpr std::size_t kHeadBytesMax =
      wire::kPacketPrefixBytesMax + wire::kDataPrefixBytesMax;
  static_assert(wire::kPacketPrefixBytesMax + wire::kAckBytesMax <= kHeadBytesMax);

  std::array<std::byte, kHeadBytesMax> head;
  std::uint16_t head_bytes = 0;
  std::uint8_t slices = 0;
  std::array<std::span<const std::byte>, wire::kRecordsMax> slice;
  const FrameKey* key = nullptr;  // null: in the clear

  // As it travels, with its tag.
  [[nodiscard]] std::size_t bytes() const {
    std::size_t sum = head_bytes + (key != nullptr ? wire::kTagBytes : 0);
    for (std::size_t i = 0; i < slices; ++i) {
      sum += slice[i].size();
    }
    return sum;
  }
};

// Packets handed to and from a queue in one call.
inline constexpr std::size_t kBurstMax = 32;

template <typename Q>
concept Queue = requires(Q queue, std::span<ReceivedPacket> received,
                         std::span<const OutgoingPacket> outgoing, std::span<SealedFrame> sealed) {
  // Fills at most received.size() (≤ kBurstMax) entries and returns how many. Packets to the UDP
  // port of this queue's worker come here and to no other queue, whoever steers them: the device,
  // who sends them, or the port's queues among themselves.
  { queue.receive(received) }
  noexcept->std::same_as<std::size_t>;
  // Gives the packets back; their bytes are invalid afterwards.
  { queue.release(received) }
  noexcept;
  // Opens sealed frames in place and sets `authentic` of each.
  { queue.open(sealed) }
  noexcept;
  // Sends packets in order, completed with the UDP checksum where one is needed
  // (wire::needs_checksum), and returns how many were accepted; the rest was not sent and may be
  // offered again, with other content: no packet is sealed that is not accepted. What was sealed
  // and finds no room in the port waits in the queue.
  { queue.transmit(outgoing) }
  noexcept->std::same_as<std::size_t>;
  // Slices of earlier packets that the device may still read. 0 for ports that copy.
  { queue.references_outstanding() }
  noexcept->std::same_as<std::size_t>;
};

}  // namespace sluice::port
