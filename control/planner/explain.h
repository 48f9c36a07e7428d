// Says why a guest cannot be placed, and what would free it. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "control/planner/model.h"
#include "control/planner/occupancy.h"

namespace sluice::planner {

// Where everybody is or will be, and which hosts take nobody in (true by HostId).
struct Situation {
  const Cluster& cluster;
  const Occupancy& occupancy;
  const std::vector<HostId>& location;
  const std::vector<bool>& closed;
  const std::vector<std::string>& to_open;  // as in PlanOptions
};

// One line: the guest, what each host lacks (the nearest few by name, the rest in numbers) and the
// smallest change that would make room.
[[nodiscard]] std::string explain_unplaced(const Situation& situation, GuestId guest);

// The same for one destination.
[[nodiscard]] std::string explain_refused(const Situation& situation, GuestId guest, HostId to);

// One line: how much memory the open hosts lack to take what must leave the closed ones, and where
// there is some; empty if there is enough in sum.
[[nodiscard]] std::string explain_shortage(const Situation& situation, std::uint64_t leaving_bytes);

}  // namespace sluice::planner
