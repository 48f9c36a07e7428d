// Small clusters, written down in a line per host and guest.
#pragma once

#include <string>
#include <vector>

#include "control/planner/planner.h"

namespace sluice::planner {

inline constexpr std::uint64_t kGib = 1ULL << 30;
inline constexpr std::uint64_t kLinkRate = kGib;  // bytes per second: a GiB takes a second

class Builder {
 public:
  HostId host(const std::string& name, std::uint64_t memory_gib, std::uint64_t rate = kLinkRate) {
    Host host;
    host.name = name;
    host.memory_bytes = memory_gib * kGib;
    host.cores = 64;
    host.cpu_level = 3;
    host.failure_domain = static_cast<std::uint32_t>(cluster.hosts.size());
    host.transmit = static_cast<LinkId>(cluster.links.size());
    cluster.links.push_back({name + " transmit", rate});
    host.receive = static_cast<LinkId>(cluster.links.size());
    cluster.links.push_back({name + " receive", rate});
    cluster.hosts.push_back(host);
    return static_cast<HostId>(cluster.hosts.size() - 1);
  }

  GuestId guest(const std::string& name, HostId host, std::uint64_t memory_gib,
                const std::vector<GroupId>& groups = {}) {
    Guest guest;
    guest.name = name;
    guest.host = host;
    guest.memory_bytes = memory_gib * kGib;
    guest.populated_bytes = guest.memory_bytes;
    guest.cores = 1;
    guest.cpu_level = 3;
    guest.groups = groups;
    cluster.guests.push_back(guest);
    return static_cast<GuestId>(cluster.guests.size() - 1);
  }

  GroupId group(const std::string& name, Rule rule, std::uint32_t moving_max = 0) {
    cluster.groups.push_back({.name = name, .rule = rule, .limit = 1, .moving_max = moving_max});
    return static_cast<GroupId>(cluster.groups.size() - 1);
  }

  Cluster cluster;
};

// No pre-copy arithmetic: memory ÷ rate, a minute for a restart.
inline PlanOptions simple_options(std::uint64_t seed = 1) {
  PlanOptions options;
  options.search.seed = seed;
  options.search.schedules_max = 100;
  options.move_time = [](const Guest& guest, std::uint64_t rate) -> std::uint64_t {
    return guest.policy == Policy::kShutdown ? 60'000
                                             : (guest.populated_bytes * 1000 + rate - 1) / rate;
  };
  return options;
}

}  // namespace sluice::planner
