#include "dataplane/protocol/receiver.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>

#include "dataplane/page/copy.h"
#include "dataplane/page/prefetch.h"

namespace sluice::protocol {
namespace {

// What a page counts as while only some fragments of its newest version have arrived: no content
// hashes to it, save by the chance of any other mismatch that XXH3 cannot see.
constexpr page::PageHash kIncompleteHash = 0xBAD0'1BAD'2BAD'3BADULL;

// Of one frame. More would push out of the first-level cache what the frame before still needs.
constexpr std::size_t kPrefetchPages = 2;

bool run_owned(const page::Layout& layout, const page::ShardMap& shards, PageNumber page,
               std::uint64_t pages) {
  // A run is shorter than a chunk, so it touches at most two.
  return layout.contains_run(page, pages) && shards.owns(page) && shards.owns(page + pages - 1);
}

}  // namespace

Receiver::Receiver(const ReceiverConfig& config, const page::Layout& layout,
                   const page::ShardMap& shards, const page::MemoryMap& memory)
    : config_(config),
      layout_(layout),
      shards_(shards),
      memory_(memory),
      hashes_(shards),
      audit_rounds_(shards.local_pages()),
      applied_version_(shards.local_pages(), 0),
      missing_bytes_(shards.local_pages(), 0) {}

void Receiver::set_initial_hash(PageNumber page, page::PageHash hash) {
  assert(layout_.contains(page) && shards_.owns(page));
  hashes_.set(shards_.to_local(page), hash);
}

bool Receiver::on_data(const wire::DataFrame& frame, TimeNs now, wire::DropReason& reason) {
  if (!admit_sequence(frame.header, reason) || !check_records(frame, reason)) {
    return false;
  }
  const Sequence sequence = frame.header.sequence;
  std::size_t payload_offset = 0;
  for (std::size_t i = 0; i < frame.header.records; ++i) {
    const wire::Record& record = frame.records[i];
    apply_record(record, sequence, frame.payload.subspan(payload_offset, record.payload_bytes));
    payload_offset += record.payload_bytes;
  }
  note_arrival(frame.header, now);
  return true;
}

void Receiver::audit(std::size_t pages) {
  std::size_t passed_over = 0;
  while (pages > 0 && passed_over < kAuditPassedOverMax) {
    const auto local_page = audit_rounds_.next();
    const bool whole = local_page && missing_bytes_[*local_page] == 0;
    if (!whole) {
      ++passed_over;
      continue;
    }
    hashes_.set(*local_page, page::hash_page(memory_.address(shards_.to_global(*local_page))));
    --pages;
  }
}

void Receiver::prefetch(const wire::DataFrame& frame) const {
  std::size_t pages_left = kPrefetchPages;
  for (std::size_t i = 0; i < frame.header.records && pages_left > 0; ++i) {
    const wire::Record& record = frame.records[i];
    // Zero pages are rarely written.
    if (record.type == wire::RecordType::kZero ||
        !layout_.contains_run(record.page, record.pages)) {
      continue;
    }
    const std::size_t pages = std::min<std::size_t>(record.pages, pages_left);
    for (std::size_t page = 0; page < pages; ++page) {
      page::prefetch_page(memory_.address(record.page + page));
    }
    pages_left -= pages;
  }
}

bool Receiver::admit_sequence(const wire::FrameHeader& header, wire::DropReason& reason) const {
  const Sequence sequence = header.sequence;
  // After the last number there is no next one for cumulative_ to be.
  if (sequence == 0 || sequence == std::numeric_limits<Sequence>::max() ||
      header.floor_distance >= sequence || header.floor_distance >= wire::kAckSpanMax) {
    reason = wire::DropReason::kOutOfRange;
    return false;
  }
  if (is_duplicate(sequence)) {
    reason = wire::DropReason::kDuplicate;
    return false;
  }
  // Beyond the window there is nothing to ask: this frame's own floor moves the window so that it
  // fits.
  return true;
}

bool Receiver::is_duplicate(Sequence sequence) const {
  return sequence < cumulative_ ||
         (sequence - cumulative_ < wire::kAckSpanMax && received(sequence));
}

bool Receiver::check_records(const wire::DataFrame& frame, wire::DropReason& reason) const {
  std::size_t payload_bytes = 0;
  for (std::size_t i = 0; i < frame.header.records; ++i) {
    const wire::Record& record = frame.records[i];
    if (!run_owned(layout_, shards_, record.page, record.pages)) {
      reason = wire::DropReason::kOutOfRange;
      return false;
    }
    if (record.type == wire::RecordType::kFragment && frame.header.sequence <= record.index) {
      reason = wire::DropReason::kBadRecord;
      return false;
    }
    payload_bytes += record.payload_bytes;
  }
  if (payload_bytes != frame.payload.size()) {
    reason = wire::DropReason::kBadLength;
    return false;
  }
  return true;
}

void Receiver::apply_record(const wire::Record& record, Sequence sequence,
                            std::span<const std::byte> payload) {
  const std::uint64_t first = shards_.to_local(record.page);
  std::byte* memory = memory_.address(record.page);
  if (record.type == wire::RecordType::kFragment) {
    apply_fragment(record, sequence - record.index, payload);
    return;
  }
  for (std::size_t i = 0; i < record.pages; ++i) {
    std::byte* page = memory + i * kPageBytes;
    if (!begin_version(first + i, sequence)) {
      continue;
    }
    if (record.type == wire::RecordType::kRaw) {
      page::copy_page(page, payload.data() + i * kPageBytes);
      hashes_.set(first + i, page::hash_page(page));
      audit_rounds_.admit(first + i);
      ++counters_.raw_pages_applied;
    } else {
      apply_zero(first + i, page);
    }
  }
}

void Receiver::apply_zero(std::uint64_t local_page, std::byte* page) {
  // A page that is zero already is left alone, so that holes of the memory stay unpopulated.
  if (hashes_.get(local_page) != page::zero_page_hash()) {
    std::memset(page, 0, kPageBytes);
    hashes_.set(local_page, page::hash_page(page));
  }
  ++counters_.zero_pages_applied;
}

void Receiver::apply_fragment(const wire::Record& record, Sequence version,
                              std::span<const std::byte> payload) {
  const std::uint64_t local_page = shards_.to_local(record.page);
  fragments_seen_ = true;
  if (version > applied_version_[local_page]) {
    applied_version_[local_page] = version;
    missing_bytes_[local_page] = kPageBytes;
    hashes_.set(local_page, kIncompleteHash);
  }
  // Frames arrive at most once, so each fragment of a version counts once; more bytes than are
  // missing are no fragment of it.
  if (version < applied_version_[local_page] || payload.size() > missing_bytes_[local_page]) {
    ++counters_.stale_pages;
    return;
  }
  std::byte* page = memory_.address(record.page);
  std::memcpy(page + record.offset, payload.data(), payload.size());
  ++counters_.fragments_applied;
  missing_bytes_[local_page] =
      static_cast<std::uint16_t>(missing_bytes_[local_page] - payload.size());
  if (missing_bytes_[local_page] == 0) {
    hashes_.set(local_page, page::hash_page(page));
    audit_rounds_.admit(local_page);
    ++counters_.raw_pages_applied;
  }
}

bool Receiver::begin_version(std::uint64_t local_page, Sequence version) {
  if (version < applied_version_[local_page]) {
    ++counters_.stale_pages;
    return false;
  }
  applied_version_[local_page] = version;
  if (fragments_seen_) {
    missing_bytes_[local_page] = 0;
  }
  return true;
}

void Receiver::note_arrival(const wire::FrameHeader& header, TimeNs now) {
  const Sequence sequence = header.sequence;
  advance_cumulative(sequence - header.floor_distance);
  received_[sequence / 64 % received_.size()] |= 1ULL << (sequence % 64);
  while (received(cumulative_)) {
    forget(cumulative_++);
  }
  if (sequence > largest_) {
    largest_ = sequence;
    largest_arrival_ns_ = now;
    largest_timestamp_ns_ = header.timestamp_ns;
  }
  if (frames_since_ack_++ == 0) {
    first_unacked_arrival_ns_ = now;
  }
  ++counters_.frames_received;
  counters_.bytes_received +=
      wire::kFrameHeaderBytes + header.body_bytes + wire::tag_bytes(config_.protection);
}

bool Receiver::received(Sequence sequence) const {
  return (received_[sequence / 64 % received_.size()] >> (sequence % 64) & 1U) != 0;
}

void Receiver::forget(Sequence sequence) {
  received_[sequence / 64 % received_.size()] &= ~(1ULL << (sequence % 64));
}

void Receiver::advance_cumulative(Sequence floor) {
  if (floor <= cumulative_) {
    return;
  }
  if (floor - cumulative_ >= wire::kAckSpanMax) {
    received_.fill(0);
  } else {
    for (Sequence sequence = cumulative_; sequence < floor; ++sequence) {
      forget(sequence);
    }
  }
  cumulative_ = floor;
}

bool Receiver::ack_due(TimeNs now, bool idle) const {
  if (frames_since_ack_ == 0) {
    return false;
  }
  return idle || frames_since_ack_ >= config_.ack_every_frames ||
         now >= first_unacked_arrival_ns_ + config_.ack_delay_max_ns;
}

std::size_t Receiver::make_ack(TimeNs now, std::span<std::byte> out) {
  assert(largest_ > 0 && out.size() >= wire::kAckBytesMax);
  wire::Ack ack;
  ack.cumulative = cumulative_;
  ack.largest = largest_;
  const TimeNs delay_ns = now > largest_arrival_ns_ ? now - largest_arrival_ns_ : 0;
  ack.ack_delay_ns = static_cast<std::uint32_t>(
      std::min<TimeNs>(delay_ns, std::numeric_limits<std::uint32_t>::max()));
  if (largest_ >= cumulative_) {
    ack.bitmap_words = static_cast<std::uint16_t>((largest_ - cumulative_) / 64 + 1);
  }
  // The table is a ring of words; the ack's bitmap starts at the cumulative number, in the middle
  // of one.
  const std::size_t shift = cumulative_ % 64;
  for (std::size_t i = 0; i < ack.bitmap_words; ++i) {
    const std::size_t word = cumulative_ / 64 + i;
    ack.bitmap[i] = received_[word % received_.size()] >> shift;
    if (shift != 0) {
      ack.bitmap[i] |= received_[(word + 1) % received_.size()] << (64 - shift);
    }
  }
  wire::FrameHeader header;
  header.type = wire::FrameType::kAck;
  header.session = config_.session;
  header.flow = config_.flow;
  header.sequence = next_ack_++;
  header.timestamp_ns = largest_timestamp_ns_;
  frames_since_ack_ = 0;
  ++counters_.acks_sent;
  return wire::encode_ack(header, ack, out, config_.protection);
}

std::size_t Receiver::make_probe_reply(const wire::FrameHeader& probe, std::span<std::byte> out) {
  return wire::encode_probe_reply(probe, next_probe_reply_++, out, config_.protection);
}

void Receiver::fold_digests(std::span<page::ExtentDigest> out) { hashes_.fold(out); }

}  // namespace sluice::protocol
