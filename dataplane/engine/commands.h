// What the control side says to a worker and hears from it, over bounded single-producer
// single-consumer rings.
#pragma once

#include <boost/lockfree/spsc_queue.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/base/units.h"
#include "dataplane/engine/flow.h"

namespace sluice::engine {

enum class CommandKind : std::uint8_t {
  // Lends `send` to the worker, which has room for kFlowsMax. Nothing is sent unasked.
  kStartSending = 1,
  // Finds the largest frame that reaches the peer and keeps to it from then on, answered by
  // kPathProbed.
  kProbePath,
  // Marks `runs` to be sent, and scans through `tracker` from then on; answered by kPagesMarked.
  kMarkPages,
  // One pre-copy iteration of flow (session, flow): what is pending goes out; if `harvest`, the
  // shard is scanned once, chunk by
  // chunk, whenever little is pending. Answered by kIterationDone when nothing is pending any more
  // (frames may be in flight).
  kRunIteration,
  // The guest has stopped: scans the whole shard at once (kFinalScanned), then sends until the
  // shard is settled (kSettled).
  kFinalPass,
  // Sends `pages` pages from `page` on (device state, corrections), answered by kSettled.
  kSendPages,
  // Folds page hashes into flow->digests, answered by kFolded. Both ends.
  kFold,
  // Lends `receive` to the worker, which has room for kFlowsMax.
  kStartReceiving,
  // Ends the flow (either end) and gives it back: kStopped comes when no frame refers to guest
  // memory any more.
  kStop,
  // Asks on the link who has `address`, and waits for the answer as kAwaitNeighbour does.
  kAskNeighbour,
  // An answer about `address` may come to this worker's queue: kNeighbourFound, once.
  kAwaitNeighbour,
};

struct Command {
  CommandKind kind = CommandKind::kStop;
  std::uint16_t flow = 0;
  bool harvest = false;
  std::uint64_t session = 0;
  PageNumber page = 0;
  std::uint64_t pages = 0;
  std::span<const port::PageRun> runs;  // stay as they are until the answer
  port::DirtySource* tracker = nullptr;
  SendFlow* send = nullptr;
  ReceiveFlow* receive = nullptr;
  wire::IpAddress address;
};

enum class EventKind : std::uint8_t {
  kPathProbed = 1,  // value: the MTU found, 0 if no frame of any size was answered
  kPagesMarked,
  kIterationDone,  // value: pages harvested in this iteration
  kFinalScanned,   // value: pages harvested in the final scan
  kSettled,
  kFolded,
  kStopped,
  kTrackerFailed,  // value: port::HarvestStatus; the flow sends nothing more until kStop
  // value: a page that changed although the tracker did not report it; as above.
  kUnseenWrite,
  // No ack for kPeerSilentNs although there were frames to send or in flight, also when the port
  // took none of them; as above.
  kPeerSilent,
  kNeighbourFound,  // `session` is the command's; value: wire::to_number() of the MAC address
};

struct Event {
  EventKind kind = EventKind::kStopped;
  std::uint16_t flow = 0;
  std::uint64_t session = 0;
  std::uint64_t value = 0;
  TimeNs at_ns = 0;  // CLOCK_MONOTONIC when it happened
};

// How long a sender waits for any ack before it gives the peer up. Time in which its own worker
// stood still does not count.
inline constexpr TimeNs kPeerSilentNs = 3 * kSecondNs;
static_assert((protocol::kSuspectTimeouts + protocol::kProbeRoundsMax) *
                      protocol::kProbeTimeoutMaxNs <
                  kPeerSilentNs,
              "a path that got narrower is found out before the peer counts as silent");

inline constexpr std::size_t kCommandRingSlots = 256;
inline constexpr std::size_t kEventRingSlots = 1024;
// Flows one worker serves at once, each direction.
inline constexpr std::size_t kFlowsMax = 32;

using CommandRing =
    boost::lockfree::spsc_queue<Command, boost::lockfree::capacity<kCommandRingSlots>>;
using EventRing = boost::lockfree::spsc_queue<Event, boost::lockfree::capacity<kEventRingSlots>>;

}  // namespace sluice::engine
