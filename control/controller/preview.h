// What a plan would do, before anything is done. Pure; any thread.
#pragma once

#include <map>
#include <string>

#include "control/controller/forecast.h"
#include "control/patch/plan.h"
#include "control/patch/record.h"
#include "control/patch/run.h"
#include "control/planner/duration.h"
#include "control/planner/model.h"
#include "control/proto/sluice.pb.h"

namespace sluice::controller {

// Emptying each of the plan's hosts in turn, every one from where everything is now, as the run
// would if it began there: by the policies, marks, moves and starts that `facts` has. Of the whole
// run what forecast() says. Errors: see planner::plan_drain().
[[nodiscard]] Expected<v1::Preview> make_preview(const patch::Plan& plan,
                                                 const planner::Cluster& cluster,
                                                 const patch::Facts& facts,
                                                 const planner::DurationModel& durations,
                                                 const MeasuredPatch& measured);

// For the journal: what it says of each host's drain, and of the whole run.
[[nodiscard]] std::map<std::string, patch::Estimate> estimates_of(const v1::Preview& preview);
[[nodiscard]] patch::Estimate whole_of(const v1::Preview& preview);

}  // namespace sluice::controller
