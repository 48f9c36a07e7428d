#include "control/planner/occupancy.h"

#include <algorithm>
#include <optional>

namespace sluice::planner {
namespace {

bool keeps_apart(const Group& group) {
  return group.rule == Rule::kApartHosts || group.rule == Rule::kApartDomains;
}

std::int64_t cost_bytes(const Guest& guest, const Host& host) {
  return static_cast<std::int64_t>(guest.memory_bytes + host.guest_overhead_bytes);
}

// Started anew on a newer CPU it could not come back.
bool loses_cpu_level(const Cluster& cluster, const Guest& guest, HostId from, HostId to) {
  const bool restarts = guest.policy == Policy::kShutdown && guest.cpu_level_from_host;
  return restarts && cluster.hosts[to].cpu_level > cluster.hosts[from].cpu_level;
}

// What keeps a guest from a host's QEMU; nothing if that takes it. One that is shut down starts
// anew on any.
std::optional<ObstacleKind> qemu_obstacle(const Cluster& cluster, const Guest& guest, HostId from,
                                          HostId to) {
  const std::uint32_t target = cluster.hosts[to].qemu_series;
  if (guest.qemu_series == 0 || target == 0 || guest.policy == Policy::kShutdown)
    return std::nullopt;
  const std::uint32_t source = cluster.hosts[from].qemu_series;
  // Where it has been since, it has run on that host's.
  const std::uint32_t runs_on =
      from == guest.host ? guest.qemu_series : std::max(guest.qemu_series, source);
  if (target < runs_on) return ObstacleKind::kQemuOlder;
  if (source != 0 && target > source && target > cluster.qemu_series_meant)
    return ObstacleKind::kQemuOneWay;
  return std::nullopt;
}

}  // namespace

Occupancy::Occupancy(const Cluster& cluster)
    : cluster_(cluster), members_at_(cluster.groups.size()) {
  for (const Host& host : cluster.hosts) {
    free_memory_bytes_.push_back(static_cast<std::int64_t>(host.memory_bytes) -
                                 static_cast<std::int64_t>(host.reserve_bytes));
    free_cores_.push_back(host.cores);
    auto& nodes = free_nodes_.emplace_back();
    for (const NumaNode& node : host.numa_nodes)
      nodes.push_back({static_cast<std::int64_t>(node.memory_bytes), node.cores});
  }
  for (GuestId id = 0; id < cluster.guests.size(); ++id) {
    const Guest& guest = cluster.guests[id];
    take(id, guest.host, guest.numa_node, 1);
    for (const GroupId group : guest.groups) {
      if (keeps_apart(cluster.groups[group]))
        ++members_at_[group][place(cluster.groups[group], guest.host)];
    }
  }
}

std::uint32_t Occupancy::place(const Group& group, HostId host) const {
  return group.rule == Rule::kApartDomains ? cluster_.hosts[host].failure_domain : host;
}

bool Occupancy::eligible(const Cluster& cluster, const Guest& guest, HostId from, HostId to) {
  const Host& target = cluster.hosts[to];
  if (target.maintenance || target.cpu_level < guest.cpu_level) return false;
  if (qemu_obstacle(cluster, guest, from, to)) return false;
  return !loses_cpu_level(cluster, guest, from, to);
}

bool Occupancy::has_memory(GuestId id, HostId to, std::uint32_t node) const {
  const Guest& guest = cluster_.guests[id];
  const std::int64_t bytes = cost_bytes(guest, cluster_.hosts[to]);
  if (free_memory_bytes_[to] < bytes || free_cores_[to] < guest.cores) return false;
  if (!guest.one_numa_node || free_nodes_[to].empty()) return true;
  if (node == kNone) return numa_node_for(id, to) != kNone;
  return free_nodes_[to][node].memory_bytes >= bytes && free_nodes_[to][node].cores >= guest.cores;
}

GroupId Occupancy::kept_apart(GuestId id, HostId from, HostId to) const {
  for (const GroupId group : cluster_.guests[id].groups) {
    const Group& rule = cluster_.groups[group];
    if (!keeps_apart(rule)) continue;
    const std::uint32_t target = place(rule, to);
    if (target == place(rule, from)) continue;
    const auto members = members_at_[group].find(target);
    if (members != members_at_[group].end() && members->second >= rule.limit) return group;
  }
  return kNone;
}

bool Occupancy::fits(GuestId guest, HostId from, HostId to) const {
  return has_memory(guest, to, kNone) && eligible(cluster_, cluster_.guests[guest], from, to) &&
         kept_apart(guest, from, to) == kNone;
}

std::uint32_t Occupancy::numa_node_for(GuestId id, HostId to) const {
  const Guest& guest = cluster_.guests[id];
  if (!guest.one_numa_node) return kNone;
  const std::int64_t bytes = cost_bytes(guest, cluster_.hosts[to]);
  const auto& nodes = free_nodes_[to];
  std::uint32_t best = kNone;
  for (std::uint32_t node = 0; node < nodes.size(); ++node) {
    if (nodes[node].memory_bytes < bytes || nodes[node].cores < guest.cores) continue;
    if (best == kNone || nodes[node].memory_bytes < nodes[best].memory_bytes) best = node;
  }
  return best;
}

std::vector<Obstacle> Occupancy::obstacles(GuestId id, HostId from, HostId to) const {
  std::vector<Obstacle> found;
  const Guest& guest = cluster_.guests[id];
  const Host& host = cluster_.hosts[to];
  if (host.maintenance) found.push_back({.kind = ObstacleKind::kMaintenance});
  if (host.cpu_level < guest.cpu_level) {
    found.push_back({.kind = ObstacleKind::kCpuLevel});
  } else if (loses_cpu_level(cluster_, guest, from, to)) {
    found.push_back({.kind = ObstacleKind::kWayBack});
  }
  if (const auto kind = qemu_obstacle(cluster_, guest, from, to)) found.push_back({.kind = *kind});
  const std::int64_t bytes = cost_bytes(guest, host);
  if (free_memory_bytes_[to] < bytes) {
    found.push_back({.kind = ObstacleKind::kMemory,
                     .lacking_bytes = static_cast<std::uint64_t>(bytes - free_memory_bytes_[to])});
  }
  if (free_cores_[to] < guest.cores) {
    found.push_back({.kind = ObstacleKind::kCores,
                     .lacking_cores = static_cast<std::uint32_t>(guest.cores - free_cores_[to])});
  }
  if (found.empty() && guest.one_numa_node && !free_nodes_[to].empty() &&
      numa_node_for(id, to) == kNone) {
    std::int64_t most = 0;
    for (const FreeNode& node : free_nodes_[to]) most = std::max(most, node.memory_bytes);
    found.push_back(
        {.kind = ObstacleKind::kNumaNode,
         .lacking_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(bytes - most, 0))});
  }
  if (const GroupId group = kept_apart(id, from, to); group != kNone)
    found.push_back({.kind = ObstacleKind::kApart, .group = group});
  return found;
}

