// The source's end of one flow: which pages still have to go, what is in flight, what was lost.
// Pure: no I/O; memory is read through page::MemoryMap, time is passed in.
//
// Every page of the shard is in exactly one state:
//
//      harvested dirty                 put in a frame              acknowledged
//   clean ------------> pending ----------------------> in flight -------------> clean
//                         ^  ^---------------------------'  |
//                         |        declared lost            |  harvested dirty
//                         '---------------------------------'
//                       deferred: pending, but hot (dirtied in consecutive iterations); waits for
//                       the final pass
//
// There is no retransmission queue. A frame declared lost makes its pages pending again, unless a
// newer version of the page was put in a frame meanwhile; what is sent next is the page's newest
// content, under a new sequence number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/base/units.h"
#include "dataplane/congestion/swift.h"
#include "dataplane/page/bitmap.h"
#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"
#include "dataplane/protocol/audit_rounds.h"
#include "dataplane/protocol/loss_detector.h"
#include "dataplane/protocol/page_hashes.h"
#include "dataplane/wire/frame.h"

namespace sluice::protocol {

// Frames by which a probe timeout may exceed the window; RFC 9002, 6.2.4.
inline constexpr std::uint32_t kProbeFrames = 2;

// Large frames lost in a row, while smaller ones arrive, that make the path suspect; RFC 8899, 4.3.
// More than a loss of the network's own takes at once, and a needless search costs little.
inline constexpr std::uint32_t kSuspectLosses = 8;
// Probe timeouts in a row that do: all frames under way may have been large.
inline constexpr std::uint32_t kSuspectTimeouts = 2;

// What the audit makes of a page that is clean, but does not hold what was sent.
enum class AuditMode : std::uint8_t {
  kOff = 1,  // it does not look
  kResend,   // writes that nobody reports are expected of this guest: the page goes again
  kJudge,    // unless the next scan reports the page, the tracker cannot be trusted
};

struct SenderConfig {
  std::uint64_t session = 0;
  std::uint16_t flow = 0;
  // Of the path, an IPv4 packet's size: wire::kMtuMin and more.
  std::size_t mtu = 9000;
  // The window counts up to kAckSpanMax - kProbeFrames: the rest of the span is kept for probes.
  congestion::SwiftConfig window{};
  wire::Protection protection = wire::Protection::kChecksum;
  // Of the pages below audited_pages, which are those that are tracked.
  AuditMode audit = AuditMode::kOff;
  std::uint64_t audited_pages = 0;
};

// A frame to be transmitted: the encoded prefix and the guest memory that follows it. The memory is
// not copied; it must be read by the port after this was made (the contents may change meanwhile:
// then the page is dirty again and goes once more).
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
  std::uint64_t bytes_sent = 0;      // of frames, from the frame header on, tags included
  std::uint64_t raw_pages_sent = 0;  // includes pages sent again
  std::uint64_t zero_pages_sent = 0;
  std::uint64_t pages_resent_after_loss = 0;  // made pending again by a loss or a probe timeout
  std::uint64_t frames_acked = 0;
  std::uint64_t frames_lost = 0;
  std::uint64_t spurious_losses = 0;  // declared lost, acknowledged later
  std::uint64_t probe_timeouts = 0;
  std::uint64_t acks_received = 0;
  std::uint64_t acks_rejected = 0;  // malformed, or of frames never sent
  std::uint64_t audited_pages = 0;  // hashed again while the tracker called them clean
};

class Sender {
 public:
  // Everything starts clean, with every page counted as zero on the other side. `layout` and
  // `memory` outlive the sender.
  Sender(const SenderConfig& config, const page::Layout& layout, const page::ShardMap& shards,
         const page::MemoryMap& memory);

  // ---- what has to go ----

  // These pages of [page, page + count) that belong to the shard and exist (others are ignored)
  // were written, or are to be sent for the first time. In an iteration they become pending, or
  // deferred when hot.
  void mark_dirty(PageNumber page, std::uint64_t count);
  // Ends an iteration: pages deferred but not dirtied again in it become pending; hotness is judged
  // anew.
  void begin_iteration();
  // From now on nothing is deferred; what was becomes pending. Called when the guest has stopped.
  void begin_final_pass();

  // ---- sending ----

  // Makes the next frame, if anything is pending and the window allows it at `now`. False
  // otherwise. Looks at a bounded number of pages: also false, with pages still pending, when all
  // of those were zero and need not be sent.
  [[nodiscard]] bool next_frame(TimeNs now, OutgoingFrame& out);
  // The last frame made by next_frame() did not leave (the port was full): takes it back, as if
  // never made, so that its sequence number is used again for the next frame. Only directly after
  // next_frame(); several in reverse order.
  void undo_last_frame();

  // ---- acks and time ----

