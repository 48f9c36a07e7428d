// The worker's packets that are not frames: who has an address on this link.
#pragma once

#include "dataplane/engine/worker.h"

namespace sluice::engine {

template <port::Queue Q>
void Worker<Q>::handle_other_packet(std::span<const std::byte> packet, TimeNs now) {
  switch (neighbours_.look_at(packet, now, single_)) {
    case Neighbours::Verdict::kNothing:
      drop(wire::DropReason::kNotForUs);
      break;
    case Neighbours::Verdict::kAnswer:
      add_relaxed(probe_.neighbour_answers,
                  queue_.transmit(std::span<const port::OutgoingPacket>(&single_, 1)));
      break;
    case Neighbours::Verdict::kTooMany:
      add_relaxed(probe_.neighbour_requests_ignored, 1);
      break;
    case Neighbours::Verdict::kFound:
      emit(EventKind::kNeighbourFound, neighbours_.found().id, 0,
           wire::to_number(neighbours_.found().mac));
      break;
  }
}

// A question that the port refuses is lost: whoever waits for the answer asks again.
template <port::Queue Q>
void Worker<Q>::ask_neighbour(const Command& command) {
  neighbours_.expect(command.session, command.address);
  neighbours_.ask(command.address, single_);
  queue_.transmit(std::span<const port::OutgoingPacket>(&single_, 1));
}

}  // namespace sluice::engine
