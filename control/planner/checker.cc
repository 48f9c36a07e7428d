#include "control/planner/checker.h"

#include <algorithm>
#include <set>

namespace sluice::planner {
namespace {

class Sweep {
 public:
  Sweep(const Cluster& cluster, const std::vector<Move>& moves, const CheckOptions& options)
      : cluster_(cluster),
        moves_(moves),
        options_(options),
        at_(cluster.guests.size()),
        node_(cluster.guests.size(), kNone),
        series_(cluster.guests.size(), 0),
        moving_(cluster.guests.size(), nullptr),
        members_(cluster.groups.size()),
        whole_at_start_(cluster.groups.size(), false),
        link_load_(cluster.links.size(), 0),
        guests_of_host_(cluster.hosts.size()) {
    for (GuestId guest = 0; guest < cluster.guests.size(); ++guest) {
      const Guest& facts = cluster.guests[guest];
      at_[guest] = facts.host;
      node_[guest] = facts.numa_node;
      series_[guest] = facts.qemu_series;
      guests_of_host_[facts.host].insert(guest);
      for (const GroupId group : facts.groups) members_[group].push_back(guest);
    }
    for (GroupId group = 0; group < cluster.groups.size(); ++group)
      whole_at_start_[group] = whole(group);
  }

  std::vector<std::string> run() {
    struct Event {
      std::uint64_t time_ms;
      bool start;
      const Move* move;
    };
    std::vector<Event> events;
    for (const Move& move : moves_) {
      if (!well_formed(move)) return found_;
      events.push_back({move.start_ms, true, &move});
      events.push_back({move.end_ms, false, &move});
    }
    // What ends at an instant makes room for what starts there.
    std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
      return a.time_ms != b.time_ms ? a.time_ms < b.time_ms : a.start < b.start;
    });
    for (std::size_t i = 0; i < events.size();) {
      now_ms_ = events[i].time_ms;
      std::vector<const Move*> ended;
      std::vector<const Move*> started;
      for (; i < events.size() && events[i].time_ms == now_ms_; ++i) {
        const Move* const move = events[i].move;
        (events[i].start ? started : ended).push_back(move);
        if (events[i].start) {
          begin(*move);
        } else {
          end(*move);
        }
      }
      for (const Move* const move : started) check_started(*move);
      check_together(ended, started);
    }
    check_emptied();
    return found_;
  }

 private:
  [[nodiscard]] const Guest& guest_of(const Move& move) const {
    return cluster_.guests[move.guest];
  }

  void violation(const std::string& text) {
    if (found_.size() < options_.violations_max)
      found_.push_back("at " + std::to_string(now_ms_) + " ms: " + text);
  }

  bool well_formed(const Move& move) {
    now_ms_ = move.start_ms;
    if (move.guest >= cluster_.guests.size() || move.from >= cluster_.hosts.size() ||
        move.to >= cluster_.hosts.size() || move.from == move.to || move.end_ms <= move.start_ms) {
      violation("a move without a guest, two hosts or a duration");
      return false;
    }
    return true;
  }

  void begin(const Move& move) {
    const std::string& name = guest_of(move).name;
    if (moving_[move.guest] != nullptr) violation(name + " moves twice at once");
    if (at_[move.guest] != move.from)
      violation(name + " leaves " + cluster_.hosts[move.from].name + " but is not there");
    moving_[move.guest] = &move;
    guests_of_host_[move.to].insert(move.guest);
    for (const LinkId link : path(cluster_, move.from, move.to))
      link_load_[link] += move.bytes_per_second;
  }

  void end(const Move& move) {
    moving_[move.guest] = nullptr;
    stopped_.insert(move.guest);
    at_[move.guest] = move.to;
    node_[move.guest] = move.to_numa_node;
    const std::uint32_t series = cluster_.hosts[move.to].qemu_series;
    if (series_[move.guest] != 0 && series != 0) series_[move.guest] = series;
    guests_of_host_[move.from].erase(move.guest);
    for (const LinkId link : path(cluster_, move.from, move.to))
      link_load_[link] -= move.bytes_per_second;
  }