  // A malformed ack, or one for frames never sent, is rejected and counted. One older than the
  // newest handled says nothing new and is ignored. It lay here unseen for up to `unseen_ns`: since
  // when nobody had looked.
  void on_ack(const wire::AckFrame& ack, TimeNs now, TimeNs unseen_ns = 0);
  // Declares losses by time threshold and fires the probe timeout. Call when deadline_ns() has
  // passed; cheap otherwise.
  void on_time(TimeNs now);
  // When on_time() next has something to do; 0 when no frame is in flight.
  [[nodiscard]] TimeNs deadline_ns() const;

  // ---- the path ----

  // An IPv4 packet's size that no frame exceeds.
  [[nodiscard]] std::size_t mtu() const { return config_.mtu; }
  // The path carries no frames above `mtu` (wire::kMtuMin and more, below mtu()). What is in flight
  // and larger is lost, and its pages are pending again.
  void lower_mtu(std::size_t mtu);
  // It looks as if large frames no longer arrive: worth a search (path_prober.h).
  [[nodiscard]] bool path_suspect() const {
    return large_losses_ >= kSuspectLosses || probe_backoff_ >= kSuspectTimeouts;
  }

  // ---- audit ----

  // Hashes so many clean pages again (fewer, when few are found) and compares them with what was
  // sent. A page that differs becomes pending again or is suspected, as SenderConfig says.
  void audit(std::size_t pages);
  // To be asked when the tracker has scanned the shard's pages [first_local, first_local + count)
  // and what it reported was marked: a page among them that was suspected before the scan and that
  // the scan did not report. Something writes to memory unseen.
  [[nodiscard]] std::optional<PageNumber> find_unseen_write(std::uint64_t first_local,
                                                            std::uint64_t count) const;

  // ---- state ----

  [[nodiscard]] std::uint64_t pending_pages() const { return pending_.count(); }
  [[nodiscard]] std::uint64_t deferred_pages() const { return deferred_.count(); }
  [[nodiscard]] std::uint64_t in_flight_pages() const { return in_flight_pages_; }
  [[nodiscard]] std::uint64_t in_flight_frames() const { return in_flight_frames_; }
  // Nothing pending, deferred or in flight: every page's newest harvested version is acknowledged.
  [[nodiscard]] bool settled() const {
    return pending_.empty() && deferred_.empty() && in_flight_pages_ == 0;
  }
  // When the peer was last heard of (an accepted ack), or the time of the first frame if never; 0
  // before that.
  [[nodiscard]] TimeNs last_heard_ns() const { return last_heard_ns_; }
  // The number of the newest ack accepted, 0 before the first: an ack must have a larger one.
  [[nodiscard]] Sequence newest_ack() const { return newest_ack_; }
  [[nodiscard]] const SenderCounters& counters() const { return counters_; }
  [[nodiscard]] const RttEstimator& rtt() const { return rtt_; }
  [[nodiscard]] const congestion::Swift& congestion() const { return swift_; }

  // Folds page hashes as last sent for each extent of the shard, in local order (page::ShardMap):
  // out[i] is local extent i. Only extents touched since the last call are folded anew. `out` has
  // shards.local_extents() entries.
  void fold_digests(std::span<page::ExtentDigest> out);

  // For tests: each page in exactly one state, counts agree with bitmaps, in-flight table
  // consistent. Slow.
  [[nodiscard]] bool invariants_hold() const;

 private:
  // One frame in the ring of sent frames; index is sequence modulo the ring's size.
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
    bool probe = false;  // it exceeded the window
    std::uint8_t records = 0;
    std::uint8_t fragment_index = 0;  // 0 for all other records
    std::uint8_t fragments = 0;       // of the version that a fragment belongs to; 0: none
    std::uint16_t raw_pages = 0;      // as counted in raw_pages_sent
    std::uint16_t zero_pages = 0;
    TimeNs probe_base_before_ns = 0;  // this and the next: for undo_last_frame()
    TimeNs next_send_before_ns = 0;
    std::array<RecordRef, wire::kRecordsMax> record{};

