// Who takes what room where, at one instant of a plan under construction. A guest on its way takes
// room at both ends. Pure; one thread.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "control/planner/model.h"

namespace sluice::planner {

enum class ObstacleKind : std::uint8_t {
  kMaintenance = 1,
  kCpuLevel,
  kWayBack,
  kQemuOlder,   // than the one that the guest runs on
  kQemuOneWay,  // newer than the one that the guest would have to come back to
  kMemory,
  kCores,
  kNumaNode,
  kApart,
  kExcluded,  // to be emptied itself
};

// Why a guest does not fit a host.
struct Obstacle {
  ObstacleKind kind = ObstacleKind::kMemory;
  std::uint64_t lacking_bytes = 0;  // kMemory, kNumaNode
  std::uint32_t lacking_cores = 0;  // kCores
  GroupId group = kNone;            // kApart
};

class Occupancy {
 public:
  // Every guest where it is. `cluster` outlives the object and stays as it is.
  explicit Occupancy(const Cluster& cluster);

  // What does not depend on who else is there.
  [[nodiscard]] static bool eligible(const Cluster& cluster, const Guest& guest, HostId from,
                                     HostId to);

  // Is there room, now? `node` is the NUMA node meant, kNone for any.
  [[nodiscard]] bool has_memory(GuestId guest, HostId to, std::uint32_t node) const;
  // The first group that keeps the guest from `to`; kNone if no group does.
  [[nodiscard]] GroupId kept_apart(GuestId guest, HostId from, HostId to) const;
  [[nodiscard]] bool fits(GuestId guest, HostId from, HostId to) const;

  // The node of `to` that suits a guest of one_numa_node, tightest fit; kNone if it needs none or
  // none has room.
  [[nodiscard]] std::uint32_t numa_node_for(GuestId guest, HostId to) const;

  // Every reason why `guest` cannot go from `from` to `to`; empty: it can.
  [[nodiscard]] std::vector<Obstacle> obstacles(GuestId guest, HostId from, HostId to) const;

  // A guest takes room at `to`, or gives up what it had at `from`. Each undoes the other with the
  // hosts exchanged.
  void arrive(GuestId guest, HostId from, HostId to, std::uint32_t to_node);
  void leave(GuestId guest, HostId from, std::uint32_t from_node, HostId to);

  // Negative where a host is overfull already.
  [[nodiscard]] std::int64_t free_memory_bytes(HostId host) const {
    return free_memory_bytes_[host];
  }

 private:
  struct FreeNode {
    std::int64_t memory_bytes = 0;
    std::int64_t cores = 0;
  };
  [[nodiscard]] std::uint32_t place(const Group& group, HostId host) const;
  void take(GuestId guest, HostId host, std::uint32_t node, std::int64_t sign);
  void count(GuestId guest, HostId here, HostId there, std::uint32_t change);

  const Cluster& cluster_;
  std::vector<std::int64_t> free_memory_bytes_;
  std::vector<std::int64_t> free_cores_;
  std::vector<std::vector<FreeNode>> free_nodes_;
  std::vector<std::unordered_map<std::uint32_t, std::uint32_t>>
      members_at_;  // by group: place, members
};

}  // namespace sluice::planner