  void check_started(const Move& move) {
    check_eligible(move);
    for (const LinkId link : path(cluster_, move.from, move.to)) {
      if (link_load_[link] > cluster_.links[link].bytes_per_second)
        violation("link " + cluster_.links[link].name + " carries more than its rate");
    }
    check_room(move);
    for (const GroupId group : guest_of(move).groups) check_group(group, move);
  }

  // What does not depend on other guests.
  void check_eligible(const Move& move) {
    const Guest& guest = guest_of(move);
    const Host& from = cluster_.hosts[move.from];
    const Host& to = cluster_.hosts[move.to];
    const bool emptied = std::find(options_.emptied.begin(), options_.emptied.end(), move.to) !=
                         options_.emptied.end();
    if (guest.policy == Policy::kNever) violation(guest.name + " moves though its policy is never");
    if (to.maintenance) violation(guest.name + " goes to " + to.name + ", which is in maintenance");
    if (move.to < options_.closed.size() && options_.closed[move.to])
      violation(guest.name + " goes to " + to.name + ", which is closed");
    if (stopped_.count(move.guest) != 0 && move.from < options_.no_stop.size() &&
        options_.no_stop[move.from])
      violation(guest.name + " makes a stop on " + from.name + ", which is closed");
    if (emptied) violation(guest.name + " goes to " + to.name + ", which is to be emptied");
    if (to.cpu_level < guest.cpu_level)
      violation(guest.name + " cannot run on the CPU of " + to.name);
    if (guest.policy == Policy::kShutdown && guest.cpu_level_from_host &&
        to.cpu_level > from.cpu_level)
      violation(guest.name + " has no way back from " + to.name + " to " + from.name);
    if (guest.policy == Policy::kShutdown) return;
    check_qemu(move);
    // Rounded up to the millisecond, as a plan's times are.
    const double seconds = static_cast<double>(move.end_ms - move.start_ms) / 1000.0;
    if (static_cast<double>(move.bytes_per_second) * seconds <
        static_cast<double>(guest.populated_bytes))
      violation(guest.name + " arrives on " + to.name + " before its memory can have");
  }

  // A guest that is moved alive runs on the QEMU of each host that it has come to.
  void check_qemu(const Move& move) {
    const std::uint32_t now = series_[move.guest];
    const std::uint32_t then = cluster_.hosts[move.to].qemu_series;
    if (now == 0 || then == 0) return;
    const Host& from = cluster_.hosts[move.from];
    const std::string& name = guest_of(move).name;
    if (then < now) {
      violation(name + " goes to the older QEMU of " + cluster_.hosts[move.to].name);
    } else if (from.qemu_series != 0 && then > from.qemu_series &&
               then > cluster_.qemu_series_meant) {
      violation(name + " has no way back from the newer QEMU of " + cluster_.hosts[move.to].name);
    }
  }

  void check_room(const Move& move) {
    const Host& host = cluster_.hosts[move.to];
    std::uint64_t memory = host.reserve_bytes;
    std::uint64_t cores = 0;
    std::vector<NumaNode> pinned(host.numa_nodes.size());
    for (const GuestId other : guests_of_host_[move.to]) {
      const Guest& guest = cluster_.guests[other];
      memory += guest.memory_bytes + host.guest_overhead_bytes;
      cores += guest.cores;
      if (!guest.one_numa_node || host.numa_nodes.empty()) continue;
      const Move* const on_way = moving_[other];
      const bool arriving = on_way != nullptr && on_way->to == move.to;
      const std::uint32_t node = arriving ? on_way->to_numa_node : node_[other];
      if (node >= pinned.size()) {
        violation(guest.name + " has no NUMA node on " + host.name);
        continue;
      }
      pinned[node].memory_bytes += guest.memory_bytes + host.guest_overhead_bytes;
      pinned[node].cores += guest.cores;
    }
    if (memory > host.memory_bytes) {
      violation(host.name + " lacks " + memory_text(memory - host.memory_bytes) + " for " +
                guest_of(move).name);
    }
    if (cores > host.cores) violation(host.name + " lacks cores for " + guest_of(move).name);
    for (std::size_t node = 0; node < pinned.size(); ++node) {
      if (pinned[node].memory_bytes > host.numa_nodes[node].memory_bytes ||
          pinned[node].cores > host.numa_nodes[node].cores) {
        violation("NUMA node " + std::to_string(node) + " of " + host.name + " is overfull");
      }
    }
  }

