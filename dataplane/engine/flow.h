// One flow of a session at each end, as a worker drives it. Made by the control side, lent to the
// worker between its start command and the kStopped event, and read by other threads only through
// the probe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "dataplane/base/units.h"
#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"
#include "dataplane/port/dirty_source.h"
#include "dataplane/port/frame_key.h"
#include "dataplane/protocol/path_prober.h"
#include "dataplane/protocol/receiver.h"
#include "dataplane/protocol/replay_window.h"
#include "dataplane/protocol/sender.h"
#include "dataplane/wire/packet.h"

namespace sluice::engine {

// Copies of a flow's counters, stored relaxed by its worker about once a burst and read by any
// thread.
struct SendProbe {
  std::atomic<std::uint64_t> frames_sent{0};
  std::atomic<std::uint64_t> bytes_sent{0};
  std::atomic<std::uint64_t> raw_pages_sent{0};
  std::atomic<std::uint64_t> zero_pages_sent{0};
  std::atomic<std::uint64_t> pages_resent_after_loss{0};
  std::atomic<std::uint64_t> frames_lost{0};
  std::atomic<std::uint64_t> pending_pages{0};
  std::atomic<std::uint64_t> deferred_pages{0};
  std::atomic<std::uint64_t> in_flight_pages{0};
  std::atomic<std::uint64_t> harvested_pages{0};  // dirty pages found by the tracker so far
  std::atomic<std::uint64_t> harvest_ns{0};       // time spent in the tracker's scan so far
  std::atomic<std::uint64_t> audited_pages{0};    // hashed again while they were clean
  std::atomic<std::uint64_t> smoothed_rtt_ns{0};
  std::atomic<std::uint64_t> mtu{0};           // that no frame exceeds now; 0: not yet known
  std::atomic<TimeNs> probe_round_trip_ns{0};  // the shortest of a path probe; 0: none was answered
};

struct ReceiveProbe {
  std::atomic<std::uint64_t> frames_received{0};
  std::atomic<std::uint64_t> bytes_received{0};
  std::atomic<std::uint64_t> raw_pages_applied{0};
  std::atomic<std::uint64_t> zero_pages_applied{0};
  std::atomic<std::uint64_t> stale_pages{0};
};

// What the frames of a flow with these keys have.
[[nodiscard]] inline wire::Protection protection_by(const port::FlowKeys* keys) {
  return keys == nullptr ? wire::Protection::kChecksum : wire::Protection::kSealed;
}
template <typename Config>
[[nodiscard]] Config protected_by(const port::FlowKeys* keys, Config config) {
  config.protection = protection_by(keys);
  return config;
}

struct SendFlow {
  // Without keys the flow's frames are neither encrypted nor authenticated.
  SendFlow(const protocol::SenderConfig& config, const page::Layout& layout,
           const page::ShardMap& shard_map, const page::MemoryMap& memory,
           const wire::PacketTemplate& packet_template,
           std::unique_ptr<const port::FlowKeys> frame_keys = nullptr)
      : id_session(config.session),
        id_flow(config.flow),
        keys(std::move(frame_keys)),
        sender(protected_by(keys.get(), config), layout, shard_map, memory),
        path(config.mtu, protection_by(keys.get())),
        shards(shard_map),
        packet(packet_template),
        digests(shard_map.local_extents()) {}

  std::uint64_t id_session;
  std::uint16_t id_flow;
  std::unique_ptr<const port::FlowKeys> keys;  // null: in the clear
  protocol::Sender sender;
  protocol::PathProber path;
  protocol::ReplayWindow probe_replies;  // sealed ones seen
  page::ShardMap shards;
  wire::PacketTemplate packet;
  // Pages [0, tracked_pages) of the page space are scanned through `tracker` (null: nothing is
  // tracked).
  port::DirtySource* tracker = nullptr;
  std::uint64_t tracked_pages = 0;
  // Result of a kFold command; the control side reads it after the kFolded event.
  std::vector<page::ExtentDigest> digests;
  SendProbe probe;

  // The worker's own progress; nobody else's.
  enum class Phase : std::uint8_t { kIdle = 1, kIterating, kFinalScan, kSettling };
  Phase phase = Phase::kIdle;
  std::uint64_t harvest_cursor = 0;  // local page to scan next
  std::uint64_t harvested_in_phase = 0;
  bool failed = false;
  bool path_asked = false;  // by kProbePath, not answered yet
};

struct ReceiveFlow {
  ReceiveFlow(const protocol::ReceiverConfig& config, const page::Layout& layout,
              const page::ShardMap& shard_map, const page::MemoryMap& memory,
              const wire::PacketTemplate& packet_template,
              std::unique_ptr<const port::FlowKeys> frame_keys = nullptr)
      : id_session(config.session),
        id_flow(config.flow),
        keys(std::move(frame_keys)),
        receiver(protected_by(keys.get(), config), layout, shard_map, memory),
        packet(packet_template),
        digests(shard_map.local_extents()) {}

  std::uint64_t id_session;
  std::uint16_t id_flow;
  std::unique_ptr<const port::FlowKeys> keys;  // null: in the clear
  protocol::Receiver receiver;
  protocol::ReplayWindow probes;  // sealed ones seen
  wire::PacketTemplate packet;    // of the acks
  std::vector<page::ExtentDigest> digests;
  ReceiveProbe probe;
};

}  // namespace sluice::engine
