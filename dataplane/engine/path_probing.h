// The worker's part in finding the largest frame that arrives (protocol/path_prober.h): asking, and
// answering the peer. Included by event_loop.h.
#pragma once

#include <algorithm>

#include "dataplane/engine/worker.h"

namespace sluice::engine {

// Nothing is sent while a flow is being given back, as in fill_burst().
template <port::Queue Q>
bool Worker<Q>::probe_paths(TimeNs now) {
  bool probed = false;
  for (std::size_t i = 0; i < senders_count_ && !any_stopping(); ++i) {
    SendFlow& flow = *senders_[i].flow;
    if (may_send(senders_[i]) && flow.sender.path_suspect() && flow.path.may_search(now)) {
      flow.path.begin(protocol::PathProber::Because::kSuspicion,
                      flow.sender.rtt().probe_timeout_ns(), now);
    }
    if (!flow.path.searching()) {
      continue;
    }
    while (const auto probe = flow.path.next_probe(now)) {
      if (!send_probe(flow, *probe, now)) {
        flow.path.undo_last_probe();
        break;
      }
      probed = true;
    }
    if (const auto mtu = flow.path.verdict(now)) {
      end_path_search(senders_[i], *mtu, now);
      probed = true;
    }
  }
  return probed;
}

template <port::Queue Q>
bool Worker<Q>::send_probe(const SendFlow& flow, const protocol::PathProber::Probe& probe,
                           TimeNs now) {
  wire::FrameHeader header;
  header.session = flow.id_session;
  header.flow = flow.id_flow;
  header.sequence = probe.sequence;
  header.timestamp_ns = now;
  const wire::Protection protection = protection_by(flow.keys.get());
  header.body_bytes = wire::probe_body_bytes(probe.mtu, protection);
  const std::span<std::byte> head(single_.head);
  const std::size_t bytes =
      wire::encode_probe_prefix(header, head.subspan(flow.packet.bytes()), protection);
  return transmit_single(flow.packet, flow.keys.get(), bytes, header.body_bytes);
}

// A path that answers nothing (`mtu` 0) is left to the peer's silence, unless somebody asked.
template <port::Queue Q>
void Worker<Q>::end_path_search(SendSlot& slot, std::size_t mtu, TimeNs now) {
  SendFlow& flow = *slot.flow;
  if (mtu != 0 && mtu < flow.sender.mtu()) {
    flow.sender.lower_mtu(mtu);
    // What was sent until now could not be answered.
    slot.silence_began_ns = now;
  }
  if (flow.path_asked) {
    flow.path_asked = false;
    emit(EventKind::kPathProbed, flow.id_session, flow.id_flow, mtu);
  }
}

// A reply that the port refuses counts as lost on the way, as an ack does.
template <port::Queue Q>
void Worker<Q>::handle_probe(std::span<const std::byte> frame, ReceiveFlow& flow) {
  wire::DropReason reason{};
  wire::FrameHeader probe;
  if (!wire::decode_probe(frame, probe, reason, protection_by(flow.keys.get()))) {
    drop(reason);
    return;
  }
  const std::span<std::byte> head(single_.head);
  const std::size_t bytes =
      flow.receiver.make_probe_reply(probe, head.subspan(flow.packet.bytes()));
  transmit_single(flow.packet, flow.keys.get(), bytes, 0);
}

template <port::Queue Q>
void Worker<Q>::handle_probe_reply(std::span<const std::byte> frame, SendFlow& flow, TimeNs now) {
  wire::DropReason reason{};
  wire::ProbeReplyFrame reply;
  if (!wire::decode_probe_reply(frame, reply, reason, protection_by(flow.keys.get()))) {
    drop(reason);
  } else if (!flow.path.on_reply(reply, now)) {
    drop(wire::DropReason::kDuplicate);
  }
}

template <port::Queue Q>
bool Worker<Q>::transmit_single(const wire::PacketTemplate& headers, const port::FlowKeys* keys,
                                std::size_t frame_bytes, std::size_t body_bytes) {
  const std::span<std::byte> head(single_.head);
  headers.fill(head, frame_bytes + body_bytes + wire::tag_bytes(protection_by(keys)));
  wire::DropReason reason{};
  const auto made = wire::peek(head.subspan(headers.bytes(), frame_bytes), reason);
  single_.key = keys == nullptr ? nullptr : keys->of(made->type);
  single_.head_bytes = static_cast<std::uint16_t>(headers.bytes() + frame_bytes);
  single_.slices = 0;
  for (std::size_t left = body_bytes; left > 0; left -= single_.slice[single_.slices++].size()) {
    single_.slice[single_.slices] =
        std::span<const std::byte>(probe_padding).first(std::min(left, probe_padding.size()));
  }
  const std::size_t sent = queue_.transmit(std::span<const port::OutgoingPacket>(&single_, 1));
  add_relaxed(probe_.packets_sent, sent);
  return sent > 0;
}

}  // namespace sluice::engine
