// The destination's end of one flow: applies pages, newest wins, and says what arrived. Pure: no
// I/O; memory is written through page::MemoryMap, time is passed in.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/base/units.h"
#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"
#include "dataplane/protocol/audit_rounds.h"
#include "dataplane/protocol/page_hashes.h"
#include "dataplane/wire/frame.h"

namespace sluice::protocol {

struct ReceiverConfig {
  std::uint64_t session = 0;
  std::uint16_t flow = 0;
  std::uint32_t ack_every_frames = 16;  // at the latest; the worker also acks when it runs idle
  TimeNs ack_delay_max_ns = 200 * kMicrosecondNs;
  wire::Protection protection = wire::Protection::kChecksum;
};

struct ReceiverCounters {
  std::uint64_t frames_received = 0;
  std::uint64_t bytes_received = 0;      // of frames, from the frame header on, tags included
  std::uint64_t raw_pages_applied = 0;   // whole pages, and pages completed by their last fragment
  std::uint64_t zero_pages_applied = 0;  // zeros already there are not written again, but counted
  std::uint64_t fragments_applied = 0;
  std::uint64_t stale_pages = 0;  // older than what was applied already: not written
  std::uint64_t acks_sent = 0;
};

class Receiver {
 public:
  // Every page counts as zero until something else is applied or set_initial_hash() says otherwise.
  // `layout` and `memory` outlive the receiver.
  Receiver(const ReceiverConfig& config, const page::Layout& layout, const page::ShardMap& shards,
           const page::MemoryMap& memory);

  // A page that already holds something else than zeros before the first frame (firmware,
  // preallocation).
  void set_initial_hash(PageNumber page, page::PageHash hash);

  // True if a frame of this number was received already, or is settled. Changes nothing, so that it
  // may be asked of numbers that nobody has vouched for.
  [[nodiscard]] bool is_duplicate(Sequence sequence) const;

  // Applies a decoded frame. False with `reason` when it is dropped whole: kDuplicate, kOutOfRange,
  // kBadRecord, kBadLength. A frame is checked completely before anything of it is applied. After
  // applying, each page is read back from memory and hashed.
  [[nodiscard]] bool on_data(const wire::DataFrame& frame, TimeNs now, wire::DropReason& reason);

  // A hint that on_data() is about to be called with a decoded frame: asks for the memory it will
  // write. The frame may be any.
  void prefetch(const wire::DataFrame& frame) const;

  // True when an ack should go now: enough frames, or the delay has passed, or `idle` and anything
  // new arrived.
  [[nodiscard]] bool ack_due(TimeNs now, bool idle) const;
  // Encodes an ack frame into `out` (at least wire::kAckBytesMax) and returns its size.
  [[nodiscard]] std::size_t make_ack(TimeNs now, std::span<std::byte> out);

  // Encodes the answer to a decoded PROBE into `out` (at least wire::kProbeReplyBytes) and returns
  // its size. A duplicate is answered too: it says the same.
  [[nodiscard]] std::size_t make_probe_reply(const wire::FrameHeader& probe,
                                             std::span<std::byte> out);
  // Reads so many applied pages back once more (fewer, when few are found). What they hold now
  // counts for the proof, so that memory that does not keep what was written fails it.
  void audit(std::size_t pages);

  [[nodiscard]] const ReceiverCounters& counters() const { return counters_; }

  // As Sender::fold_digests, of page hashes as read back from memory. An extent with a page of
  // which only some fragments have arrived folds to a value that cannot match.
  void fold_digests(std::span<page::ExtentDigest> out);

 private:
  [[nodiscard]] bool admit_sequence(const wire::FrameHeader& header,
                                    wire::DropReason& reason) const;
  [[nodiscard]] bool check_records(const wire::DataFrame& frame, wire::DropReason& reason) const;
  void apply_record(const wire::Record& record, Sequence sequence,
                    std::span<const std::byte> payload);
  void apply_zero(std::uint64_t local_page, std::byte* page);
  void apply_fragment(const wire::Record& record, Sequence version,
                      std::span<const std::byte> payload);
  // False if something newer was applied to the page.
  [[nodiscard]] bool begin_version(std::uint64_t local_page, Sequence version);

  void note_arrival(const wire::FrameHeader& header, TimeNs now);
  [[nodiscard]] bool received(Sequence sequence) const;
  void forget(Sequence sequence);
  void advance_cumulative(Sequence floor);

  ReceiverConfig config_;
  const page::Layout& layout_;
  page::ShardMap shards_;
  const page::MemoryMap& memory_;
  PageHashes hashes_;
  AuditRounds audit_rounds_;  // pages that were written; the others may be holes
  // Per local page: the sequence of the newest frame applied to it, for fragments of the version's
  // first frame; 0: none.
  std::vector<Sequence> applied_version_;
  // Per local page: bytes of its newest version that have not arrived.
  std::vector<std::uint16_t> missing_bytes_;
  bool fragments_seen_ = false;  // before, all of missing_bytes_ is 0 and need not be touched

  // Every frame below is received or settled. Bit s % kAckSpanMax of received_ stands for frame s
  // of [cumulative_, cumulative_ + kAckSpanMax); the bit of cumulative_ itself is never set.
  Sequence cumulative_ = 1;
  std::array<std::uint64_t, wire::kAckWordsMax> received_{};
  Sequence largest_ = 0;
  TimeNs largest_arrival_ns_ = 0;
  TimeNs largest_timestamp_ns_ = 0;
  Sequence next_ack_ = 1;
  Sequence next_probe_reply_ = 1;
  std::uint32_t frames_since_ack_ = 0;
  TimeNs first_unacked_arrival_ns_ = 0;
  ReceiverCounters counters_;
};

}  // namespace sluice::protocol
