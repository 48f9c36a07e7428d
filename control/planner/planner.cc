#include "control/planner/planner.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "control/planner/detour.h"
#include "control/planner/explain.h"
#include "control/planner/occupancy.h"
#include "control/planner/placement.h"

namespace sluice::planner {
namespace {

// Enough to see whether some order gets all jobs through.
constexpr std::uint32_t kTrialSchedules = 30;

std::vector<bool> closed_hosts(const Cluster& cluster, const PlanOptions& options) {
  std::vector<bool> closed = options.closed;
  closed.resize(cluster.hosts.size(), false);
  return closed;
}

// Those tied together that go the same way are one convoy. Links are shared as far as they go.
std::vector<Job> jobs_under_way(const Cluster& cluster, const PlanOptions& options) {
  const std::vector<std::uint32_t> component = components(cluster);
  std::map<std::tuple<std::uint32_t, HostId, HostId, bool>, std::vector<Job::Passenger>> convoys;
  for (const UnderWay& move : options.under_way) {
    const HostId to = cluster.guests[move.guest].host;
    convoys[{component[move.guest], move.from, to, move.on_links}].push_back({.guest = move.guest});
  }
  std::vector<std::uint64_t> free_rate;
  free_rate.reserve(cluster.links.size());
  for (const Link& link : cluster.links) free_rate.push_back(link.bytes_per_second);
  std::vector<Job> jobs;
  for (auto& [way, passengers] : convoys) {
    Job job = make_job(cluster, options.move_time, std::move(passengers), std::get<1>(way),
                       std::get<2>(way));
    if (!std::get<3>(way)) job.links.clear();
    for (const LinkId link : job.links)
      job.bytes_per_second = std::min(job.bytes_per_second, free_rate[link]);
    for (const LinkId link : job.links) free_rate[link] -= job.bytes_per_second;
    jobs.push_back(std::move(job));
  }
  return jobs;
}

Expected<void> check_under_way(const Cluster& cluster, const std::vector<UnderWay>& moves) {
  for (const UnderWay& move : moves) {
    if (move.guest >= cluster.guests.size() || move.from >= cluster.hosts.size() ||
        move.from == cluster.guests[move.guest].host)
      return fail(ErrorKind::kInvalid, "a move under way has no guest or does not lead elsewhere");
  }
  return {};
}

void delay(std::vector<Job>& jobs, const std::vector<std::uint64_t>& not_before_ms) {
  if (not_before_ms.empty()) return;
  for (Job& job : jobs) {
    for (const Job::Passenger& passenger : job.passengers)
      job.not_before_ms = std::max(job.not_before_ms, not_before_ms[passenger.guest]);
  }
}

// Schedules the jobs, sending some by an intermediate stop if that is what it takes, and writes the
// result to `plan`.
void finish(const Cluster& cluster, std::vector<Job> jobs, const PlanOptions& options,
            std::vector<bool> closed, Plan& plan) {
  for (HostId host = 0; host < options.no_stop.size(); ++host)
    closed[host] = closed[host] || options.no_stop[host];
  const std::vector<Job> under_way = jobs_under_way(cluster, options);
  SearchOptions trial = options.search;
  trial.schedules_max = std::min(trial.schedules_max, kTrialSchedules);
  delay(jobs, options.not_before_ms);
  Schedule found = schedule_jobs(cluster, jobs, trial, under_way);
  while (!found.stuck.empty() && add_detour(cluster, options.move_time, closed, found, jobs)) {
    ++plan.stops;
    delay(jobs, options.not_before_ms);
    found = schedule_jobs(cluster, jobs, trial, under_way);
  }
  if (options.search.schedules_max > trial.schedules_max) {
    Schedule better = schedule_jobs(cluster, jobs, options.search, under_way);
    const std::uint32_t tried = found.schedules_tried + better.schedules_tried;
    if (std::pair(better.stuck.size(), better.makespan_ms) <
        std::pair(found.stuck.size(), found.makespan_ms))
      found = std::move(better);
    found.schedules_tried = tried;
  }
  if (!found.stuck.empty()) {
    plan.obstacles.push_back(explain_stuck(cluster, closed, found, jobs));
    for (const std::uint32_t job : found.stuck) {
      for (const Job::Passenger& passenger : jobs[job].passengers)
        plan.obstacle_of[passenger.guest] = plan.obstacles.back();
    }
  }
  plan.moves = moves_of(jobs, found);
  plan.makespan_ms = found.makespan_ms;
  plan.schedules_tried = found.schedules_tried;
}

Expected<void> check_destinations(const Cluster& cluster,
                                  const std::vector<Destination>& destinations) {
  std::vector<bool> named(cluster.guests.size(), false);
  for (const Destination& destination : destinations) {
    if (destination.guest >= cluster.guests.size() || destination.to >= cluster.hosts.size())
      return fail(ErrorKind::kInvalid, "a move names a guest or a host that does not exist");
    const Guest& guest = cluster.guests[destination.guest];
    if (named[destination.guest]) {
      return fail(ErrorKind::kInvalid,
                  "guest " + guest.name + " has two destinations; give it one");
    }
    if (guest.host == destination.to) {
      return fail(ErrorKind::kInvalid,
                  "guest " + guest.name + " is on " + cluster.hosts[guest.host].name + " already");
    }
    named[destination.guest] = true;
  }
  return {};
}

// Destinations to jobs: who may not go is named, what is tied together becomes one job. Rooms are
// judged as they are once everybody has left.
class JobMaker {
 public:
  JobMaker(const Cluster& cluster, const PlanOptions& options, const std::vector<bool>& closed)
      : cluster_(cluster),
        options_(options),
        closed_(closed),
        occupancy_(cluster),
        location_(cluster.guests.size()) {
    for (GuestId guest = 0; guest < cluster.guests.size(); ++guest)
      location_[guest] = cluster.guests[guest].host;
  }

