#include "control/planner/placement.h"

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>

#include "control/planner/explain.h"
#include "control/planner/occupancy.h"

namespace sluice::planner {
namespace {

// Guests that leave one host together: one, or those that kTogether groups tie.
struct Unit {
  std::vector<GuestId> guests;
  HostId from = kNone;
  std::uint32_t component = kNone;
  HostId mates_on = kNone;  // where the rest of its component is and stays
  std::uint64_t memory_bytes = 0;
  std::uint32_t failures = 0;
};

// One attempt to place all units.
class Attempt {
 public:
  enum class Packing : std::uint8_t { kSpread = 1, kTight };

  Attempt(const Cluster& cluster, const PlacementOptions& options, Packing packing)
      : cluster_(cluster),
        options_(options),
        packing_(packing),
        occupancy_(cluster),
        load_ms_(cluster.links.size(), 0.0),
        location_(cluster.guests.size()) {
    for (GuestId guest = 0; guest < cluster.guests.size(); ++guest)
      location_[guest] = cluster.guests[guest].host;
  }

  // False: no host has room for the unit.
  bool place(const Unit& unit) {
    ways_.clear();
    const auto decided = host_of_component_.find(unit.component);
    const HostId forced = decided != host_of_component_.end() ? decided->second : unit.mates_on;
    Choice best;
    if (forced != kNone) {
      consider(unit, forced, best);
    } else {
      for (HostId host = 0; host < cluster_.hosts.size(); ++host) consider(unit, host, best);
    }
    if (best.host == kNone) return false;
    commit(unit, best.host);
    return true;
  }

  [[nodiscard]] Situation situation() const {
    return {cluster_, occupancy_, location_, options_.closed, options_.to_open};
  }
  std::vector<Job>& jobs() { return jobs_; }

 private:
  struct Choice {
    HostId host = kNone;
    std::tuple<std::uint32_t, double, double> cost;
  };
  // What all destinations behind one switch have in common.
  struct Way {
    std::vector<LinkId> inner;
    std::uint64_t bytes_per_second = 0;
    double inner_load_ms = 0;
  };

  void consider(const Unit& unit, HostId host, Choice& best) {
    if (options_.closed[host] || host == unit.from || !fits(unit, host)) return;
    const Way& way = way_to(unit, host);
    const LinkId receive = cluster_.hosts[host].receive;
    const double rate = static_cast<double>(
        std::min(way.bytes_per_second, cluster_.links[receive].bytes_per_second));
    // Loads compare destinations, so the bytes alone will do: what is dirtied meanwhile is much the
    // same everywhere.
    const double share = rate / static_cast<double>(cluster_.links[receive].bytes_per_second);
    const double duration_ms = static_cast<double>(unit.memory_bytes) / rate * 1000.0;
    const double load_ms = std::max(way.inner_load_ms, load_ms_[receive] + duration_ms * share);
    const auto free_bytes = static_cast<double>(occupancy_.free_memory_bytes(host));
    const std::uint32_t rank = options_.rank_of_host.empty() ? 0 : options_.rank_of_host[host];
    const auto cost = packing_ == Packing::kSpread ? std::tuple(rank, load_ms, -free_bytes)
                                                   : std::tuple(rank, free_bytes, load_ms);
    if (best.host == kNone || cost < best.cost) best = {host, cost};
  }

  bool fits(const Unit& unit, HostId host) {
    if (unit.guests.size() == 1) return occupancy_.fits(unit.guests.front(), unit.from, host);
    std::vector<Job::Passenger> boarded;
    bool all = true;
    for (const GuestId guest : unit.guests) {
      all = occupancy_.fits(guest, unit.from, host);
      if (!all) break;
      boarded.push_back({.guest = guest, .to_node = occupancy_.numa_node_for(guest, host)});
      occupancy_.arrive(guest, unit.from, host, boarded.back().to_node);
    }
    for (const Job::Passenger& passenger : boarded)
      occupancy_.leave(passenger.guest, host, passenger.to_node, unit.from);
    return all;
  }

