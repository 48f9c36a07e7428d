// The worker's receive stage: from packets to what flows are told. A frame of a flow with keys is
// opened before anything in it counts. Part of event_loop.h.
#pragma once

#include "dataplane/engine/worker.h"

namespace sluice::engine {

template <port::Queue Q>
bool Worker<Q>::receive_burst(TimeNs now) {
  const std::size_t count = queue_.receive(received_);
  if (count == 0) {
    polled_before_ns_ = now;
    return false;
  }
  polled_before_ns_ = polled_before_ns_ == 0 ? now : polled_before_ns_;
  const std::span<port::ReceivedPacket> packets(received_.data(), count);
  for (const port::ReceivedPacket& packet : packets) {
    handle_packet(packet.bytes, now);
  }
  open_sealed(now);
  apply_decoded();
  queue_.release(packets);
  polled_before_ns_ = now;
  add_relaxed(probe_.packets_received, count);
  packets_since_audit_ += count;
  return true;
}

template <port::Queue Q>
void Worker<Q>::handle_packet(std::span<std::byte> packet, TimeNs now) {
  const auto payload = wire::udp_payload(packet, local_, 1);
  if (!payload) {
    handle_other_packet(packet, now);
    return;
  }
  wire::DropReason reason{};
  const auto key = wire::peek(*payload, reason);
  if (!key) {
    drop(reason);
    return;
  }
  const Arrival arrival = find_flow(*key);
  if (arrival.receiver == nullptr && arrival.sender == nullptr) {
    drop(wire::DropReason::kUnknownSession);
    return;
  }
  if (arrival.keys() == nullptr) {
    handle_frame(*payload, arrival, now);
    return;
  }
  const auto at = static_cast<std::size_t>(payload->data() - packet.data());
  put_aside(packet.subspan(at, payload->size()), *key, arrival, now);
}

template <port::Queue Q>
typename Worker<Q>::Arrival Worker<Q>::find_flow(const wire::FlowKey& key) {
  Arrival arrival{key.type, nullptr, nullptr};
  if (wire::sent_by_source(key.type)) {
    arrival.receiver = find_receiver(key.session, key.flow);
  } else if (const SendSlot* slot = find_sender(key.session, key.flow)) {
    arrival.sender = slot->flow;
  }
  return arrival;
}

// Nothing is concluded from a frame that nobody has vouched for, but that it need not be opened.
template <port::Queue Q>
void Worker<Q>::put_aside(std::span<std::byte> frame, const wire::FlowKey& key,
                          const Arrival& arrival, TimeNs now) {
  const std::size_t bytes = wire::kFrameHeaderBytes + key.body_bytes + wire::kTagBytes;
  if (frame.size() < bytes) {
    drop(wire::DropReason::kBadLength);
    return;
  }
  if (const auto reason = seen_before(key, arrival)) {
    drop(*reason);
    return;
  }
  sealed_[sealed_count_] = {frame.first(bytes), arrival.keys()->of(key.type)};
  sealed_arrival_[sealed_count_++] = arrival;
  if (sealed_count_ == kOpenBurst) {
    open_sealed(now);
  }
}

// What was handled before need not be opened: a flood of repeated frames costs little.
template <port::Queue Q>
std::optional<wire::DropReason> Worker<Q>::seen_before(const wire::FlowKey& key,
                                                       const Arrival& arrival) const {
  switch (key.type) {
    case wire::FrameType::kData:
      if (arrival.receiver->receiver.is_duplicate(key.sequence)) {
        return wire::DropReason::kDuplicate;
      }
      break;
    case wire::FrameType::kAck:
      if (key.sequence <= arrival.sender->sender.newest_ack()) {
        return wire::DropReason::kReplay;
      }
      break;
    case wire::FrameType::kProbe:
      if (arrival.receiver->probes.seen(key.sequence)) {
        return wire::DropReason::kReplay;
      }
      break;
    case wire::FrameType::kProbeReply:
      if (arrival.sender->probe_replies.seen(key.sequence)) {
        return wire::DropReason::kReplay;
      }
      break;
  }
  return std::nullopt;
}

template <port::Queue Q>
void Worker<Q>::open_sealed(TimeNs now) {
  if (sealed_count_ == 0) {
    return;
  }
  const std::span<port::SealedFrame> frames(sealed_.data(), sealed_count_);
  queue_.open(frames);
  sealed_count_ = 0;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!frames[i].authentic) {
      drop(wire::DropReason::kBadTag);
      continue;
    }
    if (!first_of_its_number(frames[i].bytes, sealed_arrival_[i])) {
      drop(wire::DropReason::kReplay);
      continue;
    }
    handle_frame(frames[i].bytes, sealed_arrival_[i], now);
  }
}

// Notes the number of an authentic probe or reply. Data frames and acks are known again by the
// protocol itself.
template <port::Queue Q>
bool Worker<Q>::first_of_its_number(std::span<const std::byte> frame, const Arrival& arrival) {
  if (arrival.type != wire::FrameType::kProbe && arrival.type != wire::FrameType::kProbeReply) {
    return true;
  }
  wire::DropReason reason{};
  const Sequence sequence = wire::peek(frame, reason)->sequence;
  protocol::ReplayWindow& window =
      arrival.receiver != nullptr ? arrival.receiver->probes : arrival.sender->probe_replies;
  if (window.seen(sequence)) {
    return false;
  }
  window.note(sequence);
  return true;
}

template <port::Queue Q>
void Worker<Q>::handle_frame(std::span<const std::byte> frame, const Arrival& arrival, TimeNs now) {
  switch (arrival.type) {
    case wire::FrameType::kData:
      handle_data(frame, *arrival.receiver);
      break;
    case wire::FrameType::kAck:
      handle_ack(frame, *arrival.sender, now);
      break;
    case wire::FrameType::kProbe:
      handle_probe(frame, *arrival.receiver);
      break;
    case wire::FrameType::kProbeReply:
      handle_probe_reply(frame, *arrival.sender, now);
      break;
  }
}

// Decodes a data frame and applies the one before it: meanwhile the memory of this one's pages is
// on its way to the cache.
template <port::Queue Q>
void Worker<Q>::handle_data(std::span<const std::byte> frame, ReceiveFlow& flow) {
  wire::DropReason reason{};
  DecodedData& decoded = decoded_[1 - waiting_];
  if (!wire::decode_data(frame, decoded.frame, reason, protection_by(flow.keys.get()))) {
    drop(reason);
    return;
  }
  decoded.flow = &flow;
  flow.receiver.prefetch(decoded.frame);
  apply_decoded();
  waiting_ = 1 - waiting_;
}

// How long a frame lay unseen in the port's ring is not known. Taking it for the longest possible
// keeps what this thread's lateness costs out of the delays that the sender measures; a queue that
// lasts longer than a turn of the loop shows all the same.
template <port::Queue Q>
void Worker<Q>::apply_decoded() {
  DecodedData& decoded = decoded_[waiting_];
  wire::DropReason reason{};
  if (decoded.flow != nullptr &&
      !decoded.flow->receiver.on_data(decoded.frame, polled_before_ns_, reason)) {
    drop(reason);
  }
  decoded.flow = nullptr;
}

template <port::Queue Q>
void Worker<Q>::handle_ack(std::span<const std::byte> frame, SendFlow& flow, TimeNs now) {
  wire::DropReason reason{};
  if (!wire::decode_ack(frame, ack_frame_, reason, protection_by(flow.keys.get()))) {
    drop(reason);
    return;
  }
  flow.sender.on_ack(ack_frame_, now, now - polled_before_ns_);
}

}  // namespace sluice::engine