  std::vector<Job> make(const std::vector<Destination>& destinations, Plan& plan) {
    const std::vector<std::uint32_t> component = components(cluster_);
    std::vector<std::uint32_t> moving(cluster_.guests.size(), 0);
    std::vector<std::uint32_t> members(cluster_.guests.size(), 0);
    for (const std::uint32_t number : component) ++members[number];
    using Way = std::tuple<std::uint32_t, HostId, HostId>;
    std::map<Way, std::vector<GuestId>> convoys;
    for (const Destination& destination : destinations) {
      const Guest& guest = cluster_.guests[destination.guest];
      occupancy_.leave(destination.guest, guest.host, guest.numa_node, destination.to);
      convoys[{component[destination.guest], guest.host, destination.to}].push_back(
          destination.guest);
      ++moving[component[destination.guest]];
    }
    // Largest first, so that NUMA nodes are filled well.
    std::vector<std::pair<Way, std::vector<GuestId>>> ordered(convoys.begin(), convoys.end());
    const auto memory_of = [&](const std::vector<GuestId>& guests) {
      std::uint64_t bytes = 0;
      for (const GuestId guest : guests) bytes += cluster_.guests[guest].memory_bytes;
      return bytes;
    };
    std::stable_sort(ordered.begin(), ordered.end(), [&](const auto& a, const auto& b) {
      return memory_of(a.second) > memory_of(b.second);
    });
    std::vector<Job> jobs;
    for (const auto& [way, guests] : ordered) {
      const auto& [number, from, to] = way;
      if (split(number, component, destinations, members[number] > guests.size(), from, to)) {
        stay(guests, to,
             "guest " + cluster_.guests[guests.front()].name + " cannot go to " +
                 cluster_.hosts[to].name +
                 " without the guests that its group ties it to; move them too",
             plan);
      } else {
        admit(guests, from, to, jobs, plan);
      }
    }
    return jobs;
  }

 private:
  // Would the component be left apart though it is together now?
  [[nodiscard]] bool split(std::uint32_t number, const std::vector<std::uint32_t>& component,
                           const std::vector<Destination>& destinations, bool not_all, HostId from,
                           HostId to) const {
    if (!not_all) return false;
    std::vector<HostId> end = location_;
    for (const Destination& destination : destinations) {
      if (component[destination.guest] == number) end[destination.guest] = destination.to;
    }
    bool apart_now = false;
    bool apart_then = false;
    for (GuestId guest = 0; guest < component.size(); ++guest) {
      if (component[guest] != number) continue;
      apart_now = apart_now || cluster_.guests[guest].host != from;
      apart_then = apart_then || end[guest] != to;
    }
    return apart_then && !apart_now;
  }

  void stay(const std::vector<GuestId>& guests, HostId to, const std::string& why, Plan& plan) {
    plan.obstacles.push_back(why);
    for (const GuestId guest : guests) {
      plan.obstacle_of[guest] = why;
      const Guest& facts = cluster_.guests[guest];
      occupancy_.arrive(guest, to, facts.host, facts.numa_node);
    }
  }

  void admit(const std::vector<GuestId>& guests, HostId from, HostId to, std::vector<Job>& jobs,
             Plan& plan) {
    std::vector<Job::Passenger> passengers;
    for (const GuestId guest : guests) {
      const Guest& facts = cluster_.guests[guest];
      const Situation situation{cluster_, occupancy_, location_, closed_, options_.to_open};
      std::string why;
      if (facts.policy == Policy::kNever) {
        why = "guest " + facts.name + " cannot leave " + cluster_.hosts[from].name +
              ": its policy is never; shut it down or change its policy";
      } else if (closed_[to] || !occupancy_.fits(guest, from, to)) {
        why = explain_refused(situation, guest, to);
      } else {
        const std::uint32_t node = occupancy_.numa_node_for(guest, to);
        occupancy_.arrive(guest, from, to, node);
        location_[guest] = to;
        passengers.push_back({.guest = guest, .from_node = facts.numa_node, .to_node = node});
        continue;
      }
      // Nobody of a convoy goes without the others.
      for (const Job::Passenger& boarded : passengers) {
        occupancy_.leave(boarded.guest, to, boarded.to_node, from);
        location_[boarded.guest] = from;
      }
      stay(guests, to, why, plan);
      return;
    }
    jobs.push_back(make_job(cluster_, options_.move_time, std::move(passengers), from, to));
  }

