// The destination's end of one flow: applies pages, newest wins, and says what arrived. Pure: no I/O; memory is written
// through page::MemoryMap, time is passed in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/base/units.h"
#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"
#include "dataplane/wire/frame.h"

namespace sluice::protocol {

struct ReceiverConfig {
  std::uint64_t session = 0;
  std::uint16_t flow = 0;
  std::uint32_t ack_every_frames = 16;                    // at the latest; the worker also acks when it runs idle
  TimeNs ack_delay_max_ns = 200 * kMicrosecondNs;
};

struct ReceiverCounters {
  std::uint64_t frames_received = 0;
  std::uint64_t bytes_received = 0;       // of frames, from the frame header on
  std::uint64_t raw_pages_applied = 0;
  std::uint64_t zero_pages_applied = 0;
  std::uint64_t fragments_applied = 0;
  std::uint64_t stale_pages = 0;          // older than what was applied already: not written
  std::uint64_t acks_sent = 0;
};

class Receiver {
 public:
  // Every page counts as zero until something else is applied or set_initial_hash() says otherwise. `layout` and `memory`
  // outlive the receiver.
  Receiver(const ReceiverConfig& config, const page::Layout& layout, const page::ShardMap& shards,
           const page::MemoryMap& memory);

  // A page that already holds something else than zeros before the first frame (firmware, preallocation).
  void set_initial_hash(PageNumber page, page::PageHash hash);

  // Applies a decoded frame. False with `reason` when it is dropped whole: kDuplicate, kOutOfRange. A frame is checked
  // completely before anything of it is applied. After applying, each page is read back from memory and hashed.
  [[nodiscard]] bool on_data(const wire::DataFrame& frame, TimeNs now, wire::DropReason& reason);

  // True when an ack should go now: enough frames, or the delay has passed, or `idle` and anything new arrived.
  [[nodiscard]] bool ack_due(TimeNs now, bool idle) const;
  // Encodes an ack frame into `out` (at least wire::kAckBytesMax) and returns its size.
  [[nodiscard]] std::size_t make_ack(TimeNs now, std::span<std::byte> out);

  [[nodiscard]] const ReceiverCounters& counters() const { return counters_; }

  // As Sender::fold_digests, of page hashes as read back from memory. An extent with a page of which only some fragments
  // have arrived folds to a value that cannot match.
  void fold_digests(std::span<page::ExtentDigest> out);

 private:
  // The implementer may change everything private.
  ReceiverConfig config_;
  const page::Layout& layout_;
  page::ShardMap shards_;
  const page::MemoryMap& memory_;
  ReceiverCounters counters_;
};

}  // namespace sluice::protocol
