// Making frames out of pending pages, and taking one back.
#include <algorithm>
#include <cassert>

#include "dataplane/page/prefetch.h"
#include "dataplane/protocol/sender.h"
#include "dataplane/wire/packet.h"

namespace sluice::protocol {
namespace {

// Pages that one next_frame() looks at: zero pages cost a read and no room, and acks must not wait
// for gigabytes of them.
constexpr std::size_t kPagesExaminedMax = 2 * kExtentPages;

}  // namespace

std::size_t OutgoingFrame::payload_bytes() const {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < slices; ++i) {
    bytes += slice[i].size();
  }
  return bytes;
}

bool Sender::next_frame(TimeNs now, OutgoingFrame& out) {
  if (!may_send(now)) {
    return false;
  }
  SentFrame& frame = ring_[next_sequence_ % ring_.size()];
  frame.begin(next_sequence_);
  frame.probe = !within_window();
  out.slices = 0;
  Draft draft{{}, frame, out};
  // The rest of a page whose version is superseded already is not worth sending.
  if (fragmented_.active && sent_sequence_[fragmented_.local_page] != fragmented_.version) {
    fragmented_.active = false;
  }
  if (fragmented_.active) {
    add_fragment(draft);
  } else {
    collect_pages(draft);
  }
  if (frame.records == 0) {
    return false;
  }
  commit(draft, now);
  return true;
}

bool Sender::may_send(TimeNs now) const {
  if ((pending_.empty() && !fragmented_.active) || now < swift_.next_send_ns()) {
    return false;
  }
  return within_window() || (probe_credit_ > 0 && next_sequence_ - oldest_ < wire::kAckSpanMax);
}

bool Sender::within_window() const {
  return in_flight_frames_ < swift_.window_frames() &&
         next_sequence_ - oldest_ < wire::kAckSpanMax - kProbeFrames;
}

// While a page is hashed, the next one is on its way from memory.
void Sender::collect_pages(Draft& draft) {
  if (pending_.empty()) {
    return;  // a superseded fragment was all there was to send
  }
  std::uint64_t local_page = next_pending();
  for (std::size_t i = 0; i < kPagesExaminedMax; ++i) {
    const auto following = pending_.find_next(local_page + 1);
    if (following) {
      page::prefetch_page(memory_.address(shards_.to_global(*following)));
    }
    if (!take_page(draft, local_page)) {
      return;
    }
    cursor_ = local_page + 1;
    const bool full = fragments_ == 0 && draft.frame.raw_pages == raw_pages_max_;
    if (full || fragmented_.active || pending_.empty()) {
      return;
    }
    local_page = following ? *following : next_pending();
  }
}

std::uint64_t Sender::next_pending() const {
  auto page = pending_.find_next(cursor_);
  if (!page) {
    page = pending_.find_next(0);
  }
  assert(page);
  return *page;
}

bool Sender::take_page(Draft& draft, std::uint64_t local_page) {
  const PageNumber page = shards_.to_global(local_page);
  if (page < config_.audited_pages) {
    audit_rounds_.admit(local_page);
  }
  if (!page::is_zero_page(memory_.address(page))) {
    return take_raw(draft, local_page, page);
  }
  if (!ever_sent_.test(local_page)) {
    pending_.clear(
        local_page);  // zero on the other side too, and nothing is under way that could change it
    return true;
  }
  return take_zero(draft, local_page, page);
}

bool Sender::take_zero(Draft& draft, std::uint64_t local_page, PageNumber page) {
  if (extend(draft, wire::RecordType::kZero, local_page, page) == nullptr) {
    return false;
  }
  ++draft.frame.zero_pages;
  put_in_flight(local_page, page::zero_page_hash());
  return true;
}

bool Sender::take_raw(Draft& draft, std::uint64_t local_page, PageNumber page) {
  const std::byte* content = memory_.address(page);
  if (fragments_ > 0) {
    if (draft.frame.records > 0) {
      return false;  // a fragment has its frame to itself
    }
    put_in_flight(local_page, page::hash_page(content));
    fragments_acked_[local_page] = 0;
    fragmented_ = {true, 0, local_page, draft.frame.sequence};
    add_fragment(draft);
    return true;
  }
  wire::Record* record = extend(draft, wire::RecordType::kRaw, local_page, page);
  if (record == nullptr) {
    return false;
  }
  OutgoingFrame& out = draft.out;
  if (record->pages == 1) {
    out.slice[out.slices++] = {content, kPageBytes};
  } else {
    out.slice[out.slices - 1U] = {out.slice[out.slices - 1U].data(), record->pages * kPageBytes};
  }
  record->payload_bytes = static_cast<std::uint16_t>(record->pages * kPageBytes);
  ++draft.frame.raw_pages;
  put_in_flight(local_page, page::hash_page(content));
  return true;
}

