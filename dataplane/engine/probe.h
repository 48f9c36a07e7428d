// Counters of one worker, stored relaxed by it and read by any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dataplane/wire/frame.h"

namespace sluice::engine {

// Adds to a counter that only this thread writes: a plain load and store, without a locked
// instruction.
inline void add_relaxed(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
  counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

struct WorkerProbe {
  std::atomic<std::uint64_t> busy_ns{0};  // loops that did something
  std::atomic<std::uint64_t> idle_poll_ns{
      0};  // loops that found nothing to do, without waiting after them
  std::atomic<std::uint64_t> packets_received{0};
  std::atomic<std::uint64_t> packets_sent{0};
  // Who asked for this port's address was answered, or not because too many asked.
  std::atomic<std::uint64_t> neighbour_answers{0};
  std::atomic<std::uint64_t> neighbour_requests_ignored{0};
  // Packets and frames dropped, by wire::DropReason.
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(wire::DropReason::kCount)>
      drops{};
};

}  // namespace sluice::engine
