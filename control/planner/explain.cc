#include "control/planner/explain.h"

#include <algorithm>
#include <map>

namespace sluice::planner {
namespace {

constexpr std::size_t kHostsNamed = 4;

std::string named(const Guest& guest) {
  return "guest " + guest.name + " (" + memory_text(guest.memory_bytes) + ")";
}

std::string counted(std::size_t count, const std::string& singular) {
  return std::to_string(count) + " " + singular + (count == 1 ? "" : "s");
}

bool same_place(const Situation& situation, const Group& group, HostId a, HostId b) {
  const auto& hosts = situation.cluster.hosts;
  return group.rule == Rule::kApartDomains ? hosts[a].failure_domain == hosts[b].failure_domain
                                           : a == b;
}

// The member of the group that is in the way at `host`.
std::string holder(const Situation& situation, GuestId guest, GroupId group, HostId host) {
  const Cluster& cluster = situation.cluster;
  for (GuestId other = 0; other < cluster.guests.size(); ++other) {
    const auto& groups = cluster.guests[other].groups;
    if (other == guest || std::find(groups.begin(), groups.end(), group) == groups.end()) continue;
    if (same_place(situation, cluster.groups[group], situation.location[other], host) ||
        same_place(situation, cluster.groups[group], cluster.guests[other].host, host)) {
      return cluster.guests[other].name;
    }
  }
  return "a member";
}

// "h2 lacks 3 GiB"
std::string sentence(const Situation& situation, GuestId id, HostId to, const Obstacle& obstacle) {
  const Host& host = situation.cluster.hosts[to];
  const Guest& guest = situation.cluster.guests[id];
  const Host& source = situation.cluster.hosts[guest.host];
  switch (obstacle.kind) {
    case ObstacleKind::kMaintenance:
      return host.name + " is in maintenance";
    case ObstacleKind::kCpuLevel:
      return host.name + " has CPU level " + std::to_string(host.cpu_level) + " where it runs at " +
             std::to_string(guest.cpu_level);
    case ObstacleKind::kWayBack:
      return host.name + " has a newer CPU from which it could not come back to " + source.name;
    case ObstacleKind::kQemuOlder:
      return host.name + " has QEMU " + qemu_series_text(host.qemu_series) + ", older than the " +
             qemu_series_text(guest.qemu_series) + " that it runs on";
    case ObstacleKind::kQemuOneWay:
      return host.name + " has QEMU " + qemu_series_text(host.qemu_series) +
             ", from which it could not come back to " + source.name + " with " +
             qemu_series_text(source.qemu_series);
    case ObstacleKind::kMemory:
      return host.name + " lacks " + memory_text(obstacle.lacking_bytes);
    case ObstacleKind::kCores:
      return host.name + " lacks " + counted(obstacle.lacking_cores, "core");
    case ObstacleKind::kNumaNode:
      return host.name + " has no NUMA node that takes it whole" +
             (obstacle.lacking_bytes > 0 ? ", " + memory_text(obstacle.lacking_bytes) + " too few"
                                         : std::string());
    case ObstacleKind::kApart: {
      const Group& group = situation.cluster.groups[obstacle.group];
      const bool domain = group.rule == Rule::kApartDomains;
      return (domain ? "the failure domain of " + host.name : host.name) + " holds " +
             holder(situation, id, obstacle.group, to) + " of its anti-affinity group '" +
             group.name + "'";
    }
    case ObstacleKind::kExcluded:
      break;
  }
  return host.name + " takes nobody in";
}

// "3 GiB more on h2 would free it"; empty for what no small change cures.
std::string remedy(const Situation& situation, GuestId id, HostId to, const Obstacle& obstacle) {
  const Host& host = situation.cluster.hosts[to];
  switch (obstacle.kind) {
    case ObstacleKind::kMemory:
      return memory_text(obstacle.lacking_bytes) + " more on " + host.name + " would free it";
    case ObstacleKind::kNumaNode:
      return (obstacle.lacking_bytes > 0 ? memory_text(obstacle.lacking_bytes)
                                         : std::string("room")) +
             " more on one NUMA node of " + host.name + " would free it";
    case ObstacleKind::kCores:
      return counted(obstacle.lacking_cores, "more core") + " on " + host.name + " would free it";
    case ObstacleKind::kApart:
      return "moving " + holder(situation, id, obstacle.group, to) +
             " away from there would free it";
    case ObstacleKind::kMaintenance:
      return "ending the maintenance of " + host.name + " would free it";
    case ObstacleKind::kWayBack:
      return "starting it at CPU level " +
             std::to_string(situation.cluster.hosts[situation.cluster.guests[id].host].cpu_level) +
             " would free it";
    case ObstacleKind::kQemuOlder:
      return "QEMU " + qemu_series_text(situation.cluster.guests[id].qemu_series) + " on " +
             host.name + " would free it";
    case ObstacleKind::kQemuOneWay:
      return "a plan that means it to go there for good (expect.qemu = \"" +
             qemu_series_text(host.qemu_series) + "\") would free it";
    case ObstacleKind::kCpuLevel:
    case ObstacleKind::kExcluded:
      break;
  }
  return {};
}

// What is cheapest to cure comes first.
int cost_rank(ObstacleKind kind) {
  switch (kind) {
    case ObstacleKind::kMemory:
      return 0;
    case ObstacleKind::kNumaNode:
      return 1;
    case ObstacleKind::kCores:
      return 2;
    case ObstacleKind::kApart:
      return 3;
    case ObstacleKind::kMaintenance:
      return 4;
    case ObstacleKind::kWayBack:
    case ObstacleKind::kQemuOlder:
    case ObstacleKind::kQemuOneWay:
      return 5;
    case ObstacleKind::kCpuLevel:
    case ObstacleKind::kExcluded:
      break;
  }
  return 6;
}

struct Refusal {
  HostId host;
  std::vector<Obstacle> obstacles;

