// The guests that an earlier agent has left on this host: what each was in the middle of, and what
// follows from it.
#pragma once

#include <memory>
#include <string>

#include "control/agent/context.h"
#include "control/agent/retries.h"
#include "control/agent/settler.h"

namespace sluice::agent {

// One that does not answer may run all the same: it stays registered as silent, and what follows
// for it follows when it answers or has gone.
class Survivors {
 public:
  // Finds them. `agent`, what it names and `settler` outlive it. Throws if it cannot look.
  Survivors(AgentContext& agent, Settler& settler);

 private:
  struct Silent {
    guest::Driver* driver = nullptr;
    std::string name;
    std::string reason;  // as last logged
  };

  void find(guest::Driver& driver);
  // True once it is known what it was doing, or that it has gone.
  [[nodiscard]] bool ask_again(Silent& silent);
  void settle(GuestClaim claim);
  [[nodiscard]] Ownership ownership_of(const guest::Guest& twin) const;
  void settle_twin(GuestClaim claim);
  void settle_handed_over(GuestClaim claim);
  // What is on file about guests of which nothing is left here.
  void drop_records_of_the_gone();
  void drop_records_of(const std::string& guest);
  void conclude(const std::string& guest);
  void forget_handovers(const std::string& guest);
  void leave_to_operator(GuestClaim claim);

  AgentContext& agent_;
  Settler& settler_;
  Retries<Silent> silent_;  // last: its thread uses all of the above
};

}  // namespace sluice::agent
