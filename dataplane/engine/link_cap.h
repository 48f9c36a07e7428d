// What the workers of one port may send together.
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice::engine {

// One per port. Every worker counts its own flows that have something to send and takes as much of
// the cap as its flows are of all: the sum never exceeds the cap for longer than the pacers' burst.
struct LinkCap {
  explicit LinkCap(std::uint64_t bits) : bits_per_second(bits) {}

  const std::uint64_t bits_per_second;  // Ethernet frames, with headers; 0: there is no cap
  std::atomic<std::uint32_t> sending_flows{0};
};

}  // namespace sluice::engine
