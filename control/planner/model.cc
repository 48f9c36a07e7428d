#include "control/planner/model.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <deque>
#include <unordered_set>

#include "control/planner/disjoint_sets.h"

namespace sluice::planner {
namespace {

constexpr std::uint32_t kQemuMinors = 1000;  // of a major version, at most
// Of one host or guest: far more than there is, and thousands of them add up in 63 bits.
constexpr std::uint64_t kBytesMax = 1ULL << 50;

Expected<void> invalid(std::string message) {
  return fail(ErrorKind::kInvalid, std::move(message));
}

template <typename Things>
Expected<void> check_names(const Things& things, const char* kind) {
  std::unordered_set<std::string> seen;
  for (const auto& thing : things) {
    if (thing.name.empty()) return invalid(std::string("a ") + kind + " has no name");
    if (!seen.insert(thing.name).second)
      return invalid(std::string(kind) + " " + thing.name + " is there twice; rename one");
  }
  return {};
}

Expected<void> check_switches(const Cluster& cluster) {
  for (const Switch& leaf : cluster.switches) {
    std::size_t steps = 0;
    for (const Switch* at = &leaf; at->parent != kNone; at = &cluster.switches[at->parent]) {
      if (at->parent >= cluster.switches.size() || at->up >= cluster.links.size() ||
          at->down >= cluster.links.size()) {
        return invalid("switch " + at->name + " needs a parent that exists and a link each way");
      }
      if (++steps > cluster.switches.size())
        return invalid("switch " + leaf.name + " is its own ancestor; switches form a tree");
    }
  }
  return {};
}

Expected<void> check_hosts(const Cluster& cluster) {
  for (const Link& link : cluster.links) {
    if (link.bytes_per_second == 0) return invalid("link " + link.name + " has no rate");
  }
  for (const Host& host : cluster.hosts) {
    if (host.transmit >= cluster.links.size() || host.receive >= cluster.links.size())
      return invalid("host " + host.name + " has no link to send and receive on");
    if (host.attached_to != kNone && host.attached_to >= cluster.switches.size())
      return invalid("host " + host.name + " hangs on a switch that does not exist");
    if (host.memory_bytes > kBytesMax || host.guest_overhead_bytes > kBytesMax)
      return invalid("host " + host.name + " has more memory than 1024 TiB, for itself or a guest");
    if (host.reserve_bytes > host.memory_bytes)
      return invalid("host " + host.name + " reserves more memory than it has");
  }
  return {};
}

Expected<void> check_guests(const Cluster& cluster) {
  for (const Guest& guest : cluster.guests) {
    if (guest.host >= cluster.hosts.size())
      return invalid("guest " + guest.name + " is on a host that does not exist");
    if (guest.memory_bytes > kBytesMax)
      return invalid("guest " + guest.name + " has more memory than 1024 TiB");
    if (guest.populated_bytes > guest.memory_bytes)
      return invalid("guest " + guest.name + " has more populated memory than memory");
    const std::vector<NumaNode>& nodes = cluster.hosts[guest.host].numa_nodes;
    if (guest.one_numa_node && !nodes.empty() && guest.numa_node >= nodes.size()) {
      return invalid("guest " + guest.name +
                     " needs one NUMA node, and its present one is not known");
    }
    for (const GroupId group : guest.groups) {
      if (group >= cluster.groups.size())
        return invalid("guest " + guest.name + " is in a group that does not exist");
    }
  }
  return {};
}

std::vector<std::vector<GuestId>> members_of_groups(const Cluster& cluster) {
  std::vector<std::vector<GuestId>> members(cluster.groups.size());
  for (GuestId guest = 0; guest < cluster.guests.size(); ++guest) {
    for (const GroupId group : cluster.guests[guest].groups) members[group].push_back(guest);
  }
  return members;
}

// The groups of rule kTogether that lead from one guest to another, shortest chain first; empty if
// none does.
std::string together_chain(const Cluster& cluster, const std::vector<std::vector<GuestId>>& members,
                           GuestId from, GuestId to) {
  struct Step {
    GuestId previous = kNone;
    GroupId by = kNone;
  };
  std::vector<Step> steps(cluster.guests.size());
  std::deque<GuestId> queue = {from};
  steps[from].previous = from;
  while (!queue.empty()) {
    const GuestId at = queue.front();
    queue.pop_front();
    for (const GroupId group : cluster.guests[at].groups) {
      if (cluster.groups[group].rule != Rule::kTogether) continue;
      for (const GuestId next : members[group]) {
        if (steps[next].previous != kNone) continue;
        steps[next] = {at, group};
        queue.push_back(next);
      }
    }
  }
  if (steps[to].previous == kNone) return {};
  std::string text;
  for (GuestId at = to; at != from; at = steps[at].previous) {
    std::string link = cluster.guests[steps[at].previous].name + " with " + cluster.guests[at].name;
    link += " by '" + cluster.groups[steps[at].by].name + "'";
    if (!text.empty()) link += ", ";
    text.insert(0, link);
  }
  return text;
}

DisjointSets tied_together(const Cluster& cluster,
                           const std::vector<std::vector<GuestId>>& members) {
  DisjointSets together(cluster.guests.size());
  for (GroupId group = 0; group < cluster.groups.size(); ++group) {
    if (cluster.groups[group].rule != Rule::kTogether) continue;
    for (const GuestId guest : members[group]) together.join(members[group].front(), guest);
  }
  return together;
}

}  // namespace

std::vector<std::uint32_t> components(const Cluster& cluster) {
  DisjointSets together = tied_together(cluster, members_of_groups(cluster));
  std::vector<std::uint32_t> component(cluster.guests.size());
  for (GuestId guest = 0; guest < component.size(); ++guest)
    component[guest] = together.find(guest);
  return component;
}

Expected<void> validate(const Cluster& cluster) {
  for (const auto& checked :
       {check_names(cluster.hosts, "host"), check_names(cluster.guests, "guest"),
        check_names(cluster.groups, "group"), check_switches(cluster), check_hosts(cluster),
        check_guests(cluster)}) {
    if (!checked) return checked;
  }
  if (auto line = contradiction(cluster)) return invalid(std::move(*line));
  return {};
}

std::optional<std::string> contradiction(const Cluster& cluster) {
  const auto members = members_of_groups(cluster);
  DisjointSets together = tied_together(cluster, members);
  for (GroupId group = 0; group < cluster.groups.size(); ++group) {
    const Group& rule = cluster.groups[group];
    if (rule.rule != Rule::kApartHosts && rule.rule != Rule::kApartDomains) continue;
    std::vector<std::pair<std::uint32_t, GuestId>> by_root;
    for (const GuestId guest : members[group]) by_root.emplace_back(together.find(guest), guest);
    std::sort(by_root.begin(), by_root.end());
    for (std::size_t i = rule.limit; i < by_root.size(); ++i) {
      if (by_root[i].first != by_root[i - rule.limit].first) continue;
      const GuestId a = by_root[i - rule.limit].second;
      const GuestId b = by_root[i].second;
      return "groups contradict each other: " + together_chain(cluster, members, a, b) +
             " must be together, but '" + rule.name + "' keeps " + cluster.guests[a].name +
             " and " + cluster.guests[b].name + " apart; take one of them out of a group";
    }
  }
  return std::nullopt;
}

std::vector<LinkId> path(const Cluster& cluster, HostId from, HostId to) {
  const auto to_root = [&](SwitchId at) {
    std::vector<SwitchId> chain;
    for (; at != kNone; at = cluster.switches[at].parent) chain.push_back(at);
    return chain;
  };
  std::vector<SwitchId> up = to_root(cluster.hosts[from].attached_to);
  std::vector<SwitchId> down = to_root(cluster.hosts[to].attached_to);
  while (!up.empty() && !down.empty() && up.back() == down.back()) {
    up.pop_back();
    down.pop_back();
  }
  std::vector<LinkId> links = {cluster.hosts[from].transmit};
  for (const SwitchId at : up) {
    if (cluster.switches[at].parent != kNone) links.push_back(cluster.switches[at].up);
  }
  for (auto at = down.rbegin(); at != down.rend(); ++at) {
    if (cluster.switches[*at].parent != kNone) links.push_back(cluster.switches[*at].down);
  }
  links.push_back(cluster.hosts[to].receive);
  return links;
}

std::uint32_t admission_level(const Cluster& cluster, const std::vector<HostId>& hosts) {
  std::uint32_t level = std::numeric_limits<std::uint32_t>::max();
  for (const HostId host : hosts) level = std::min(level, cluster.hosts[host].cpu_level);
  return level;
}

std::optional<std::uint32_t> parse_qemu_series(std::string_view version) {
  const char* const end = version.data() + version.size();
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  const auto [point, is_major] = std::from_chars(version.data(), end, major);
  if (is_major != std::errc{} || point == end || *point != '.') return std::nullopt;
  const auto [rest, is_minor] = std::from_chars(point + 1, end, minor);
  const bool ends = rest == end || *rest == '.';
  if (is_minor != std::errc{} || !ends || major == 0 || major >= kQemuMinors ||
      minor >= kQemuMinors)
    return std::nullopt;
  return major * kQemuMinors + minor;
}

std::string qemu_series_text(std::uint32_t series) {
  return std::to_string(series / kQemuMinors) + "." + std::to_string(series % kQemuMinors);
}

std::string memory_text(std::uint64_t bytes) {
  constexpr std::uint64_t kMebibyte = 1ULL << 20;
  // What is lacking must not be understated, so round up.
  const std::uint64_t mebibytes = (bytes + kMebibyte - 1) / kMebibyte;
  if (mebibytes < 1024) return std::to_string(mebibytes) + " MiB";
  const std::uint64_t tenths = (mebibytes * 10 + 1023) / 1024;
  return std::to_string(tenths / 10) + (tenths % 10 == 0 ? "" : "." + std::to_string(tenths % 10)) +
         " GiB";
}

}  // namespace sluice::planner
