// Jobs that wait for each other's room: two full hosts that exchange guests. One of them goes by a
// stop in between. Pure.
#pragma once

#include <string>
#include <vector>

#include "control/planner/job.h"
#include "control/planner/model.h"
#include "control/planner/schedule.h"

namespace sluice::planner {

// Splits one of the stuck jobs into two legs by a host that has room for it, the smallest job that
// others wait for. `closed` hosts are no stops. False: no host has.
[[nodiscard]] bool add_detour(const Cluster& cluster, const MoveTime& move_time,
                              const std::vector<bool>& closed, const Schedule& schedule,
                              std::vector<Job>& jobs);

// One line: who is stuck and how much room where would let them through.
[[nodiscard]] std::string explain_stuck(const Cluster& cluster, const std::vector<bool>& closed,
                                        const Schedule& schedule, const std::vector<Job>& jobs);

}  // namespace sluice::planner
