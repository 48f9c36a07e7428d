// Sealed frames without a cipher worth the name, for simulations and tests: it costs next to
// nothing, no content is recognisable in what it makes, and whatever is altered, forged or sealed
// with another key is found, as with AES-GCM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "dataplane/port/frame_key.h"
#include "dataplane/port/port.h"

namespace sluice::sim {

// Both ends' keys of a flow: here a key seals and opens alike.
[[nodiscard]] std::unique_ptr<port::FlowKeys> make_flow_keys(std::uint64_t secret,
                                                             std::uint16_t flow);

// All bytes of a packet, in one piece and sealed if it has a key.
[[nodiscard]] std::vector<std::byte> assemble(const port::OutgoingPacket& packet);

// What one end's keys have sealed. A cipher such as AES-GCM is broken once a key has sealed two
// contents under one number.
class SealedOnce {
 public:
  // False if the packet's key has sealed something else under its number before.
  [[nodiscard]] bool note(const port::FrameKey& key, std::span<const std::byte> sealed_packet);

 private:
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> seen_;  // key, number -> content
};

// port::Queue's open().
void open(std::span<port::SealedFrame> frames);

// A copy of a whole frame, opened; nothing if it is not authentic. `frame` may have padding.
[[nodiscard]] std::optional<std::vector<std::byte>> opened(std::span<const std::byte> frame,
                                                           const port::FlowKeys& keys);

}  // namespace sluice::sim
