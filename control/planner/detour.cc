#include "control/planner/detour.h"

#include <algorithm>

#include "control/planner/occupancy.h"

namespace sluice::planner {
namespace {

std::uint64_t memory_of(const Cluster& cluster, const Job& job) {
  std::uint64_t bytes = 0;
  for (const Job::Passenger& passenger : job.passengers)
    bytes += cluster.guests[passenger.guest].memory_bytes;
  return bytes;
}

// Who is where once everybody who is not stuck has arrived.
Occupancy occupancy_at_the_end(const Cluster& cluster, const Schedule& schedule,
                               const std::vector<Job>& jobs) {
  Occupancy occupancy(cluster);
  std::vector<bool> stuck(jobs.size(), false);
  for (const std::uint32_t job : schedule.stuck) stuck[job] = true;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (stuck[i]) continue;
    for (const Job::Passenger& passenger : jobs[i].passengers) {
      occupancy.arrive(passenger.guest, jobs[i].from, jobs[i].to, passenger.to_node);
      occupancy.leave(passenger.guest, jobs[i].from, passenger.from_node, jobs[i].to);
    }
  }
  return occupancy;
}

// Takes room for the job's passengers at `stop`, or nothing at all if they do not all fit.
bool board(const Cluster& cluster, Occupancy& occupancy, const Job& job, HostId stop,
           std::vector<Job::Passenger>& boarded) {
  boarded.clear();
  for (Job::Passenger passenger : job.passengers) {
    const Guest& guest = cluster.guests[passenger.guest];
    if (!occupancy.fits(passenger.guest, job.from, stop) ||
        !Occupancy::eligible(cluster, guest, stop, job.to)) {
      for (const Job::Passenger& back : boarded)
        occupancy.leave(back.guest, stop, back.to_node, job.from);
      return false;
    }
    passenger.to_node = occupancy.numa_node_for(passenger.guest, stop);
    occupancy.arrive(passenger.guest, job.from, stop, passenger.to_node);
    boarded.push_back(passenger);
  }
  for (const Job::Passenger& back : boarded)
    occupancy.leave(back.guest, stop, back.to_node, job.from);
  return true;
}

// A job that goes straight to its destination and is no leg of another one's way.
bool direct(const std::vector<Job>& jobs, std::uint32_t job) {
  return jobs[job].after == kNone && std::none_of(jobs.begin(), jobs.end(), [&](const Job& other) {
           return other.after == job;
         });
}

// The stuck jobs that may be split, those whose room another one waits for first, small ones first.
std::vector<std::uint32_t> candidates(const Cluster& cluster, const Schedule& schedule,
                                      const std::vector<Job>& jobs) {
  std::vector<std::uint32_t> found;
  for (const std::uint32_t job : schedule.stuck) {
    if (direct(jobs, job)) found.push_back(job);
  }
  const auto awaited = [&](std::uint32_t job) {
    return std::any_of(schedule.stuck.begin(), schedule.stuck.end(),
                       [&](std::uint32_t other) { return jobs[other].to == jobs[job].from; });
  };
  std::stable_sort(found.begin(), found.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(!awaited(a), memory_of(cluster, jobs[a])) <
           std::pair(!awaited(b), memory_of(cluster, jobs[b]));
  });
  return found;
}

// What stuck jobs will still need on each host: a stop should not take it from them.
std::vector<std::int64_t> claimed_bytes(const Cluster& cluster, const Schedule& schedule,
                                        const std::vector<Job>& jobs) {
  std::vector<std::int64_t> claimed(cluster.hosts.size(), 0);
  for (const std::uint32_t job : schedule.stuck)
    claimed[jobs[job].to] += static_cast<std::int64_t>(memory_of(cluster, jobs[job]));
  return claimed;
}

}  // namespace

bool add_detour(const Cluster& cluster, const MoveTime& move_time, const std::vector<bool>& closed,
                const Schedule& schedule, std::vector<Job>& jobs) {
  Occupancy occupancy = occupancy_at_the_end(cluster, schedule, jobs);
  const auto claimed = claimed_bytes(cluster, schedule, jobs);
  for (const std::uint32_t index : candidates(cluster, schedule, jobs)) {
    const Job job = jobs[index];
    HostId best = kNone;
    std::vector<Job::Passenger> first_leg;
    std::vector<Job::Passenger> boarded;
    for (HostId stop = 0; stop < cluster.hosts.size(); ++stop) {
      if (closed[stop] || stop == job.from || stop == job.to) continue;
      if (!board(cluster, occupancy, job, stop, boarded)) continue;
      const auto spare = [&](HostId host) {
        return occupancy.free_memory_bytes(host) - claimed[host];
      };
      if (best != kNone && spare(stop) <= spare(best)) continue;
      best = stop;
      first_leg = boarded;
    }
    if (best == kNone) continue;
    std::vector<Job::Passenger> second_leg = job.passengers;
    for (std::size_t i = 0; i < second_leg.size(); ++i)
      second_leg[i].from_node = first_leg[i].to_node;
    jobs[index] = make_job(cluster, move_time, std::move(first_leg), job.from, best);
    jobs.push_back(make_job(cluster, move_time, std::move(second_leg), best, job.to));
    jobs.back().after = index;
    return true;
  }
  return false;
}

std::string explain_stuck(const Cluster& cluster, const std::vector<bool>& closed,
                          const Schedule& schedule, const std::vector<Job>& jobs) {
  constexpr std::size_t kNamed = 6;
  const Occupancy occupancy = occupancy_at_the_end(cluster, schedule, jobs);
  std::string text;
  for (std::size_t i = 0; i < std::min(schedule.stuck.size(), kNamed); ++i) {
    const Job& job = jobs[schedule.stuck[i]];
    text += (i == 0 ? "guest " : ", ") + cluster.guests[job.passengers.front().guest].name + " (" +
            cluster.hosts[job.from].name + " to " + cluster.hosts[job.to].name + ")";
  }
  if (schedule.stuck.size() > kNamed)
    text += " and " + std::to_string(schedule.stuck.size() - kNamed) + " others";
  text += schedule.stuck.size() > 1 ? " wait for each other's room" : " waits for room";
  // The least that would let the easiest one through.
  std::uint64_t least_bytes = std::numeric_limits<std::uint64_t>::max();
  HostId where = kNone;
  for (const std::uint32_t index : candidates(cluster, schedule, jobs)) {
    const Job& job = jobs[index];
    for (HostId host = 0; host < cluster.hosts.size(); ++host) {
      const Guest& guest = cluster.guests[job.passengers.front().guest];
      if (closed[host] || host == job.from || !Occupancy::eligible(cluster, guest, job.from, host))
        continue;
      const std::int64_t lacking =
          static_cast<std::int64_t>(memory_of(cluster, job) +
                                    cluster.hosts[host].guest_overhead_bytes *
                                        job.passengers.size()) -
          occupancy.free_memory_bytes(host);
      if (lacking <= 0 || static_cast<std::uint64_t>(lacking) >= least_bytes) continue;
      least_bytes = static_cast<std::uint64_t>(lacking);
      where = host;
    }
  }
  text += ", and no host has room for a stop in between";
  if (where == kNone) return text + "; move one of them elsewhere first";
  return text + "; " + memory_text(least_bytes) + " more on " + cluster.hosts[where].name +
         " would free them";
}

}  // namespace sluice::planner
