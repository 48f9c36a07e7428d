// A run as the command line shows it. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "control/patch/run.h"
#include "control/proto/sluice.pb.h"

namespace sluice::controller {

// `facts` says how many guests are where now and who does not answer, and what was left behind;
// `waiting` what intents under way wait for (Executor::waiting()).
[[nodiscard]] v1::RunStatus to_status(const patch::Run& run, const patch::Facts& facts,
                                      const std::map<std::uint64_t, std::string>& waiting);

// Why a host did not go well, and what was left behind there; empty: it did, and nothing was.
[[nodiscard]] std::string remark_on(const patch::Run& run, const std::string& host,
                                    const patch::Facts& facts);

}  // namespace sluice::controller
