// What the planner knows of a cluster: hosts, the network between them, guests and the rules that
// bind them. Plain data: fill it in, call validate(), then plan. Pure; any thread, as long as
// nobody changes it meanwhile.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::planner {

// Indices into the vectors of Cluster.
using HostId = std::uint32_t;
using GuestId = std::uint32_t;
using LinkId = std::uint32_t;
using SwitchId = std::uint32_t;
using GroupId = std::uint32_t;
inline constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// One direction of a cable: what it gives migrations, after whatever share the operator keeps for
// others.
struct Link {
  std::string name;
  std::uint64_t bytes_per_second = 0;
};

// Switches form a forest; a switch itself never blocks. `up` leads to the parent, `down` comes from
// it.
struct Switch {
  std::string name;
  SwitchId parent = kNone;
  LinkId up = kNone;
  LinkId down = kNone;
};

struct NumaNode {
  std::uint64_t memory_bytes = 0;
  std::uint32_t cores = 0;
};

struct Host {
  std::string name;
  std::uint64_t memory_bytes = 0;
  std::uint64_t reserve_bytes = 0;         // of memory_bytes: never given to guests
  std::uint64_t guest_overhead_bytes = 0;  // what a guest costs besides its memory
  std::uint32_t cores = 0;                 // what guests may have in all, overcommitment included
  std::uint32_t cpu_level = 0;             // x86-64-v1 … v4, or any order of the operator's own
  std::vector<NumaNode> numa_nodes;        // empty: guests that need one node fit if the host does
  // Of the QEMU that guests get there (parse_qemu_series()); 0: not known, and nothing is refused
  // for it.
  std::uint32_t qemu_series = 0;
  std::uint32_t failure_domain = 0;  // a rack, a power feed: the operator's numbering
  bool maintenance = false;          // never a destination
  LinkId transmit = kNone;
  LinkId receive = kNone;
  SwitchId attached_to = kNone;  // kNone: all such hosts hang on one switch that does not block
};

enum class Policy : std::uint8_t {
  kLive = 1,  // pre-copy, the guest hardly notices
  kQuick,     // moved at rest: every page once
  kShutdown,  // stopped at the source, started at the destination; no memory travels
  kNever,     // bound to its host
};

struct Guest {
  std::string name;
  HostId host = kNone;  // where it runs
  std::uint64_t memory_bytes = 0;
  std::uint64_t populated_bytes = 0;  // of memory_bytes: what has to travel
  std::uint64_t dirty_bytes_per_second =
      0;  // spread over its memory: never the same page twice in a row
  // The pages written over and over: working_set_bytes are dirty again after working_set_ms.
  std::uint64_t working_set_bytes = 0;
  std::uint64_t working_set_ms = 0;
  std::uint32_t cores = 0;
  // The level of CPU it runs at. It keeps it for as long as it runs, so that a move to a newer host
  // leaves the way back open; a guest that takes its host's CPU when it starts would lose it by a
  // restart on a newer one.
  std::uint32_t cpu_level = 0;
  bool cpu_level_from_host = false;
  // Of the QEMU that it runs on; 0: none, or one that hosts do not speak of. Alive it goes to no
  // older one, and from each host on it runs on that host's.
  std::uint32_t qemu_series = 0;
  bool one_numa_node = false;
  std::uint32_t numa_node = kNone;  // where it is now, if one_numa_node and its host has nodes
  Policy policy = Policy::kLive;
  std::vector<GroupId> groups;
};

enum class Rule : std::uint8_t {
  kBudgetOnly = 1,
  kTogether,      // all members on one host; apart only while the group moves, without a pause
  kApartHosts,    // at most `limit` members on one host
  kApartDomains,  // at most `limit` members in one failure domain
};

// A guest on its way counts at both ends. A kTogether group that is apart at the outset is not
// bound.
struct Group {
  std::string name;
  Rule rule = Rule::kBudgetOnly;
  std::uint32_t limit = 1;
  std::uint32_t moving_max =
      0;  // disruption budget: members on the move or down at once; 0: no limit
};

struct Cluster {
  std::vector<Link> links;
  std::vector<Switch> switches;
  std::vector<Host> hosts;
  std::vector<Guest> guests;
  std::vector<Group> groups;
  // By the number of a failure domain, optional: what people call it.
  std::vector<std::string> domain_names;
  std::uint64_t session_bytes_per_second = 0;  // what one migration can drive at most; 0: any link
  // A move to a host with a newer QEMU than where the guest comes from is for good: the older one
  // does not take it back. Up to this series it is meant; 0: to none.
  std::uint32_t qemu_series_meant = 0;
};

// One guest's way from one host to another. Times count from the plan's start.
struct Move {
  GuestId guest = kNone;
  HostId from = kNone;
  HostId to = kNone;
  std::uint32_t to_numa_node = kNone;
  std::uint64_t bytes_per_second = 0;  // on every link of its path; 0 for Policy::kShutdown
  std::uint64_t start_ms = 0;
  std::uint64_t end_ms = 0;
};

// Every index is in range, no size is beyond what sums can hold, every host has links, no link is
// without rate, names are unique, the switches have no cycle. The error names the thing. Also
// refuses rules that nothing can satisfy (see contradiction()).
[[nodiscard]] Expected<void> validate(const Cluster& cluster);

// Groups that contradict each other: guests that a chain of kTogether groups ties to one host while
// a kApart group keeps them apart. One line that names the chain; nothing if there is none.
[[nodiscard]] std::optional<std::string> contradiction(const Cluster& cluster);

// For each guest the number of its component: guests that groups of kTogether tie to each other
// share one.
[[nodiscard]] std::vector<std::uint32_t> components(const Cluster& cluster);

// The links from one host to another in order: transmit, up to the common switch, down, receive.
[[nodiscard]] std::vector<LinkId> path(const Cluster& cluster, HostId from, HostId to);

// The level to start a guest at so that each of `hosts` can run it: their lowest. A guest admitted
// at a higher level could not come back from the newer hosts to the older ones. `hosts` is not
// empty.
[[nodiscard]] std::uint32_t admission_level(const Cluster& cluster,
                                            const std::vector<HostId>& hosts);

// A series of QEMU's releases as a number that grows with it: "8.2" and "8.2.1" are of one.
// Nothing for a text that does not begin with such a version.
[[nodiscard]] std::optional<std::uint32_t> parse_qemu_series(std::string_view version);
// "8.2"
[[nodiscard]] std::string qemu_series_text(std::uint32_t series);

// "16 GiB", "1.5 GiB", "800 MiB": as people name memory in a remedy.
[[nodiscard]] std::string memory_text(std::uint64_t bytes);

}  // namespace sluice::planner
