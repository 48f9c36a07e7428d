// The steps of a handover by name, for tests that stop an agent in the middle of it: one for every
// transition of handover.h's tables ("source-prepared"), by construction, and one for every moment
// between two transitions at which something has left the agent already. Pure.
#pragma once

#include <string>
#include <vector>

#include "control/model/handover.h"

namespace sluice::model {

// Between transitions.
enum class HandoverStep : std::uint8_t {
  kSourcePrepareSent = 1,
  kSourceStateSent,         // LoadState is on its way
  kSourceBeforeRecord,      // the destination is ready; "handed over" is not recorded yet
  kSourceCommitSent,        // and no answer was read
  kDestinationReceived,     // all pages are here, nothing is proven
  kDestinationCommitHeard,  // "owned" is not recorded yet
  kDestinationRunningSaid,  // the record still says that the guest has not run
  kCount
};

[[nodiscard]] std::string step_name(SourceEvent event);
[[nodiscard]] std::string step_name(DestinationEvent event);
[[nodiscard]] std::string step_name(HandoverStep step);

// All of them.
[[nodiscard]] std::vector<std::string> handover_steps();

}  // namespace sluice::model