  const Cluster& cluster_;
  const PlanOptions& options_;
  const std::vector<bool>& closed_;
  Occupancy occupancy_;
  std::vector<HostId> location_;
};

}  // namespace

Expected<Plan> plan_drain(const Cluster& cluster, const std::vector<HostId>& hosts,
                          const PlanOptions& options) {
  if (auto valid = validate(cluster); !valid) return tl::unexpected(valid.error());
  if (auto valid = check_under_way(cluster, options.under_way); !valid)
    return tl::unexpected(valid.error());
  PlacementOptions placement_options{.move_time = options.move_time,
                                     .closed = closed_hosts(cluster, options),
                                     .rank_of_host = options.rank_of_host,
                                     .to_open = options.to_open};
  for (const HostId host : hosts) {
    if (host >= cluster.hosts.size())
      return fail(ErrorKind::kInvalid, "a host to empty does not exist");
    placement_options.closed[host] = true;
  }
  Placement placement = place_guests(cluster, hosts, placement_options);
  Plan plan;
  plan.bound = drain_bound(cluster, hosts, options.move_time);
  plan.obstacles = std::move(placement.obstacles);
  plan.obstacle_of = std::move(placement.obstacle_of);
  plan.shortage = std::move(placement.shortage);
  finish(cluster, std::move(placement.jobs), options, placement_options.closed, plan);
  return plan;
}

Expected<Plan> plan_moves(const Cluster& cluster, const std::vector<Destination>& destinations,
                          const PlanOptions& options) {
  if (auto valid = validate(cluster); !valid) return tl::unexpected(valid.error());
  if (auto valid = check_under_way(cluster, options.under_way); !valid)
    return tl::unexpected(valid.error());
  if (auto valid = check_destinations(cluster, destinations); !valid)
    return tl::unexpected(valid.error());
  const std::vector<bool> closed = closed_hosts(cluster, options);
  Plan plan;
  std::vector<Job> jobs = JobMaker(cluster, options, closed).make(destinations, plan);
  plan.bound = lower_bound(cluster, jobs);
  finish(cluster, std::move(jobs), options, closed, plan);
  return plan;
}

Bound drain_bound(const Cluster& cluster, const std::vector<HostId>& hosts,
                  const MoveTime& move_time) {
  std::vector<bool> leaving(cluster.hosts.size(), false);
  for (const HostId host : hosts) leaving[host] = true;
  double into_rest = 0;
  for (HostId host = 0; host < cluster.hosts.size(); ++host) {
    if (!leaving[host] && !cluster.hosts[host].maintenance)
      into_rest += static_cast<double>(cluster.links[cluster.hosts[host].receive].bytes_per_second);
  }
  std::vector<double> load_ms(cluster.hosts.size(), 0.0);
  double bytes = 0;
  Bound bound;
  for (const Guest& guest : cluster.guests) {
    if (!leaving[guest.host] || guest.policy == Policy::kNever) continue;
    const std::uint64_t link_rate =
        cluster.links[cluster.hosts[guest.host].transmit].bytes_per_second;
    const std::uint64_t session = cluster.session_bytes_per_second;
    const std::uint64_t rate = session > 0 ? std::min(session, link_rate) : link_rate;
    const std::uint64_t duration_ms = move_time(guest, rate);
    if (duration_ms > bound.ms) bound = {duration_ms, "the move of " + guest.name};
    if (guest.policy == Policy::kShutdown) continue;
    // What else a migration takes it may take at a lower rate, which leaves the link to others.
    load_ms[guest.host] +=
        static_cast<double>(guest.populated_bytes) * 1000.0 / static_cast<double>(link_rate);
    bytes += static_cast<double>(guest.populated_bytes);
  }
  const auto consider = [&](double ms, const std::string& reason) {
    const auto whole_ms = static_cast<std::uint64_t>(std::ceil(ms - 1e-3));
    if (ms > 0 && whole_ms > bound.ms) bound = {whole_ms, reason};
  };
  for (const HostId host : hosts)
    consider(load_ms[host], "link " + cluster.links[cluster.hosts[host].transmit].name);
  if (into_rest > 0) consider(bytes * 1000.0 / into_rest, "the links into the other hosts");
  return bound;
}

}  // namespace sluice::planner
