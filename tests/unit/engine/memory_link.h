// A link in memory between two workers, with loss, a limited depth and references that can be held
// back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <list>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/port/port.h"
#include "drivers/sim/cipher.h"

namespace sluice::engine {

// One direction of a link.
struct Wire {
  std::deque<std::vector<std::byte>> packets;
  std::size_t depth = 1024;  // what it holds before transmit() refuses
  std::size_t mtu = 65'535;  // larger packets are accepted, and vanish
  double loss = 0;           // probability that an accepted packet vanishes
  std::uint64_t accepted = 0;
};

class MemoryQueue {
 public:
  MemoryQueue(Wire& in, Wire& out, std::uint64_t seed) : in_(in), out_(out), random_(seed) {}

  std::size_t receive(std::span<port::ReceivedPacket> out) noexcept {
    std::size_t count = 0;
    while (count < out.size() && !in_.packets.empty()) {
      held_.push_back(std::move(in_.packets.front()));
      in_.packets.pop_front();
      out[count++] = {held_.back(), nullptr};
    }
    return count;
  }

  void release(std::span<port::ReceivedPacket> packets) noexcept {
    for (std::size_t i = 0; i < packets.size(); ++i) {
      held_.pop_front();
    }
  }

  std::size_t transmit(std::span<const port::OutgoingPacket> packets) noexcept {
    std::size_t sent = 0;
    while (sent < packets.size() && out_.packets.size() < out_.depth) {
      const port::OutgoingPacket& packet = packets[sent++];
      ++out_.accepted;
      if (random_.chance(out_.loss)) {
        continue;
      }
      std::vector<std::byte> bytes = sim::assemble(packet);
      if (bytes.size() <= out_.mtu + wire::kEthernetBytes) {
        out_.packets.push_back(std::move(bytes));
      }
    }
    return sent;
  }

  void open(std::span<port::SealedFrame> frames) noexcept { sim::open(frames); }

  std::size_t references_outstanding() noexcept { return references; }

  std::size_t references = 0;

 private:
  Wire& in_;
  Wire& out_;
  Random random_;
  std::list<std::vector<std::byte>> held_;
};

static_assert(port::Queue<MemoryQueue&>);

}  // namespace sluice::engine
