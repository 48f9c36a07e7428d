// Which pages have to go: marking and iterations, and the checks of the sender's state.
#include "dataplane/protocol/sender.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::protocol {
namespace {

// Twice the span, so that an ack that arrives after a frame was declared lost still finds it.
constexpr std::size_t kRingFrames = 2 * wire::kAckSpanMax;

}  // namespace

Sender::Sender(const SenderConfig& config, const page::Layout& layout, const page::ShardMap& shards,
               const page::MemoryMap& memory)
    : config_(config),
      layout_(layout),
      shards_(shards),
      memory_(memory),
      swift_(config.window),
      pending_(shards.local_pages()),
      deferred_(shards.local_pages()),
      dirtied_now_(shards.local_pages()),
      dirtied_before_(shards.local_pages()),
      ever_sent_(shards.local_pages()),
      sent_sequence_(shards.local_pages(), 0),
      fragments_acked_(shards.local_pages(), 0),
      hashes_(shards),
      audit_rounds_(shards.local_pages()),
      suspects_(shards.local_pages()),
      ring_(kRingFrames) {
  set_frame_sizes();
}

void Sender::mark_dirty(PageNumber page, std::uint64_t count) {
  const PageNumber end = count > layout_.padded_pages() ? layout_.padded_pages() : page + count;
  for (std::size_t i = 0; i < layout_.regions(); ++i) {
    const page::RegionExtent& region = layout_.region(i);
    PageNumber at = std::max(page, region.first);
    const PageNumber region_end = std::min(end, region.first + region.pages);
    while (at < region_end) {
      const PageNumber chunk_end =
          (at / page::ShardMap::kChunkPages + 1) * page::ShardMap::kChunkPages;
      const PageNumber run_end = std::min(region_end, chunk_end);
      if (shards_.owns(at)) {
        mark_local(shards_.to_local(at), run_end - at);
      }
      at = run_end;
    }
  }
}

void Sender::mark_local(std::uint64_t first, std::uint64_t count) {
  if (!iterating_ && in_flight_pages_ == 0 && suspects_.empty()) {
    pending_.set_range(first,
                       count);  // the first marking of all memory: nothing to look at page by page
    return;
  }
  for (std::uint64_t page = first; page < first + count; ++page) {
    mark_page(page);
  }
}

void Sender::mark_page(std::uint64_t local_page) {
  if (sent_sequence_[local_page] != 0) {
    sent_sequence_[local_page] = 0;
    --in_flight_pages_;
  }
  suspects_.clear(local_page);
  if (iterating_) {
    dirtied_now_.set(local_page);
  }
  if (!final_pass_ && iterating_ && dirtied_before_.test(local_page)) {
    pending_.clear(local_page);
    deferred_.set(local_page);
  } else {
    pending_.set(local_page);
  }
}

void Sender::begin_iteration() {
  for (auto page = deferred_.find_next(0); page; page = deferred_.find_next(*page + 1)) {
    if (!dirtied_now_.test(*page)) {
      deferred_.clear(*page);
      pending_.set(*page);
    }
  }
  iterating_ = true;
  std::swap(dirtied_before_, dirtied_now_);
  dirtied_now_.clear_all();
}

void Sender::begin_final_pass() {
  final_pass_ = true;
  for (auto page = deferred_.find_next(0); page; page = deferred_.find_next(*page + 1)) {
    pending_.set(*page);
  }
  deferred_.clear_all();
}

void Sender::fold_digests(std::span<page::ExtentDigest> out) { hashes_.fold(out); }

bool Sender::invariants_hold() const { return frames_consistent() && pages_consistent(); }

bool Sender::frames_consistent() const {
  if (oldest_ > next_sequence_ || next_sequence_ - oldest_ > wire::kAckSpanMax ||
      told_floor_ > oldest_ || largest_acked_ >= next_sequence_) {
    return false;
  }
  std::uint64_t in_flight = 0;
  for (const SentFrame& frame : ring_) {
    if (frame.state != FrameState::kInFlight) {
      continue;
    }
    ++in_flight;
    if (frame.sequence < oldest_ || frame.sequence >= next_sequence_ || frame.records == 0 ||
        &frame != &ring_[frame.sequence % ring_.size()]) {
      return false;
    }
  }
  const bool oldest_found =
      oldest_ == next_sequence_ || (ring_[oldest_ % ring_.size()].sequence == oldest_ &&
                                    ring_[oldest_ % ring_.size()].state == FrameState::kInFlight);
  return in_flight == in_flight_frames_ && oldest_found;
}

bool Sender::pages_consistent() const {
  std::uint64_t in_flight = 0;
  for (std::uint64_t page = 0; page < sent_sequence_.size(); ++page) {
    const Sequence version = sent_sequence_[page];
    const bool flying = version != 0;
    in_flight += flying ? 1 : 0;
    const int states = int{flying} + int{pending_.test(page)} + int{deferred_.test(page)};
    if (suspects_.test(page) && states > 0) {
      return false;
    }
    if (states > 1 || (states == 1 && !layout_.contains(shards_.to_global(page)))) {
      return false;
    }
    if (flying && (!ever_sent_.test(page) || !version_in_flight(page, version))) {
      return false;
    }
  }
  return in_flight == in_flight_pages_;
}

bool Sender::version_in_flight(std::uint64_t local_page, Sequence version) const {
  const std::uint8_t fragments = ring_[version % ring_.size()].fragments;
  const std::size_t frames = std::max<std::size_t>(fragments, 1);
  std::size_t acked = 0;
  for (Sequence sequence = version; sequence < version + frames; ++sequence) {
    const SentFrame& frame = ring_[sequence % ring_.size()];
    if (sequence >= next_sequence_) {
      return fragmented_.active && fragmented_.version == version &&
             fragmented_.local_page == local_page && acked == fragments_acked_[local_page];
    }
    if (frame.sequence != sequence || frame.version() != version ||
        frame.state == FrameState::kLost) {
      return false;
    }
    const auto end = frame.record.begin() + frame.records;
    const bool carries = std::any_of(frame.record.begin(), end, [&](const RecordRef& run) {
      return local_page >= run.local_page && local_page < run.local_page + run.pages;
    });
    if (!carries) {
      return false;
    }
    if (frame.zero_pages > 0) {
      return frame.state == FrameState::kInFlight;
    }
    acked += frame.state == FrameState::kAcked ? 1 : 0;
  }
  return acked < frames && (fragments == 0 || acked == fragments_acked_[local_page]);
}

}  // namespace sluice::protocol
