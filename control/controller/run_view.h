// A run as the command line shows it. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "control/patch/run.h"
#include "control/proto/sluice.pb.h"

namespace sluice::controller {

// `facts` says how many guests are where now and who does not answer, and what was left behind;
// `waiting` what intents under way wait for (Executor::waiting()).
[[nodiscard]] v1::RunStatus to_status(const patch::Run& run, const patch::Facts& facts,
                                      const std::map<std::uint64_t, std::string>& waiting);

// What happened, from the journal: who, what, when, every decision with its reason, the downtime of
// every guest. Markdown for people, JSON for programs.
[[nodiscard]] v1::Report to_report(const patch::Run& run, const patch::Facts& facts,
                                   const std::vector<patch::Record>& records);

}  // namespace sluice::controller
