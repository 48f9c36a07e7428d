// How fast a guest's memory becomes dirty, from the pages that were seen to change. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/base/units.h"

namespace sluice::model {

// So much of the memory was different after `period_ns`: a page counts once, however often it was
// written.
struct Dirtied {
  std::uint64_t bytes = 0;
  TimeNs period_ns = 0;
};

// What a period makes dirty: bytes_per_second for as long as it lasts, and all of
// working_set_bytes, once, from working_set_ms on. The planner predicts with it
// (planner::DurationModel).
struct Dirtying {
  std::uint64_t bytes_per_second = 0;
  std::uint64_t working_set_bytes = 0;
  std::uint64_t working_set_ms = 0;

  friend bool operator==(const Dirtying&, const Dirtying&) = default;
};

// From the shortest and the longest of these periods; those of no length do not count. If they are
// about as long as each other, or show no working set to speak of, all is a steady rate. Nothing
// from nothing.
[[nodiscard]] Dirtying fit_dirtying(const std::vector<Dirtied>& seen);

}  // namespace sluice::model