  // The fewer and smaller the obstacles, the nearer the host is to taking the guest.
  [[nodiscard]] auto distance() const {
    std::uint64_t bytes = 0;
    int rank = 0;
    for (const Obstacle& obstacle : obstacles) {
      bytes += obstacle.lacking_bytes;
      rank = std::max(rank, cost_rank(obstacle.kind));
    }
    return std::tuple(obstacles.size(), rank, bytes, host);
  }
};

std::string needed_host(const Guest& guest) {
  return "a host with " + memory_text(guest.memory_bytes) + " free and CPU level " +
         std::to_string(guest.cpu_level) +
         (guest.qemu_series == 0 ? "" : ", QEMU " + qemu_series_text(guest.qemu_series)) +
         " or more would free it";
}

// "uncordon h3": what would open hosts that have room for the guest; empty: nothing.
std::string openings(const Situation& situation, GuestId id) {
  constexpr std::size_t kOpeningsMax = 2;
  std::string text;
  std::size_t named = 0;
  for (HostId host = 0; host < situation.to_open.size() && named < kOpeningsMax; ++host) {
    const HostId from = situation.cluster.guests[id].host;
    if (!situation.closed[host] || host == from || situation.to_open[host].empty() ||
        !situation.occupancy.obstacles(id, from, host).empty())
      continue;
    text += (named == 0 ? "" : " or ") + situation.to_open[host];
    ++named;
  }
  return text;
}

// Each domain by its name, or a host in it, with what its open hosts have free, most first; empty
// unless domains have several hosts.
std::vector<std::pair<std::uint64_t, std::string>> free_by_domain(
    const Situation& situation, const std::vector<std::pair<std::uint64_t, HostId>>& by_host) {
  std::map<std::uint32_t, std::pair<std::uint64_t, std::string>> domains;
  for (const auto& [bytes, host] : by_host) {
    const Host& facts = situation.cluster.hosts[host];
    const auto& names = situation.cluster.domain_names;
    const std::string name = facts.failure_domain < names.size() ? names[facts.failure_domain]
                                                                 : "the domain of " + facts.name;
    domains.try_emplace(facts.failure_domain, 0, name).first->second.first += bytes;
  }
  std::vector<std::pair<std::uint64_t, std::string>> free;
  if (domains.size() == by_host.size() || domains.size() == 1) return free;
  for (auto& [number, domain] : domains) free.push_back(std::move(domain));
  std::stable_sort(free.begin(), free.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  return free;
}

}  // namespace

std::string explain_unplaced(const Situation& situation, GuestId id) {
  const Guest& guest = situation.cluster.guests[id];
  std::vector<Refusal> refusals;
  for (HostId host = 0; host < situation.cluster.hosts.size(); ++host) {
    if (situation.closed[host] || host == guest.host) continue;
    auto obstacles = situation.occupancy.obstacles(id, guest.host, host);
    if (!obstacles.empty()) refusals.push_back({host, std::move(obstacles)});
  }
  std::string text = named(guest) + " fits no host: ";
  const std::string opening = openings(situation, id);
  if (refusals.empty()) {
    return text + "there is no other host that takes guests in; " +
           (opening.empty() ? "open or add one" : opening);
  }
  std::sort(refusals.begin(), refusals.end(),
            [](const Refusal& a, const Refusal& b) { return a.distance() < b.distance(); });
  const std::size_t shown = refusals.size() > kHostsNamed + 1 ? kHostsNamed : refusals.size();
  for (std::size_t i = 0; i < shown; ++i) {
    const Refusal& refusal = refusals[i];
    if (i > 0) text += ", ";
    text += sentence(situation, id, refusal.host, refusal.obstacles.front());
  }
  if (shown < refusals.size())
    text += ", and " + std::to_string(refusals.size() - shown) + " others lack more";
  const Refusal& nearest = refusals.front();
  const std::string cure = nearest.obstacles.size() == 1
                               ? remedy(situation, id, nearest.host, nearest.obstacles.front())
                               : std::string();
  text += "; " + (cure.empty() ? needed_host(guest) : cure);
  return opening.empty() ? text : text + ", or " + opening;
}

std::string explain_refused(const Situation& situation, GuestId id, HostId to) {
  const Guest& guest = situation.cluster.guests[id];
  std::string text = named(guest) + " cannot go to " + situation.cluster.hosts[to].name + ": ";
  if (situation.closed[to]) return text + "it takes nobody in; choose another host";
  const auto obstacles = situation.occupancy.obstacles(id, guest.host, to);
  if (obstacles.empty()) return text + "nothing stands in its way";
  for (std::size_t i = 0; i < obstacles.size(); ++i)
    text += (i == 0 ? "" : ", ") + sentence(situation, id, to, obstacles[i]);
  const std::string cure = remedy(situation, id, to, obstacles.front());
  return text + "; " + (cure.empty() || obstacles.size() > 1 ? "choose another host" : cure);
}

std::string explain_shortage(const Situation& situation, std::uint64_t leaving_bytes) {
  std::uint64_t free_bytes = 0;
  std::size_t open = 0;
  std::vector<std::pair<std::uint64_t, HostId>> by_host;
  for (HostId host = 0; host < situation.cluster.hosts.size(); ++host) {
    const Host& facts = situation.cluster.hosts[host];
    if (situation.closed[host] || facts.maintenance) continue;
    ++open;
    const auto bytes = static_cast<std::uint64_t>(
        std::max<std::int64_t>(situation.occupancy.free_memory_bytes(host), 0));
    free_bytes += bytes;
    by_host.emplace_back(bytes, host);
  }
  if (leaving_bytes <= free_bytes) return {};
  std::string text = memory_text(leaving_bytes - free_bytes) +
                     " of memory are missing: " + memory_text(leaving_bytes) + " must leave, the " +
                     counted(open, "open host") + " have " + memory_text(free_bytes) + " free (";
  std::vector<std::pair<std::uint64_t, std::string>> places;
  if (by_host.size() > kHostsNamed) places = free_by_domain(situation, by_host);
  if (places.empty()) {
    std::sort(by_host.rbegin(), by_host.rend());
    for (const auto& [bytes, host] : by_host)
      places.emplace_back(bytes, situation.cluster.hosts[host].name);
  }
  for (std::size_t i = 0; i < std::min(places.size(), kHostsNamed); ++i)
    text += (i == 0 ? "" : ", ") + places[i].second + " " + memory_text(places[i].first);
  if (places.empty()) text += "there is none";
  if (places.size() > kHostsNamed) text += ", the others less";
  return text + "); empty fewer hosts at once, or add memory";
}

}  // namespace sluice::planner
