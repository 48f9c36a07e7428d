#include "control/planner/job.h"

#include <algorithm>
#include <cmath>

namespace sluice::planner {

Job make_job(const Cluster& cluster, const MoveTime& move_time,
             std::vector<Job::Passenger> passengers, HostId from, HostId to) {
  Job job;
  job.from = from;
  job.to = to;
  job.passengers = std::move(passengers);
  const bool restarts = std::all_of(
      job.passengers.begin(), job.passengers.end(), [&](const Job::Passenger& passenger) {
        return cluster.guests[passenger.guest].policy == Policy::kShutdown;
      });
  if (!restarts) {
    job.links = path(cluster, from, to);
    job.bytes_per_second = std::numeric_limits<std::uint64_t>::max();
    if (cluster.session_bytes_per_second > 0)
      job.bytes_per_second = cluster.session_bytes_per_second;
    for (const LinkId link : job.links)
      job.bytes_per_second = std::min(job.bytes_per_second, cluster.links[link].bytes_per_second);
  }
  for (Job::Passenger& passenger : job.passengers) {
    passenger.duration_ms = move_time(cluster.guests[passenger.guest], job.bytes_per_second);
    job.duration_ms += passenger.duration_ms;
  }
  return job;
}

Bound lower_bound(const Cluster& cluster, const std::vector<Job>& jobs) {
  std::vector<double> load_ms(cluster.links.size(), 0.0);
  Bound bound;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const Job& job = jobs[i];
    for (const LinkId link : job.links) {
      load_ms[link] += static_cast<double>(job.duration_ms) *
                       static_cast<double>(job.bytes_per_second) /
                       static_cast<double>(cluster.links[link].bytes_per_second);
    }
    std::uint64_t way_ms = 0;
    std::size_t steps = 0;
    for (std::uint32_t at = static_cast<std::uint32_t>(i); at != kNone && steps <= jobs.size();
         at = jobs[at].after, ++steps) {
      way_ms += jobs[at].duration_ms;
    }
    if (way_ms > bound.ms)
      bound = {way_ms, "the move of " + cluster.guests[job.passengers.front().guest].name};
  }
  for (LinkId link = 0; link < load_ms.size(); ++link) {
    // Rounding must not turn the bound into more than it is.
    const auto link_ms = static_cast<std::uint64_t>(std::ceil(load_ms[link] - 1e-3));
    if (load_ms[link] > 0 && link_ms > bound.ms)
      bound = {link_ms, "link " + cluster.links[link].name};
  }
  return bound;
}

}  // namespace sluice::planner
