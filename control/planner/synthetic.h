// Clusters out of a seed, for tests and benchmarks: racks of 24 hosts behind uplinks with a bit
// less than half of their hosts' rate, three quarters full, guests of 2 and 4 GB, quiet and busy
// ones. Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "control/planner/model.h"

namespace sluice::planner {

struct SyntheticOptions {
  std::uint32_t hosts = 5000;
  std::uint32_t guests = 30000;
  std::uint64_t seed = 1;
  double emptied_share = 0.05;  // of the hosts
};

// A third of the guests are in anti-affinity groups of three, one in fifty is tied to another one
// on its host; a fifth of the hosts are of an older CPU, and so is what three in four guests run
// at.
[[nodiscard]] Cluster synthetic_cluster(const SyntheticOptions& options);

// The hosts to empty, drawn by the same seed.
[[nodiscard]] std::vector<HostId> synthetic_drain(const SyntheticOptions& options);

}  // namespace sluice::planner
