// What happened in a run, from its journal. Pure; any thread.
#pragma once

#include <vector>

#include "control/patch/run.h"
#include "control/proto/sluice.pb.h"

namespace sluice::controller {

// Who asked for what and when, every decision with its reason, the downtime of every guest, and how
// far things were from what was expected. Markdown for people, JSON for programs. `records` are all
// of `run`'s; `facts` say what was left behind.
[[nodiscard]] v1::Report make_report(const patch::Run& run, const patch::Facts& facts,
                                     const std::vector<patch::Record>& records);

}  // namespace sluice::controller
