#include "control/planner/synthetic.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "dataplane/base/random.h"

namespace sluice::planner {
namespace {

constexpr std::uint64_t kGigabyte = 1'000'000'000;
constexpr std::uint64_t kHostRate = 10 * kGigabyte / 8;
constexpr std::uint32_t kRackHosts = 24;

LinkId add_link(Cluster& cluster, const std::string& name, std::uint64_t bytes_per_second) {
  cluster.links.push_back({name, bytes_per_second});
  return static_cast<LinkId>(cluster.links.size() - 1);
}

void add_racks(Cluster& cluster, std::uint32_t hosts) {
  const std::uint32_t racks = (hosts + kRackHosts - 1) / kRackHosts;
  for (std::uint32_t rack = 0; rack < racks; ++rack) {
    const std::string name = "rack" + std::to_string(rack + 1);
    const LinkId up = add_link(cluster, name + " up", 10 * kHostRate);
    const LinkId down = add_link(cluster, name + " down", 10 * kHostRate);
    cluster.switches.push_back({name, racks, up, down});
  }
  cluster.switches.push_back({.name = "core"});
}

void add_hosts(Cluster& cluster, const SyntheticOptions& options, Random& random) {
  // Guests have 3 GB in the mean; a quarter of the memory stays free.
  const std::uint64_t mean_bytes = 3 * kGigabyte * options.guests / options.hosts;
  const auto memory_bytes = std::max<std::uint64_t>(mean_bytes * 4 / 3, 8 * kGigabyte);
  for (std::uint32_t id = 0; id < options.hosts; ++id) {
    Host host;
    host.name = "h" + std::to_string(id + 1);
    host.memory_bytes = memory_bytes + kGigabyte;
    host.reserve_bytes = kGigabyte;
    host.cores = 4 + 2 * options.guests / options.hosts;
    host.cpu_level = random.chance(0.2) ? 2 : 3;
    host.failure_domain = id / kRackHosts;
    host.attached_to = id / kRackHosts;
    host.transmit = add_link(cluster, host.name + " transmit", kHostRate);
    host.receive = add_link(cluster, host.name + " receive", kHostRate);
    cluster.hosts.push_back(host);
  }
}

Guest draw_guest(std::uint32_t id, Random& random) {
  Guest guest;
  guest.name = "g" + std::to_string(id + 1);
  guest.memory_bytes = (random.chance(0.5) ? 2 : 4) * kGigabyte;
  guest.populated_bytes = guest.memory_bytes;
  const bool busy = random.chance(0.5);
  guest.dirty_bytes_per_second = busy ? 3'000'000 : 0;
  guest.working_set_bytes = busy ? 96'000'000 : 5'000'000;
  guest.working_set_ms = busy ? 2000 : 3000;
  guest.cores = 1;
  guest.cpu_level = random.chance(0.75) ? 2 : 3;
  return guest;
}

bool groups_meet(const Cluster& cluster, const std::vector<std::vector<GuestId>>& on_host,
                 const Guest& guest, HostId host) {
  return std::any_of(on_host[host].begin(), on_host[host].end(), [&](GuestId other) {
    const auto& groups = cluster.guests[other].groups;
    return std::any_of(guest.groups.begin(), guest.groups.end(), [&](GroupId group) {
      return std::find(groups.begin(), groups.end(), group) != groups.end();
    });
  });
}

void add_guests(Cluster& cluster, const SyntheticOptions& options, Random& random) {
  constexpr std::uint32_t kApart = 3;
  constexpr std::uint32_t kTriesMax = 1000;
  std::vector<std::uint64_t> used_bytes(options.hosts, 0);
  std::vector<std::vector<GuestId>> on_host(options.hosts);
  for (std::uint32_t id = 0; id < options.guests; ++id) {
    Guest guest = draw_guest(id, random);
    // Groups of three neighbours in number, one in three such triples.
    const std::uint32_t triple = id / kApart;
    if (triple % 3 == 0) {
      if (id % kApart == 0) {
        cluster.groups.push_back({.name = "apart" + std::to_string(triple),
                                  .rule = Rule::kApartHosts,
                                  .limit = 1,
                                  .moving_max = 1});
      }
      guest.groups.push_back(static_cast<GroupId>(cluster.groups.size() - 1));
    }
    for (std::uint32_t tries = 0;; ++tries) {
      // So few hosts that the rules leave no place: it goes without.
      if (tries == kTriesMax) guest.groups.clear();
      if (tries == kTriesMax) guest.cpu_level = 2;
      const auto host = static_cast<HostId>(random.below(options.hosts));
      const Host& facts = cluster.hosts[host];
      // Seven eighths at most, so that there is room to move.
      const bool room = used_bytes[host] + guest.memory_bytes <=
                        (facts.memory_bytes - facts.reserve_bytes) / 8 * 7;
      if (!room || facts.cpu_level < guest.cpu_level || groups_meet(cluster, on_host, guest, host))
        continue;
      guest.host = host;
      used_bytes[host] += guest.memory_bytes;
      on_host[host].push_back(id);
      break;
    }
    cluster.guests.push_back(std::move(guest));
  }
  for (HostId host = 0; host < options.hosts; ++host) {
    if (on_host[host].size() < 2 || !random.chance(0.02 * options.guests / options.hosts / 2))
      continue;
    cluster.groups.push_back({.name = "pair" + std::to_string(host), .rule = Rule::kTogether});
    for (std::size_t i = 0; i < 2; ++i) {
      cluster.guests[on_host[host][i]].groups.push_back(
          static_cast<GroupId>(cluster.groups.size() - 1));
    }
  }
}

}  // namespace

Cluster synthetic_cluster(const SyntheticOptions& options) {
  Random random(options.seed);
  Cluster cluster;
  add_racks(cluster, options.hosts);
  add_hosts(cluster, options, random);
  add_guests(cluster, options, random);
  return cluster;
}

std::vector<HostId> synthetic_drain(const SyntheticOptions& options) {
  Random random(options.seed + 1);
  std::vector<HostId> hosts(options.hosts);
  std::iota(hosts.begin(), hosts.end(), 0U);
  const auto count =
      std::max<std::size_t>(1, static_cast<std::size_t>(options.emptied_share * options.hosts));
  for (std::size_t i = 0; i < count; ++i)
    std::swap(hosts[i], hosts[i + random.below(hosts.size() - i)]);
  hosts.resize(count);
  return hosts;
}

}  // namespace sluice::planner
