// The worker's loop: every stage is a function, in the order in which step() names them.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstring>

#include "dataplane/engine/path_probing.h"
#include "dataplane/engine/receive.h"
#include "dataplane/engine/worker.h"
#include "dataplane/engine/worker_neighbours.h"

namespace sluice::engine {

template <port::Queue Q>
Activity Worker<Q>::step(TimeNs now) {
  excuse_standstill(now);
  const bool received = receive_burst(now);
  acknowledge(now, received);
  reap_losses(now);
  const bool probed = probe_paths(now);
  const bool harvested = harvest_dirty_pages();
  const bool transmitted = transmit_burst(now);
  bool busy = received || probed || harvested || transmitted;
  audit_pages(busy);
  finish_phases();
  if (busy) {
    publish_probes();
  }
  if (!busy || ++busy_steps_ >= kBusyStepsPerCommandPoll) {
    busy_steps_ = 0;
    busy |= release_stopped_flows();
    busy |= run_commands(now);
  }
  return busy ? Activity::kBusy : Activity::kIdle;
}

// ---- acknowledge and reap losses ----

// An ack that the port refuses counts as lost on the way: a later one says the same and more.
template <port::Queue Q>
void Worker<Q>::acknowledge(TimeNs now, bool received) {
  empty_receives_ = received ? 0 : std::min(empty_receives_ + 1, kIdleReceives);
  const bool idle = empty_receives_ == kIdleReceives;
  for (std::size_t i = 0; i < receivers_count_; ++i) {
    ReceiveFlow& flow = *receivers_[i];
    if (!flow.receiver.ack_due(now, idle)) {
      continue;
    }
    const std::span<std::byte> head(single_.head);
    const std::size_t bytes = flow.receiver.make_ack(now, head.subspan(flow.packet.bytes()));
    transmit_single(flow.packet, flow.keys.get(), bytes, 0);
  }
}

template <port::Queue Q>
void Worker<Q>::reap_losses(TimeNs now) {
  for (std::size_t i = 0; i < senders_count_; ++i) {
    SendFlow& flow = *senders_[i].flow;
    const TimeNs deadline = flow.sender.deadline_ns();
    if (deadline != 0 && deadline <= now) {
      flow.sender.on_time(now);
    }
    if (!may_send(senders_[i]) || flow.sender.settled()) {
      continue;
    }
    // A peer that answers probes is there: what the search finds comes first.
    if (now > silent_since(senders_[i]) + kPeerSilentNs && !flow.path.answered()) {
      fail_flow(flow, EventKind::kPeerSilent, 0);
    }
  }
}

// Time in which this thread did not run is not the peer's silence.
template <port::Queue Q>
void Worker<Q>::excuse_standstill(TimeNs now) {
  const TimeNs stood_ns = polled_before_ns_ == 0 ? 0 : now - polled_before_ns_;
  if (stood_ns < kStandstillNs) {
    return;
  }
  for (std::size_t i = 0; i < senders_count_; ++i) {
    senders_[i].silence_began_ns = std::min(now, silent_since(senders_[i]) + stood_ns);
    senders_[i].flow->path.excuse_standstill(stood_ns);
  }
}

template <port::Queue Q>
void Worker<Q>::fail_flow(SendFlow& flow, EventKind kind, std::uint64_t value) {
  flow.failed = true;
  emit(kind, flow.id_session, flow.id_flow, value);
}

// ---- harvest ----

template <port::Queue Q>
bool Worker<Q>::harvest_dirty_pages() {
  bool harvested = false;
  for (std::size_t i = 0; i < senders_count_; ++i) {
    SendFlow& flow = *senders_[i].flow;
    if (!may_send(senders_[i])) {
      continue;
    }
    if (flow.phase == SendFlow::Phase::kIterating &&
        flow.harvest_cursor < flow.shards.local_pages() &&
        flow.sender.pending_pages() < kHarvestLowWaterPages) {
      harvested |= harvest_chunk(flow);
    } else if (flow.phase == SendFlow::Phase::kFinalScan) {
      // The guest stands still: what it waits for is the end of the whole scan, not a well-fed
      // link.
      while (flow.harvest_cursor < flow.shards.local_pages() && harvest_chunk(flow)) {
      }
      if (!flow.failed) {
        emit(EventKind::kFinalScanned, flow.id_session, flow.id_flow, flow.harvested_in_phase);
        flow.phase = SendFlow::Phase::kSettling;
      }
      harvested = true;
    }
  }
  return harvested;
}

// Scans once within one chunk of the shard, whose pages are consecutive for the tracker too. False
// when tracking failed.
template <port::Queue Q>
bool Worker<Q>::harvest_chunk(SendFlow& flow) {
  const PageNumber first = flow.shards.to_global(flow.harvest_cursor);
  if (flow.tracker == nullptr || first >= flow.tracked_pages) {
    flow.harvest_cursor = flow.shards.local_pages();
    return true;
  }
  const std::uint64_t count =
      std::min({page::ShardMap::kChunkPages - flow.harvest_cursor % page::ShardMap::kChunkPages,
                flow.shards.local_pages() - flow.harvest_cursor, flow.tracked_pages - first});
  const TimeNs began = clock_();
  const port::HarvestResult result = flow.tracker->harvest(first, count, runs_);
  add_relaxed(flow.probe.harvest_ns, clock_() - began);
  if (result.status != port::HarvestStatus::kOk) {
    fail_flow(flow, EventKind::kTrackerFailed, static_cast<std::uint64_t>(result.status));
    return false;
  }
  for (std::size_t i = 0; i < result.runs; ++i) {
    flow.sender.mark_dirty(runs_[i].first, runs_[i].count);
    flow.harvested_in_phase += runs_[i].count;
    add_relaxed(flow.probe.harvested_pages, runs_[i].count);
  }
  assert(result.next_page > first && result.next_page <= first + count);
  if (const auto page =
          flow.sender.find_unseen_write(flow.harvest_cursor, result.next_page - first)) {
    fail_flow(flow, EventKind::kUnseenWrite, *page);
    return false;
  }
  flow.harvest_cursor += result.next_page - first;
  return true;
}

// ---- fill frames and transmit ----

template <port::Queue Q>
bool Worker<Q>::transmit_burst(TimeNs now) {
  const auto [made, looked] = fill_burst(now);
  if (made == 0) {
    return looked;
  }
  const std::size_t accepted =
      queue_.transmit(std::span<const port::OutgoingPacket>(burst_.data(), made));
  for (std::size_t i = made; i > accepted; --i) {
    burst_owner_[i - 1]->sender.undo_last_frame();
    pacer_ = pacer_before_[i - 1];
  }
  burst_limit_ = accepted < made ? std::max<std::size_t>(accepted, 1)
                                 : std::min(2 * burst_limit_, kTransmitBurst);
  add_relaxed(probe_.packets_sent, accepted);
  packets_since_audit_ += accepted;
  return accepted > 0;
}

// One frame of each flow in turn. Nothing is sent while a flow is being given back: it is free once
// the queue holds no more references to memory, and those of other flows cannot be told from its
// own.
template <port::Queue Q>
typename Worker<Q>::Filled Worker<Q>::fill_burst(TimeNs now) {
  Filled filled;
  const std::uint64_t bits_per_second = share_of_cap();
  std::size_t refusals = any_stopping() ? senders_count_ : 0;
  while (filled.frames < burst_limit_ && refusals < senders_count_ &&
         pacer_.next_send_ns() <= now) {
    next_sender_ = (next_sender_ + 1) % senders_count_;
    SendSlot& slot = senders_[next_sender_];
    ++refusals;
    if (!may_send(slot)) {
      continue;
    }
    protocol::Sender& sender = slot.flow->sender;
    const std::uint64_t pending_before = sender.pending_pages();
    if (sender.next_frame(now, frame_)) {
      pack_frame(*slot.flow, burst_[filled.frames]);
      pacer_before_[filled.frames] = pacer_;
      pacer_.on_sent(burst_[filled.frames].bytes(), bits_per_second, now);
      burst_owner_[filled.frames++] = slot.flow;
      refusals = 0;
      continue;
    }
    filled.looked |= sender.pending_pages() < pending_before;
    if (sender.in_flight_frames() == 0) {
      slot.silence_began_ns = now;
    }
  }
  return filled;
}

// Flows of this worker take their turns under one pacer, so that what one of them cannot use the
// others can. What one worker cannot use the others do not get: they only know of each other's
// flows.
template <port::Queue Q>
std::uint64_t Worker<Q>::share_of_cap() {
  if (cap_.bits_per_second == 0) {
    return 0;
  }
  const auto sending = static_cast<std::uint32_t>(std::count_if(
      senders_.begin(), senders_.begin() + senders_count_,
      [](const SendSlot& slot) { return may_send(slot) && !slot.flow->sender.settled(); }));
  if (sending != flows_counted_) {
    // Wraps when the difference is negative.
    cap_.sending_flows.fetch_add(sending - flows_counted_, std::memory_order_relaxed);
    flows_counted_ = sending;
  }
  const std::uint32_t all = cap_.sending_flows.load(std::memory_order_relaxed);
  return cap_.bits_per_second * std::max(sending, 1U) / std::max({sending, all, 1U});
}

template <port::Queue Q>
void Worker<Q>::pack_frame(const SendFlow& flow, port::OutgoingPacket& out) {
  const std::span<std::byte> head(out.head);
  flow.packet.fill(head, frame_.prefix_bytes + frame_.payload_bytes() +
                             wire::tag_bytes(protection_by(flow.keys.get())));
  out.key = flow.keys == nullptr ? nullptr : flow.keys->of(wire::FrameType::kData);
  std::memcpy(head.data() + flow.packet.bytes(), frame_.prefix.data(), frame_.prefix_bytes);
  out.head_bytes = static_cast<std::uint16_t>(flow.packet.bytes() + frame_.prefix_bytes);
  out.slices = frame_.slices;
  std::copy_n(frame_.slice.begin(), frame_.slices, out.slice.begin());
}

// ---- audit ----

// One flow of each direction at a time. A sender's only while an iteration runs: what is found then
// is judged by a later scan, the final one at the latest.
template <port::Queue Q>
void Worker<Q>::audit_pages(bool busy) {
  const std::size_t pages =
      busy ? packets_since_audit_ / kPacketsPerAuditedPage : kIdleAuditedPages;
  if (pages == 0) {
    return;
  }
  packets_since_audit_ = 0;
  ++audits_;
  if (senders_count_ > 0) {
    SendSlot& slot = senders_[audits_ % senders_count_];
    if (may_send(slot) && slot.flow->phase == SendFlow::Phase::kIterating) {
      slot.flow->sender.audit(pages);
    }
  }
  if (receivers_count_ > 0) {
    receivers_[audits_ % receivers_count_]->receiver.audit(pages);
  }
}

template <port::Queue Q>
void Worker<Q>::finish_phases() {
  for (std::size_t i = 0; i < senders_count_; ++i) {
    SendFlow& flow = *senders_[i].flow;
    if (!may_send(senders_[i])) {
      continue;
    }
    if (flow.phase == SendFlow::Phase::kIterating &&
        flow.harvest_cursor >= flow.shards.local_pages() && flow.sender.pending_pages() == 0) {
      flow.phase = SendFlow::Phase::kIdle;
      emit(EventKind::kIterationDone, flow.id_session, flow.id_flow, flow.harvested_in_phase);
    } else if (flow.phase == SendFlow::Phase::kSettling && flow.sender.settled()) {
      flow.phase = SendFlow::Phase::kIdle;
      emit(EventKind::kSettled, flow.id_session, flow.id_flow, 0);
    }
  }
}

// ---- commands ----

template <port::Queue Q>
bool Worker<Q>::release_stopped_flows() {
  if (!any_stopping() || queue_.references_outstanding() > 0) {
    return false;
  }
  publish_probes();
  for (std::size_t i = senders_count_; i-- > 0;) {
    if (senders_[i].stopping) {
      const SendFlow& flow = *senders_[i].flow;
      const std::uint64_t session = flow.id_session;
      const std::uint16_t id = flow.id_flow;
      senders_[i] = senders_[--senders_count_];
      // The flow is gone as soon as this is seen.
      emit(EventKind::kStopped, session, id, 0);
    }
  }
  next_sender_ = 0;
  return true;
}

// Commands are taken only while the event ring has room for all that the flows may say: no event is
// ever lost.
template <port::Queue Q>
bool Worker<Q>::run_commands(TimeNs now) {
  constexpr std::size_t kEventsPerFlowMax = 4;
  constexpr std::size_t kEventsReserved =
      2 * kFlowsMax * kEventsPerFlowMax + Neighbours::kRequestsMax;
  static_assert(kEventsReserved < kEventRingSlots);
  bool any = false;
  Command command;
  while (events_.write_available() >= kEventsReserved && commands_.pop(command)) {
    run_command(command, now);
    any = true;
  }
  return any;
}

template <port::Queue Q>
void Worker<Q>::run_command(const Command& command, TimeNs now) {
  switch (command.kind) {
    case CommandKind::kStartSending:
      start_sending(command);
      break;
    case CommandKind::kStartReceiving:
      start_receiving(command);
      break;
    case CommandKind::kFold:
      fold(command);
      break;
    case CommandKind::kStop:
      stop(command);
      break;
    case CommandKind::kAskNeighbour:
      ask_neighbour(command);
      break;
    case CommandKind::kAwaitNeighbour:
      neighbours_.expect(command.session, command.address);
      break;
    case CommandKind::kProbePath:
    case CommandKind::kMarkPages:
    case CommandKind::kRunIteration:
    case CommandKind::kFinalPass:
    case CommandKind::kSendPages:
      SendSlot* slot = find_sender(command.session, command.flow);
      if (slot != nullptr && !slot->flow->failed && !slot->stopping) {
        run_send_command(command, *slot, now);
      }
      break;
  }
}

// Whoever lends flows counts them: there is room.
template <port::Queue Q>
void Worker<Q>::start_sending(const Command& command) {
  assert(senders_count_ < kFlowsMax);
  senders_[senders_count_++] = SendSlot{command.send, 0, false};
}

template <port::Queue Q>
void Worker<Q>::start_receiving(const Command& command) {
  assert(receivers_count_ < kFlowsMax);
  receivers_[receivers_count_++] = command.receive;
}

template <port::Queue Q>
void Worker<Q>::run_send_command(const Command& command, SendSlot& slot, TimeNs now) {
  SendFlow& flow = *slot.flow;
  slot.silence_began_ns = now;
  flow.harvested_in_phase = 0;
  switch (command.kind) {
    case CommandKind::kProbePath:
      flow.path_asked = true;
      flow.path.begin(protocol::PathProber::Because::kUnknown, flow.sender.rtt().probe_timeout_ns(),
                      now);
      break;
    case CommandKind::kMarkPages:
      flow.tracker = command.tracker;
      for (const port::PageRun& run : command.runs) {
        flow.sender.mark_dirty(run.first, run.count);
      }
      emit(EventKind::kPagesMarked, flow.id_session, flow.id_flow, 0);
      break;
    case CommandKind::kRunIteration:
      flow.sender.begin_iteration();
      flow.harvest_cursor = command.harvest ? 0 : flow.shards.local_pages();
      flow.phase = SendFlow::Phase::kIterating;
      break;
    case CommandKind::kFinalPass:
      flow.sender.begin_final_pass();
      flow.harvest_cursor = 0;
      flow.phase = SendFlow::Phase::kFinalScan;
      break;
    default:
      flow.sender.mark_dirty(command.page, command.pages);
      flow.phase = SendFlow::Phase::kSettling;
      break;
  }
}

template <port::Queue Q>
void Worker<Q>::fold(const Command& command) {
  if (SendSlot* slot = find_sender(command.session, command.flow)) {
    slot->flow->sender.fold_digests(slot->flow->digests);
  } else if (ReceiveFlow* flow = find_receiver(command.session, command.flow)) {
    flow->receiver.fold_digests(flow->digests);
  } else {
    return;
  }
  emit(EventKind::kFolded, command.session, command.flow, 0);
}

// Stopping what is not here is answered too, so that a control side that stops twice does not wait
// for ever.
template <port::Queue Q>
void Worker<Q>::stop(const Command& command) {
  if (SendSlot* slot = find_sender(command.session, command.flow)) {
    slot->stopping = true;
    return;
  }
  publish_probes();
  for (std::size_t i = 0; i < receivers_count_; ++i) {
    if (receivers_[i]->id_session == command.session && receivers_[i]->id_flow == command.flow) {
      receivers_[i] = receivers_[--receivers_count_];
      break;
    }
  }
  emit(EventKind::kStopped, command.session, command.flow, 0);
}

// Counters are published first: whoever reads them after the event sees what led to it.
template <port::Queue Q>
void Worker<Q>::emit(EventKind kind, std::uint64_t session, std::uint16_t flow,
                     std::uint64_t value) {
  publish_probes();
  [[maybe_unused]] const bool pushed = events_.push(Event{kind, flow, session, value, clock_()});
  assert(pushed);
  ++events_emitted_;
}

// ---- flows and probes ----

template <port::Queue Q>
typename Worker<Q>::SendSlot* Worker<Q>::find_sender(std::uint64_t session, std::uint16_t flow) {
  for (std::size_t i = 0; i < senders_count_; ++i) {
    if (senders_[i].flow->id_session == session && senders_[i].flow->id_flow == flow) {
      return &senders_[i];
    }
  }
  return nullptr;
}

template <port::Queue Q>
ReceiveFlow* Worker<Q>::find_receiver(std::uint64_t session, std::uint16_t flow) {
  for (std::size_t i = 0; i < receivers_count_; ++i) {
    if (receivers_[i]->id_session == session && receivers_[i]->id_flow == flow) {
      return receivers_[i];
    }
  }
  return nullptr;
}

template <port::Queue Q>
bool Worker<Q>::any_stopping() const {
  return std::any_of(senders_.begin(), senders_.begin() + senders_count_,
                     [](const SendSlot& slot) { return slot.stopping; });
}

template <port::Queue Q>
void Worker<Q>::publish_probes() {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  for (std::size_t i = 0; i < senders_count_; ++i) {
    const protocol::Sender& sender = senders_[i].flow->sender;
    const protocol::SenderCounters& counters = sender.counters();
    SendProbe& probe = senders_[i].flow->probe;
    probe.frames_sent.store(counters.frames_sent, kRelaxed);
    probe.bytes_sent.store(counters.bytes_sent, kRelaxed);
    probe.raw_pages_sent.store(counters.raw_pages_sent, kRelaxed);
    probe.zero_pages_sent.store(counters.zero_pages_sent, kRelaxed);
    probe.pages_resent_after_loss.store(counters.pages_resent_after_loss, kRelaxed);
    probe.frames_lost.store(counters.frames_lost, kRelaxed);
    probe.audited_pages.store(counters.audited_pages, kRelaxed);
    probe.pending_pages.store(sender.pending_pages(), kRelaxed);
    probe.deferred_pages.store(sender.deferred_pages(), kRelaxed);
    probe.in_flight_pages.store(sender.in_flight_pages(), kRelaxed);
    probe.smoothed_rtt_ns.store(sender.rtt().smoothed_ns(), kRelaxed);
    probe.mtu.store(sender.mtu(), kRelaxed);
    probe.probe_round_trip_ns.store(senders_[i].flow->path.round_trip_ns(), kRelaxed);
  }
  for (std::size_t i = 0; i < receivers_count_; ++i) {
    const protocol::ReceiverCounters& counters = receivers_[i]->receiver.counters();
    ReceiveProbe& probe = receivers_[i]->probe;
    probe.frames_received.store(counters.frames_received, kRelaxed);
    probe.bytes_received.store(counters.bytes_received, kRelaxed);
    probe.raw_pages_applied.store(counters.raw_pages_applied, kRelaxed);
    probe.zero_pages_applied.store(counters.zero_pages_applied, kRelaxed);
    probe.stale_pages.store(counters.stale_pages, kRelaxed);
  }
}

}  // namespace sluice::engine