    // Takes the place of an older frame. Its records stay: what is not used need not be touched.
    void begin(Sequence number) {
      sequence = number;
      state = FrameState::kFree;
      records = 0;
      fragment_index = 0;
      fragments = 0;
      raw_pages = 0;
      zero_pages = 0;
    }
    // What sent_sequence_ holds for the frame's pages as long as it carries their newest version.
    [[nodiscard]] Sequence version() const { return sequence - fragment_index; }
  };
  // A frame under construction.
  struct Draft {
    std::array<wire::Record, wire::kRecordsMax> records;
    SentFrame& frame;
    OutgoingFrame& out;
  };
  // A page of which only the fragments below next_index were put in frames.
  struct FragmentedPage {
    bool active = false;
    std::uint8_t next_index = 0;  // all fragments of a version are of the same size
    std::uint64_t local_page = 0;
    Sequence version = 0;
  };

  // sender.cc
  void mark_local(std::uint64_t first, std::uint64_t count);
  void mark_page(std::uint64_t local_page);
  [[nodiscard]] bool frames_consistent() const;
  [[nodiscard]] bool pages_consistent() const;
  [[nodiscard]] bool version_in_flight(std::uint64_t local_page, Sequence version) const;

  // sender_path.cc
  void set_frame_sizes();
  void abandon_fragments();
  void note_large_loss(const SentFrame& frame);
  void note_arrival(const SentFrame& frame);

  // sender_send.cc
  [[nodiscard]] bool may_send(TimeNs now) const;
  [[nodiscard]] bool within_window() const;
  void collect_pages(Draft& draft);
  [[nodiscard]] std::uint64_t next_pending() const;
  [[nodiscard]] bool take_page(Draft& draft, std::uint64_t local_page);
  [[nodiscard]] bool take_zero(Draft& draft, std::uint64_t local_page, PageNumber page);
  [[nodiscard]] bool take_raw(Draft& draft, std::uint64_t local_page, PageNumber page);
  void add_fragment(Draft& draft);
  // The draft's last record if `local_page` continues it within the extent, else a new one;
  // nullptr: the table is full.
  [[nodiscard]] wire::Record* extend(Draft& draft, wire::RecordType type, std::uint64_t local_page,
                                     PageNumber page);
  void put_in_flight(std::uint64_t local_page, page::PageHash hash);
  void commit(Draft& draft, TimeNs now);

  // sender_audit.cc
  [[nodiscard]] bool clean(std::uint64_t local_page) const;
  void audit_page(std::uint64_t local_page);

  // sender_ack.cc
  [[nodiscard]] SentFrame* find_sent(Sequence sequence);
  [[nodiscard]] bool ack_valid(const wire::AckFrame& frame) const;
  [[nodiscard]] std::uint64_t settle_acked(const wire::Ack& ack);
  [[nodiscard]] bool acknowledge(Sequence sequence);
  void acknowledge_page(const SentFrame& frame, std::uint64_t local_page);
  void declare_losses(TimeNs now);
  void declare_lost(SentFrame& frame);
  [[nodiscard]] bool carries_newest(const SentFrame& frame) const;
  // Of the pages whose newest version the frame carries; returns how many.
  std::uint64_t make_pending_again(const SentFrame& frame);
  void fire_probe_timeout(TimeNs now);
  void advance_oldest();

  SenderConfig config_;
  const page::Layout& layout_;
  page::ShardMap shards_;
  const page::MemoryMap& memory_;
  congestion::Swift swift_;
  RttEstimator rtt_;
  std::size_t raw_pages_max_ = 0;  // per frame; 0: pages go as fragments
  std::size_t fragment_bytes_ = 0;
  std::uint8_t fragments_ = 0;  // per page; 0: none are needed

  // ---- pages, indexed by local number ----
  page::PageBitmap pending_;
  page::PageBitmap deferred_;
  page::PageBitmap dirtied_now_;     // in this iteration
  page::PageBitmap dirtied_before_;  // in the one before
  page::PageBitmap ever_sent_;       // the others are zero on the other side for certain
  // The frame with the page's newest version while that is in flight (its first frame, when
  // fragmented), else 0.
  std::vector<Sequence> sent_sequence_;
  std::vector<std::uint8_t> fragments_acked_;  // of the version in flight
  PageHashes hashes_;                          // as last sent
  AuditRounds audit_rounds_;
  page::PageBitmap suspects_;  // clean pages that differ from what was sent
  std::uint64_t in_flight_pages_ = 0;
  std::uint64_t cursor_ = 0;  // where the search for pending pages goes on
  FragmentedPage fragmented_;
  bool iterating_ = false;  // begin_iteration() was called: marks are writes, not the first sending
  bool final_pass_ = false;

  // ---- frames ----
  std::vector<SentFrame> ring_;
  Sequence next_sequence_ = 1;
  Sequence oldest_ = 1;  // the oldest frame in flight, next_sequence_ if none
  // The receiver's cumulative number may have passed over lost frames below this.
  Sequence told_floor_ = 1;
  Sequence acked_below_ = 1;  // the largest cumulative number handled
  Sequence largest_acked_ = 0;
  Sequence newest_ack_ = 0;
  std::uint64_t in_flight_frames_ = 0;
  TimeNs loss_time_ns_ = 0;   // when the next frame is lost by the time threshold; 0: none
  TimeNs probe_base_ns_ = 0;  // the probe timeout runs from here
  std::uint32_t probe_backoff_ = 0;
  std::uint32_t probe_credit_ = 0;  // frames that may still exceed the window
  TimeNs last_heard_ns_ = 0;
  // Frames lost in a row of which none as large as the smallest of them has arrived since.
  std::uint32_t large_losses_ = 0;
  std::uint32_t large_loss_bytes_ = 0;
  SenderCounters counters_;
};

}  // namespace sluice::protocol
