// The source's end of one flow: which pages still have to go, what is in flight, what was lost. Pure: no I/O; memory is
// read through page::MemoryMap, time is passed in.
//
// Every page of the shard is in exactly one state:
//
//      harvested dirty                 put in a frame              acknowledged
//   clean ------------> pending ----------------------> in flight -------------> clean
//                         ^  ^---------------------------'  |
//                         |        declared lost            |  harvested dirty
//                         '---------------------------------'
//                       deferred: pending, but hot (dirtied in consecutive iterations); waits for the final pass
//
// There is no retransmission queue. A frame declared lost makes its pages pending again, unless a newer version of the page
// was put in a frame meanwhile; what is sent next is the page's newest content, under a new sequence number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/base/units.h"
#include "dataplane/congestion/rate_controller.h"
#include "dataplane/page/bitmap.h"
#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"
#include "dataplane/protocol/loss_detector.h"
#include "dataplane/wire/frame.h"

namespace sluice::protocol {

struct SenderConfig {
  std::uint64_t session = 0;
  std::uint16_t flow = 0;
  std::size_t mtu = 9000;                 // of the path, an IPv4 packet's size
  congestion::RateConfig rate;
};

// A frame to be transmitted: the encoded prefix and the guest memory that follows it. The memory is not copied; it must be
// read by the port after this was made (the contents may change meanwhile: then the page is dirty again and goes once more).
struct OutgoingFrame {
  std::array<std::byte, wire::kDataPrefixBytesMax> prefix;
  std::uint16_t prefix_bytes = 0;
  std::uint8_t slices = 0;
  std::array<std::span<const std::byte>, wire::kRecordsMax> slice;
  [[nodiscard]] std::size_t payload_bytes() const;
};

// Plain counters, read by other threads through the engine's probe.
struct SenderCounters {
  std::uint64_t frames_sent = 0;
  std::uint64_t bytes_sent = 0;            // of frames, from the frame header on
  std::uint64_t raw_pages_sent = 0;        // includes pages sent again
  std::uint64_t zero_pages_sent = 0;
  std::uint64_t pages_resent_after_loss = 0;
  std::uint64_t frames_acked = 0;
  std::uint64_t frames_lost = 0;
  std::uint64_t spurious_losses = 0;       // declared lost, acknowledged later
  std::uint64_t probe_timeouts = 0;
  std::uint64_t acks_received = 0;
  std::uint64_t acks_rejected = 0;         // of frames never sent, or older than one already handled
};

class Sender {
 public:
  // Everything starts clean, with every page counted as zero on the other side. `layout` and `memory` outlive the sender.
  Sender(const SenderConfig& config, const page::Layout& layout, const page::ShardMap& shards,
         const page::MemoryMap& memory);

  // ---- what has to go ----

  // These pages of [page, page + count) that belong to the shard and exist (others are ignored) were written, or are to be
  // sent for the first time. In an iteration they become pending, or deferred when hot.
  void mark_dirty(PageNumber page, std::uint64_t count);
  // Ends an iteration: pages deferred but not dirtied again in it become pending; hotness is judged anew.
  void begin_iteration();
  // From now on nothing is deferred; what was becomes pending. Called when the guest has stopped.
  void begin_final_pass();

  // ---- sending ----

  // Makes the next frame, if anything is pending and window and pacing allow it at `now`. False otherwise.
  [[nodiscard]] bool next_frame(TimeNs now, OutgoingFrame& out);
  // The last frame made by next_frame() did not leave (the port was full): takes it back, as if never made, so that its
  // sequence number is used again for the next frame. Only directly after next_frame(); several in reverse order.
  void undo_last_frame();

  // ---- acks and time ----

  // An ack for frames never sent, older than the newest handled, or with bits beyond what was sent is rejected and counted.
  void on_ack(const wire::AckFrame& ack, TimeNs now);
  // Declares losses by time threshold and fires the probe timeout. Call when deadline_ns() has passed; cheap otherwise.
  void on_time(TimeNs now);
  // When on_time() next has something to do; 0 when nothing is in flight.
  [[nodiscard]] TimeNs deadline_ns() const;

  // ---- state ----

  [[nodiscard]] std::uint64_t pending_pages() const { return pending_.count(); }
  [[nodiscard]] std::uint64_t deferred_pages() const { return deferred_.count(); }
  [[nodiscard]] std::uint64_t in_flight_pages() const { return in_flight_pages_; }
  [[nodiscard]] std::uint64_t in_flight_frames() const;
  // Nothing pending, deferred or in flight: every page's newest harvested version is acknowledged.
  [[nodiscard]] bool settled() const;
  // When the peer was last heard of (an accepted ack), or the time of the first frame if never; 0 before that.
  [[nodiscard]] TimeNs last_heard_ns() const { return last_heard_ns_; }
  [[nodiscard]] const SenderCounters& counters() const { return counters_; }
  [[nodiscard]] const RttEstimator& rtt() const { return rtt_; }

  // Folds page hashes as last sent for each extent of the shard, in local order (page::ShardMap): out[i] is local extent i.
  // Only extents touched since the last call are folded anew. `out` has shards.local_extents() entries.
  void fold_digests(std::span<page::ExtentDigest> out);

  // For tests: each page in exactly one state, counts agree with bitmaps, in-flight table consistent. Slow.
  [[nodiscard]] bool invariants_hold() const;

 private:
  // One frame in the ring of unsettled frames; index is sequence modulo the ring's size.
  enum class FrameState : std::uint8_t { kFree = 0, kInFlight, kAcked, kLost };
  struct RecordRef {
    std::uint64_t local_page = 0;
    std::uint16_t pages = 0;
  };
  struct SentFrame {
    Sequence sequence = 0;
    TimeNs sent_ns = 0;
    std::uint32_t bytes = 0;
    FrameState state = FrameState::kFree;
    std::uint8_t records = 0;
    std::uint8_t fragment_index = 0;
    std::array<RecordRef, wire::kRecordsMax> record{};
  };

  // The implementer may change everything private.
  SenderConfig config_;
  const page::Layout& layout_;
  page::ShardMap shards_;
  const page::MemoryMap& memory_;
  congestion::RateController rate_;
  RttEstimator rtt_;
  page::PageBitmap pending_;
  page::PageBitmap deferred_;
  std::uint64_t in_flight_pages_ = 0;
  TimeNs last_heard_ns_ = 0;
  SenderCounters counters_;
};

}  // namespace sluice::protocol
