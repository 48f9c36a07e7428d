// How large frames may be, and the suspicion that large ones no longer arrive.
#include <algorithm>
#include <cassert>

#include "dataplane/protocol/sender.h"
#include "dataplane/wire/packet.h"

namespace sluice::protocol {
namespace {

bool fits(std::uint32_t frame_bytes, std::size_t mtu) {
  return frame_bytes + wire::kPacketPrefixBytes - wire::kEthernetBytes <= mtu;
}

}  // namespace

void Sender::set_frame_sizes() {
  raw_pages_max_ = wire::raw_pages_per_frame(config_.mtu, config_.protection);
  fragment_bytes_ = raw_pages_max_ > 0 ? 0 : wire::fragment_bytes(config_.mtu, config_.protection);
  fragments_ =
      fragment_bytes_ == 0
          ? std::uint8_t{0}
          : static_cast<std::uint8_t>((kPageBytes + fragment_bytes_ - 1) / fragment_bytes_);
  assert(raw_pages_max_ > 0 || fragments_ > 0);
}

void Sender::lower_mtu(std::size_t mtu) {
  assert(mtu >= wire::kMtuMin && mtu < config_.mtu);
  config_.mtu = mtu;
  set_frame_sizes();
  abandon_fragments();
  for (Sequence sequence = oldest_; sequence < next_sequence_; ++sequence) {
    SentFrame& frame = ring_[sequence % ring_.size()];
    if (frame.state == FrameState::kInFlight && !fits(frame.bytes, mtu)) {
      // No sign of congestion: the window is not told (RFC 8899, 3).
      declare_lost(frame);
    }
  }
  advance_oldest();
  large_losses_ = 0;
  probe_backoff_ = 0;
}

// The fragments of one version are of one size: a page of which some have left goes again as a new
// version.
void Sender::abandon_fragments() {
  if (fragmented_.active && sent_sequence_[fragmented_.local_page] == fragmented_.version) {
    sent_sequence_[fragmented_.local_page] = 0;
    --in_flight_pages_;
    pending_.set(fragmented_.local_page);
  }
  fragmented_.active = false;
}

void Sender::note_large_loss(const SentFrame& frame) {
  large_loss_bytes_ = large_losses_ == 0 ? frame.bytes : std::min(large_loss_bytes_, frame.bytes);
  ++large_losses_;
}

void Sender::note_arrival(const SentFrame& frame) {
  if (frame.bytes >= large_loss_bytes_) {
    large_losses_ = 0;
  }
}

}  // namespace sluice::protocol