void Occupancy::take(GuestId id, HostId host, std::uint32_t node, std::int64_t sign) {
  const Guest& guest = cluster_.guests[id];
  const std::int64_t bytes = sign * cost_bytes(guest, cluster_.hosts[host]);
  const std::int64_t cores = sign * static_cast<std::int64_t>(guest.cores);
  free_memory_bytes_[host] -= bytes;
  free_cores_[host] -= cores;
  if (!guest.one_numa_node || node >= free_nodes_[host].size()) return;
  free_nodes_[host][node].memory_bytes -= bytes;
  free_nodes_[host][node].cores -= cores;
}

void Occupancy::count(GuestId id, HostId here, HostId there, std::uint32_t change) {
  for (const GroupId group : cluster_.guests[id].groups) {
    const Group& rule = cluster_.groups[group];
    // Within its own domain a guest is counted once.
    if (!keeps_apart(rule) || place(rule, here) == place(rule, there)) continue;
    members_at_[group][place(rule, here)] += change;
  }
}

void Occupancy::arrive(GuestId guest, HostId from, HostId to, std::uint32_t to_node) {
  take(guest, to, to_node, 1);
  count(guest, to, from, 1);
}

void Occupancy::leave(GuestId guest, HostId from, std::uint32_t from_node, HostId to) {
  take(guest, from, from_node, -1);
  count(guest, from, to, static_cast<std::uint32_t>(-1));
}

}  // namespace sluice::planner