  void check_group(GroupId id, const Move& move) {
    const Group& group = cluster_.groups[id];
    std::uint32_t in_motion = 0;
    std::uint32_t at_destination = 0;
    const auto same_place = [&](HostId a, HostId b) {
      return group.rule == Rule::kApartDomains
                 ? cluster_.hosts[a].failure_domain == cluster_.hosts[b].failure_domain
                 : a == b;
    };
    for (const GuestId member : members_[id]) {
      const Move* const on_way = moving_[member];
      if (on_way != nullptr) ++in_motion;
      if (same_place(at_[member], move.to) ||
          (on_way != nullptr && same_place(on_way->to, move.to)))
        ++at_destination;
    }
    if (group.moving_max > 0 && in_motion > group.moving_max)
      violation("more of group '" + group.name + "' on the move than its budget allows");
    const bool apart = group.rule == Rule::kApartHosts || group.rule == Rule::kApartDomains;
    // Within its own domain a guest adds nothing.
    const bool adds = !same_place(move.from, move.to);
    if (apart && adds && at_destination > group.limit) {
      violation("group '" + group.name + "' keeps apart what meets at " +
                cluster_.hosts[move.to].name);
    }
  }

  [[nodiscard]] bool whole(GroupId group) const {
    return std::all_of(members_[group].begin(), members_[group].end(),
                       [&](GuestId member) { return at_[member] == at_[members_[group].front()]; });
  }

  void check_together(const std::vector<const Move*>& ended,
                      const std::vector<const Move*>& started) {
    std::set<GroupId> touched;
    for (const auto* const moves : {&ended, &started}) {
      for (const Move* const move : *moves)
        touched.insert(guest_of(*move).groups.begin(), guest_of(*move).groups.end());
    }
    for (const GroupId group : touched) {
      if (cluster_.groups[group].rule != Rule::kTogether) continue;
      const bool together = whole(group);
      const bool in_motion =
          std::any_of(members_[group].begin(), members_[group].end(),
                      [&](GuestId member) { return moving_[member] != nullptr; });
      if (!together && !in_motion && whole_at_start_[group])
        violation("group '" + cluster_.groups[group].name + "' is left apart");
    }
  }

  void check_emptied() {
    for (const HostId host : options_.emptied) {
      for (const GuestId guest : guests_of_host_[host])
        violation(cluster_.guests[guest].name + " is still on " + cluster_.hosts[host].name);
    }
  }

  const Cluster& cluster_;
  const std::vector<Move>& moves_;
  const CheckOptions& options_;
  std::uint64_t now_ms_ = 0;
  std::vector<HostId> at_;
  std::vector<std::uint32_t> node_;
  std::vector<std::uint32_t> series_;  // of the QEMU that each guest runs on
  std::vector<const Move*> moving_;
  std::set<GuestId> stopped_;  // that have moved once
  std::vector<std::vector<GuestId>> members_;
  std::vector<bool> whole_at_start_;
  std::vector<std::uint64_t> link_load_;
  std::vector<std::set<GuestId>> guests_of_host_;
  std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> check_plan(const Cluster& cluster, const std::vector<Move>& moves,
                                    const CheckOptions& options) {
  return Sweep(cluster, moves, options).run();
}

}  // namespace sluice::planner
