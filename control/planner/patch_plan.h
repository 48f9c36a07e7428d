// Patches a whole cluster in waves: which hosts are empty together, and who moves where in between.
// The guests of a wave go to the hosts that were patched before, so that each moves once; only
// those of the first wave, for whom no patched host is there yet, move twice. Pure; one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/planner/model.h"
#include "control/planner/planner.h"
#include "dataplane/base/expected.h"

namespace sluice::planner {

struct PatchOptions {
  PlanOptions plan;                     // of each wave; rank_of_host is set by the patch plan
  std::uint64_t patch_ms = 600'000;     // a host's time from empty to back in service
  std::uint32_t hosts_at_once_max = 0;  // in one wave; 0: as many as there is room for
  double extra_moves_share_max =
      0.1;  // second moves of guests ÷ guests, unless not even one host could be emptied
};

struct PatchWave {
  std::vector<HostId> hosts;
  std::vector<Move> moves;  // times count from the wave's start
  std::uint64_t start_ms = 0;
  std::uint64_t drain_ms = 0;  // until its last host is empty
  std::uint64_t end_ms = 0;    // its last host is back
};

struct PatchPlan {
  std::vector<PatchWave> waves;
  std::uint64_t total_ms = 0;
  Bound bound;               // of those that are not skipped
  std::uint64_t guests = 0;  // on the hosts to patch, at the outset
  std::uint64_t moves = 0;
  std::uint64_t bytes = 0;             // that travel, unique ones: each move's populated memory
  std::vector<HostId> left_empty;      // at the end, without a guest: the spare has moved there
  std::vector<HostId> skipped;         // cannot be emptied
  std::vector<std::string> obstacles;  // why, a line each

  [[nodiscard]] double moves_per_guest() const {
    return guests == 0 ? 0 : static_cast<double>(moves) / static_cast<double>(guests);
  }
};

// Waves for `hosts`. A host that cannot be emptied is skipped and named. Errors (kInvalid): see
// validate().
[[nodiscard]] Expected<PatchPlan> plan_patch(const Cluster& cluster,
                                             const std::vector<HostId>& hosts,
                                             const PatchOptions& options);

// What no patch run of these hosts can beat: only so many can be empty at once that the guests fit
// the others, so there are so many rounds of patching, and nothing is patched before a first host
// is empty.
[[nodiscard]] Bound patch_bound(const Cluster& cluster, const std::vector<HostId>& hosts,
                                const PatchOptions& options);

}  // namespace sluice::planner
