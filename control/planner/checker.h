// Verifies a plan against every rule of the model by sweeping its events in time. Shares nothing
// with the planner but model.h, so that a mistake made there is not made twice. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/planner/model.h"

namespace sluice::planner {

struct CheckOptions {
  std::vector<HostId> emptied{};  // never a destination, and without a guest at the end
  std::vector<bool> closed{};     // by host, optional: never a destination
  std::vector<bool> no_stop{};    // by host, optional: nobody goes on from where he came to
  std::size_t violations_max = 20;
};

// What the plan breaks, one line each with the time; empty: nothing. Checked at every instant: each
// guest is where its move says and moves once at a time; links, memory (at both ends while a guest
// moves), cores, NUMA nodes, CPU levels, QEMU's series and the way back, maintenance, policies,
// groups and their budgets; and no guest arrives before its bytes can have. A rule that was broken
// before the first move counts only where the plan adds to it. `cluster` is valid.
[[nodiscard]] std::vector<std::string> check_plan(const Cluster& cluster,
                                                  const std::vector<Move>& moves,
                                                  const CheckOptions& options);

}  // namespace sluice::planner