void Sender::add_fragment(Draft& draft) {
  const PageNumber page = shards_.to_global(fragmented_.local_page);
  const std::size_t offset = fragmented_.next_index * fragment_bytes_;
  const std::size_t bytes = std::min(fragment_bytes_, kPageBytes - offset);
  SentFrame& frame = draft.frame;
  frame.fragment_index = fragmented_.next_index;
  frame.fragments = fragments_;
  frame.raw_pages = fragmented_.next_index == 0 ? 1 : 0;
  wire::Record* record = extend(draft, wire::RecordType::kFragment, fragmented_.local_page, page);
  record->index = fragmented_.next_index;
  record->offset = static_cast<std::uint16_t>(offset);
  record->payload_bytes = static_cast<std::uint16_t>(bytes);
  draft.out.slice[0] = {memory_.address(page) + offset, bytes};
  draft.out.slices = 1;
  fragmented_.active = ++fragmented_.next_index < fragments_;
}

wire::Record* Sender::extend(Draft& draft, wire::RecordType type, std::uint64_t local_page,
                             PageNumber page) {
  SentFrame& frame = draft.frame;
  if (frame.records > 0) {
    wire::Record& last = draft.records[frame.records - 1U];
    // Regions and records end at extents' borders, so that a run is contiguous in memory.
    if (last.type == type && last.page + last.pages == page && page % kExtentPages != 0) {
      ++last.pages;
      ++frame.record[frame.records - 1U].pages;
      return &last;
    }
  }
  if (frame.records == wire::kRecordsMax) {
    return nullptr;
  }
  wire::Record& record = draft.records[frame.records];
  record = wire::Record{};
  record.type = type;
  record.page = page;
  frame.record[frame.records++] = {local_page, 1};
  return &record;
}

void Sender::put_in_flight(std::uint64_t local_page, page::PageHash hash) {
  pending_.clear(local_page);
  ever_sent_.set(local_page);
  sent_sequence_[local_page] = next_sequence_;
  ++in_flight_pages_;
  hashes_.set(local_page, hash);
}

void Sender::commit(Draft& draft, TimeNs now) {
  SentFrame& frame = draft.frame;
  OutgoingFrame& out = draft.out;
  wire::FrameHeader header;
  header.session = config_.session;
  header.flow = config_.flow;
  header.sequence = frame.sequence;
  header.timestamp_ns = now;
  header.floor_distance = static_cast<std::uint32_t>(frame.sequence - oldest_);
  const std::span<const wire::Record> records(draft.records.data(), frame.records);
  out.prefix_bytes = static_cast<std::uint16_t>(
      wire::encode_data_prefix(header, records, out.prefix, config_.protection));

  frame.state = FrameState::kInFlight;
  frame.sent_ns = now;
  frame.bytes = static_cast<std::uint32_t>(out.prefix_bytes + out.payload_bytes() +
                                           wire::tag_bytes(config_.protection));
  frame.probe_base_before_ns = probe_base_ns_;
  frame.next_send_before_ns = swift_.next_send_ns();
  told_floor_ = oldest_;
  ++next_sequence_;
  ++in_flight_frames_;
  probe_base_ns_ = now;
  if (frame.probe) {
    --probe_credit_;
  }
  if (last_heard_ns_ == 0) {
    last_heard_ns_ = now;
  }
  ++counters_.frames_sent;
  counters_.bytes_sent += frame.bytes;
  counters_.raw_pages_sent += frame.raw_pages;
  counters_.zero_pages_sent += frame.zero_pages;
  swift_.on_sent(now);
}

void Sender::undo_last_frame() {
  SentFrame& frame = ring_[(next_sequence_ - 1) % ring_.size()];
  assert(frame.sequence + 1 == next_sequence_ && frame.state == FrameState::kInFlight);
  if (frame.fragment_index > 0) {
    fragmented_ = {true, frame.fragment_index, frame.record[0].local_page, frame.version()};
  } else {
    fragmented_.active = false;
    cursor_ = frame.record[0].local_page;
    make_pending_again(frame);
  }
  --next_sequence_;
  --in_flight_frames_;
  frame.state = FrameState::kFree;
  probe_base_ns_ = frame.probe_base_before_ns;
  swift_.undo_sent(frame.next_send_before_ns);
  if (frame.probe) {
    ++probe_credit_;
  }
  if (next_sequence_ == 1) {
    last_heard_ns_ = 0;
  }
  --counters_.frames_sent;
  counters_.bytes_sent -= frame.bytes;
  counters_.raw_pages_sent -= frame.raw_pages;
  counters_.zero_pages_sent -= frame.zero_pages;
}

}  // namespace sluice::protocol
