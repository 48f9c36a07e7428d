// What became of the frames sent: acks, losses and probe timeouts.
#include <algorithm>
#include <bit>
#include <cassert>

#include "dataplane/protocol/sender.h"

namespace sluice::protocol {

void Sender::on_ack(const wire::AckFrame& frame, TimeNs now, TimeNs unseen_ns) {
  ++counters_.acks_received;
  if (!ack_valid(frame)) {
    ++counters_.acks_rejected;
    return;
  }
  if (frame.header.sequence <= newest_ack_) {
    return;
  }
  newest_ack_ = frame.header.sequence;
  last_heard_ns_ = now;

  const SentFrame* largest = find_sent(frame.ack.largest);
  const TimeNs echo_ns = frame.header.timestamp_ns;
  congestion::AckSample sample;
  sample.in_flight_before = in_flight_frames_;
  if (largest != nullptr && largest->state == FrameState::kInFlight && echo_ns != 0 &&
      echo_ns <= now) {
    const TimeNs rtt_ns = now - echo_ns;
    rtt_.sample(rtt_ns, frame.ack.ack_delay_ns);
    sample.round_trip_ns = rtt_ns;
    sample.unseen_ns = frame.ack.ack_delay_ns + unseen_ns;
  }
  sample.smoothed_round_trip_ns = rtt_.smoothed_ns();
  sample.frames = settle_acked(frame.ack);
  largest_acked_ = std::max(largest_acked_, frame.ack.largest);
  if (sample.frames > 0) {
    counters_.frames_acked += sample.frames;
    swift_.on_acked(sample, now);
    probe_backoff_ = 0;
    probe_credit_ = 0;
    probe_base_ns_ = now;
  }
  advance_oldest();
  declare_losses(now);
}

Sender::SentFrame* Sender::find_sent(Sequence sequence) {
  SentFrame& frame = ring_[sequence % ring_.size()];
  return frame.sequence == sequence && frame.state != FrameState::kFree ? &frame : nullptr;
}

bool Sender::ack_valid(const wire::AckFrame& frame) const {
  const wire::Ack& ack = frame.ack;
  if (frame.header.sequence == 0 || ack.largest == 0 || ack.largest >= next_sequence_ ||
      ack.cumulative == 0 || ack.cumulative > ack.largest + 1 ||
      ack.bitmap_words > wire::kAckWordsMax) {
    return false;
  }
  // The bitmap's last bit is `largest`, if that is not below the cumulative number: then the bitmap
  // is empty.
  Sequence bits_end = ack.cumulative;
  for (std::size_t i = ack.bitmap_words; i > 0; --i) {
    if (ack.bitmap[i - 1] != 0) {
      bits_end += i * 64 - static_cast<std::uint64_t>(std::countl_zero(ack.bitmap[i - 1]));
      break;
    }
  }
  return bits_end == ack.largest + 1;
}

std::uint64_t Sender::settle_acked(const wire::Ack& ack) {
  std::uint64_t newly_acked = 0;
  // Below told_floor_ nothing is in flight, and a lost frame there may have been passed over
  // instead of received.
  for (Sequence s = std::max(acked_below_, told_floor_); s < ack.cumulative; ++s) {
    newly_acked += acknowledge(s) ? 1 : 0;
  }
  acked_below_ = std::max(acked_below_, ack.cumulative);
  for (std::size_t i = 0; i < ack.bitmap_words; ++i) {
    for (std::uint64_t bits = ack.bitmap[i]; bits != 0; bits &= bits - 1) {
      const auto bit = static_cast<std::uint64_t>(std::countr_zero(bits));
      newly_acked += acknowledge(ack.cumulative + i * 64 + bit) ? 1 : 0;
    }
  }
  return newly_acked;
}

bool Sender::acknowledge(Sequence sequence) {
  SentFrame* frame = find_sent(sequence);
  if (frame == nullptr || frame->state == FrameState::kAcked) {
    return false;
  }
  const bool was_lost = frame->state == FrameState::kLost;
  frame->state = FrameState::kAcked;
  note_arrival(*frame);
  if (was_lost) {
    ++counters_
          .spurious_losses;  // its pages are pending or were sent again; no state depends on it
    return false;
  }
  --in_flight_frames_;
  for (std::size_t i = 0; i < frame->records; ++i) {
    const RecordRef& run = frame->record[i];
    for (std::uint64_t page = run.local_page; page < run.local_page + run.pages; ++page) {
      acknowledge_page(*frame, page);
    }
  }
  return true;
}

void Sender::acknowledge_page(const SentFrame& frame, std::uint64_t local_page) {
  if (sent_sequence_[local_page] != frame.version()) {
    return;  // superseded by a newer version
  }
  if (frame.fragments > 0 && ++fragments_acked_[local_page] < frame.fragments) {
    return;
  }
  sent_sequence_[local_page] = 0;
  --in_flight_pages_;
}

void Sender::declare_losses(TimeNs now) {
  const TimeNs delay_ns = rtt_.loss_delay_ns();
  std::uint64_t lost = 0;
  loss_time_ns_ = 0;
  for (Sequence sequence = oldest_; sequence < largest_acked_; ++sequence) {
    SentFrame& frame = ring_[sequence % ring_.size()];
    if (frame.state != FrameState::kInFlight) {
      continue;
    }
    const TimeNs lost_at_ns = frame.sent_ns + delay_ns;
    if (sequence + kPacketThreshold <= largest_acked_ || lost_at_ns <= now) {
      declare_lost(frame);
      ++lost;
    } else if (loss_time_ns_ == 0 || lost_at_ns < loss_time_ns_) {
      loss_time_ns_ = lost_at_ns;
    }
  }
  if (lost > 0) {
    swift_.on_lost(lost, now);
    advance_oldest();
  }
}

void Sender::declare_lost(SentFrame& frame) {
  frame.state = FrameState::kLost;
  --in_flight_frames_;
  note_large_loss(frame);
  ++counters_.frames_lost;
  counters_.pages_resent_after_loss += make_pending_again(frame);
}

std::uint64_t Sender::make_pending_again(const SentFrame& frame) {
  std::uint64_t pages = 0;
  for (std::size_t i = 0; i < frame.records; ++i) {
    const RecordRef& run = frame.record[i];
    for (std::uint64_t page = run.local_page; page < run.local_page + run.pages; ++page) {
      if (sent_sequence_[page] == frame.version()) {
        sent_sequence_[page] = 0;
        --in_flight_pages_;
        pending_.set(page);
        ++pages;
      }
    }
  }
  return pages;
}

bool Sender::carries_newest(const SentFrame& frame) const {
  for (std::size_t i = 0; i < frame.records; ++i) {
    const RecordRef& run = frame.record[i];
    for (std::uint64_t page = run.local_page; page < run.local_page + run.pages; ++page) {
      if (sent_sequence_[page] == frame.version()) {
        return true;
      }
    }
  }
  return false;
}

void Sender::on_time(TimeNs now) {
  if (in_flight_frames_ == 0 || now < deadline_ns()) {
    return;
  }
  if (loss_time_ns_ != 0) {
    declare_losses(now);
  } else {
    fire_probe_timeout(now);
  }
}

TimeNs Sender::deadline_ns() const {
  if (in_flight_frames_ == 0) {
    return 0;
  }
  if (loss_time_ns_ != 0) {
    return loss_time_ns_;
  }
  return probe_base_ns_ + rtt_.probe_timeout_ns(probe_backoff_);
}

void Sender::fire_probe_timeout(TimeNs now) {
  ++counters_.probe_timeouts;
  probe_backoff_ = std::min(probe_backoff_ + 1, kProbeBackoffMax);
  swift_.on_probe_timeout(probe_backoff_);
  probe_base_ns_ = now;
  probe_credit_ = kProbeFrames;
  // Frames that earlier probes or newer versions took over carry nothing any more. Were they kept,
  // the span could fill up with them and no probe could be sent.
  while (oldest_ < next_sequence_ && !carries_newest(ring_[oldest_ % ring_.size()])) {
    declare_lost(ring_[oldest_ % ring_.size()]);
    advance_oldest();
  }
  std::uint32_t probed = 0;
  for (Sequence s = oldest_; s < next_sequence_ && probed < kProbeFrames; ++s) {
    const SentFrame& frame = ring_[s % ring_.size()];
    if (frame.state == FrameState::kInFlight && carries_newest(frame)) {
      counters_.pages_resent_after_loss += make_pending_again(frame);
      ++probed;
    }
  }
}

void Sender::advance_oldest() {
  while (oldest_ < next_sequence_ && ring_[oldest_ % ring_.size()].state != FrameState::kInFlight) {
    ++oldest_;
  }
}

}  // namespace sluice::protocol
