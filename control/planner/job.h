// What the scheduler puts in order: one guest's way, or that of a group which must not be left
// apart. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "control/planner/model.h"

namespace sluice::planner {

// The milliseconds (> 0) that a guest's move takes at a rate.
using MoveTime = std::function<std::uint64_t(const Guest& guest, std::uint64_t bytes_per_second)>;

// Guests that go the same way back to back, holding the path's links throughout. One guest, unless
// a kTogether group ties several: they arrive as a convoy, and the group is apart only while one of
// it is on its way.
struct Job {
  struct Passenger {
    GuestId guest = kNone;
    std::uint32_t from_node = kNone;
    std::uint32_t to_node = kNone;
    std::uint64_t duration_ms = 0;
  };
  std::vector<Passenger> passengers;
  HostId from = kNone;
  HostId to = kNone;
  std::vector<LinkId> links;  // empty if no memory travels
  std::uint64_t bytes_per_second = 0;
  std::uint64_t duration_ms = 0;
  std::uint64_t not_before_ms = 0;
  std::uint32_t after = kNone;  // a job that must have ended: the first leg of a way with a stop
};

// The job with links, rate and durations filled in. The rate is the most that the path and one
// session can carry: a migration that runs slower copies more pages twice, so the fewest at once
// that fill a link are best.
[[nodiscard]] Job make_job(const Cluster& cluster, const MoveTime& move_time,
                           std::vector<Job::Passenger> passengers, HostId from, HostId to);

// What no schedule of these jobs can beat, and why in words.
struct Bound {
  std::uint64_t ms = 0;
  std::string reason;
};

// The largest of: for each link, the time its jobs need at its full rate; for each way, its jobs
// one after the other.
[[nodiscard]] Bound lower_bound(const Cluster& cluster, const std::vector<Job>& jobs);

}  // namespace sluice::planner
