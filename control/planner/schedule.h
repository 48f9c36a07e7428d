// When each job starts: list scheduling, most loaded link first, improved by a seeded local search.
// Pure; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "control/planner/job.h"
#include "control/planner/model.h"
#include "control/planner/occupancy.h"

namespace sluice::planner {

struct SearchOptions {
  std::uint64_t seed = 1;
  std::uint32_t schedules_max =
      400;  // how many are tried; the search ends early at the lower bound
  std::function<bool()> out_of_time{};  // asked between two schedules, if set
};

struct Schedule {
  std::vector<std::uint64_t> start_ms;  // by job; meaningless for those that are stuck
  std::uint64_t makespan_ms = 0;
  std::vector<std::uint32_t> stuck;  // jobs that wait for each other's room for ever
  std::uint32_t schedules_tried = 0;
};

// The best schedule found for the jobs, all of whose guests are where `cluster` says (or where
// `after` brings them). Every rule holds at every instant of it. If some are stuck, no order was
// found that gets all of them through. `under_way` have begun before, so that their guests are at
// their destinations in `cluster`: they count at both ends, in their groups and on their links
// until they end.
[[nodiscard]] Schedule schedule_jobs(const Cluster& cluster, const std::vector<Job>& jobs,
                                     const SearchOptions& options,
                                     const std::vector<Job>& under_way = {});

// The schedule as moves, in order of start. Stuck jobs are left out.
[[nodiscard]] std::vector<Move> moves_of(const std::vector<Job>& jobs, const Schedule& schedule);

}  // namespace sluice::planner