  const Way& way_to(const Unit& unit, HostId host) {
    const SwitchId behind = cluster_.hosts[host].attached_to;
    const auto [entry, fresh] = ways_.try_emplace(behind);
    Way& way = entry->second;
    if (!fresh) return way;
    way.inner = path(cluster_, unit.from, host);
    way.inner.erase(way.inner.begin());
    way.inner.pop_back();
    way.bytes_per_second = cluster_.links[cluster_.hosts[unit.from].transmit].bytes_per_second;
    if (cluster_.session_bytes_per_second > 0)
      way.bytes_per_second = std::min(way.bytes_per_second, cluster_.session_bytes_per_second);
    for (const LinkId link : way.inner)
      way.bytes_per_second = std::min(way.bytes_per_second, cluster_.links[link].bytes_per_second);
    for (const LinkId link : way.inner) {
      const double added_ms = static_cast<double>(unit.memory_bytes) * 1000.0 /
                              static_cast<double>(cluster_.links[link].bytes_per_second);
      way.inner_load_ms = std::max(way.inner_load_ms, load_ms_[link] + added_ms);
    }
    return way;
  }

  void commit(const Unit& unit, HostId host) {
    std::vector<Job::Passenger> passengers;
    for (const GuestId guest : unit.guests) {
      const std::uint32_t node = occupancy_.numa_node_for(guest, host);
      // Its old room stays taken: nothing may depend on the order in which guests leave.
      occupancy_.arrive(guest, unit.from, host, node);
      location_[guest] = host;
      passengers.push_back(
          {.guest = guest, .from_node = cluster_.guests[guest].numa_node, .to_node = node});
    }
    jobs_.push_back(make_job(cluster_, options_.move_time, std::move(passengers), unit.from, host));
    const Job& job = jobs_.back();
    for (const LinkId link : job.links) {
      load_ms_[link] += static_cast<double>(unit.memory_bytes) * 1000.0 /
                        static_cast<double>(cluster_.links[link].bytes_per_second);
    }
    host_of_component_.emplace(unit.component, host);
  }

