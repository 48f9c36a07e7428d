// How long what a run has yet to move will take, refined by what was measured. Pure.
#pragma once

#include <optional>

#include "control/patch/run.h"
#include "control/planner/duration.h"
#include "control/planner/model.h"
#include "control/proto/sluice.pb.h"

namespace sluice::controller {

// Refines `durations` by a migration that `outcome` says has gone well; ignores what was none, and
// guests and hosts that `cluster` does not have (any more).
void learn(const patch::Intent& intent, const patch::Outcome& outcome,
           const planner::Cluster& cluster, planner::DurationModel& durations);

// Of the migrations that `run` has yet to make if all goes well: one after the other on each host's
// link, as many hosts at once as the plan says or, if it leaves that open, as are out of service
// now. Nothing if there are none.
[[nodiscard]] std::optional<v1::RunEstimate> estimate_left(const patch::Run& run,
                                                           const patch::Facts& facts,
                                                           const planner::Cluster& cluster,
                                                           const planner::DurationModel& durations);

}  // namespace sluice::controller
