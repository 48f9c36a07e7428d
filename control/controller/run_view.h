// A run as the command line shows it. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "control/patch/run.h"
#include "control/proto/sluice.pb.h"

namespace sluice::controller {

// `facts` says how many guests are where now, and what was left behind.
[[nodiscard]] v1::RunStatus to_status(const patch::Run& run, const patch::Facts& facts);

// What happened, from the journal: who, what, when, every decision with its reason, the downtime of
// every guest. Markdown for people, JSON for programs.
[[nodiscard]] v1::Report to_report(const patch::Run& run, const patch::Facts& facts,
                                   const std::vector<patch::Record>& records);

}  // namespace sluice::controller
