// Twins that were committed to this host and are not known to have run.
#pragma once

#include <cstdint>

#include "control/agent/guest_registry.h"
#include "control/agent/records.h"
#include "control/agent/retries.h"

namespace sluice::agent {

// Lets each run, trying as often as it takes: until it runs, has certainly not run and will not, or
// is gone. Its outcome stays undecided until then, so that its source keeps the other copy. Any
// thread.
class OwnedTwins {
 public:
  // `outcomes` and the registry of the claims outlive it.
  explicit OwnedTwins(OutcomeRecords& outcomes);

  void take(GuestClaim twin, std::uint64_t session);

 private:
  struct Twin {
    GuestClaim claim;
    std::uint64_t session = 0;
    bool complained = false;
  };
  // True once it is known where the guest is.
  [[nodiscard]] bool let_run(Twin& twin);

  OutcomeRecords& outcomes_;
  Retries<Twin> twins_;
};

}  // namespace sluice::agent