  const Cluster& cluster_;
  const PlacementOptions& options_;
  Packing packing_;
  Occupancy occupancy_;
  std::vector<double> load_ms_;
  std::vector<HostId> location_;
  std::map<std::uint32_t, HostId> host_of_component_;
  std::map<SwitchId, Way> ways_;  // of the unit that is being placed
  std::vector<Job> jobs_;
};

struct Departure {
  std::vector<Unit> units;
  std::map<GuestId, std::string> bound;  // guests that may not move: why
};

Departure departing(const Cluster& cluster, const std::vector<HostId>& hosts) {
  std::vector<bool> leaving(cluster.hosts.size(), false);
  for (const HostId host : hosts) leaving[host] = true;
  const std::vector<std::uint32_t> component = components(cluster);
  std::map<std::uint32_t, HostId> mates_on;
  std::map<std::pair<std::uint32_t, HostId>, Unit> units;
  std::map<std::uint32_t, GuestId> bound;
  for (GuestId id = 0; id < cluster.guests.size(); ++id) {
    const Guest& guest = cluster.guests[id];
    if (!leaving[guest.host]) {
      mates_on.emplace(component[id], guest.host);
      continue;
    }
    Unit& unit = units[{component[id], guest.host}];
    unit.guests.push_back(id);
    unit.from = guest.host;
    unit.component = component[id];
    unit.memory_bytes += guest.memory_bytes;
    if (guest.policy == Policy::kNever) bound.emplace(component[id], id);
  }
  Departure departure;
  for (auto& [key, unit] : units) {
    const auto mates = mates_on.find(unit.component);
    if (mates != mates_on.end()) unit.mates_on = mates->second;
    const auto never = bound.find(unit.component);
    if (never == bound.end()) {
      departure.units.push_back(std::move(unit));
      continue;
    }
    const std::string& anchor = cluster.guests[never->second].name;
    for (const GuestId guest : unit.guests) {
      departure.bound.emplace(
          guest, "guest " + cluster.guests[guest].name + " cannot leave " +
                     cluster.hosts[unit.from].name + ": " +
                     (guest == never->second
                          ? std::string("its policy is never; shut it down or change its policy")
                          : "it is tied to " + anchor + ", whose policy is never"));
    }
  }
  return departure;
}

std::string explain_unit(const Situation& now, const Unit& unit) {
  const GuestId first = unit.guests.front();
  if (unit.guests.size() > 1) {
    return "guests " + now.cluster.guests[first].name + " and " +
           std::to_string(unit.guests.size() - 1) + " more must stay together (" +
           memory_text(unit.memory_bytes) +
           "), and no host takes them all; make room on one or take them out of their group";
  }
  if (unit.mates_on != kNone)
    return explain_refused(now, first, unit.mates_on) + " (its group is there)";
  return explain_unplaced(now, first);
}

// Of many guests like each other the first lines say enough.
void explain(const Attempt& attempt, const std::vector<Unit>& unplaced, std::uint64_t leaving_bytes,
             Placement& placement) {
  constexpr std::size_t kLinesMax = 20;
  const Situation now = attempt.situation();
  // What is placed already has its room; the sum is about the start.
  const Occupancy at_start(now.cluster);
  placement.shortage = explain_shortage(
      {now.cluster, at_start, now.location, now.closed, now.to_open}, leaving_bytes);
  auto& lines = placement.obstacles;
  if (!placement.shortage.empty()) lines.push_back(placement.shortage);
  std::size_t left_out = 0;
  for (const Unit& unit : unplaced) {
    const std::string line = explain_unit(now, unit);
    for (const GuestId guest : unit.guests) placement.obstacle_of[guest] = line;
    if (lines.size() < kLinesMax) {
      lines.push_back(line);
    } else {
      ++left_out;
    }
  }
  if (left_out > 0)
    lines.push_back("and more guests like these: " + std::to_string(unplaced.size()) + " in all");
}

}  // namespace

Placement place_guests(const Cluster& cluster, const std::vector<HostId>& hosts,
                       const PlacementOptions& options) {
  Departure departure = departing(cluster, hosts);
  std::uint64_t leaving_bytes = 0;
  for (const Unit& unit : departure.units) {
    for (const GuestId guest : unit.guests) {
      leaving_bytes += cluster.guests[guest].memory_bytes +
                       cluster.hosts[cluster.guests[guest].host].guest_overhead_bytes;
    }
  }
  std::unique_ptr<Attempt> best;
  std::vector<Unit> unplaced;  // by the best one
  for (std::uint32_t attempts = 0;
       attempts < options.attempts_max && (best == nullptr || !unplaced.empty()); ++attempts) {
    std::stable_sort(
        departure.units.begin(), departure.units.end(), [](const Unit& a, const Unit& b) {
          return std::tuple(b.failures, b.memory_bytes) < std::tuple(a.failures, a.memory_bytes);
        });
    auto attempt = std::make_unique<Attempt>(
        cluster, options, attempts % 2 == 0 ? Attempt::Packing::kSpread : Attempt::Packing::kTight);
    std::vector<Unit> without_place;
    for (Unit& unit : departure.units) {
      if (attempt->place(unit)) continue;
      ++unit.failures;
      without_place.push_back(unit);
    }
    if (best != nullptr && without_place.size() >= unplaced.size()) continue;
    best = std::move(attempt);
    unplaced = std::move(without_place);
  }
  Placement placement;
  if (best == nullptr) return placement;
  for (const auto& [guest, why] : departure.bound) {
    placement.unplaced.push_back(guest);
    placement.obstacles.push_back(why);
  }
  placement.obstacle_of = std::move(departure.bound);
  for (const Unit& unit : unplaced)
    placement.unplaced.insert(placement.unplaced.end(), unit.guests.begin(), unit.guests.end());
  if (!unplaced.empty()) explain(*best, unplaced, leaving_bytes, placement);
  placement.jobs = std::move(best->jobs());
  return placement;
}

}  // namespace sluice::planner
