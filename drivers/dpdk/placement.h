// Which cores the workers run on, and on which NUMA node their memory is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::dpdk {

struct Placement {
  std::vector<unsigned> cores;       // one logical CPU a worker
  std::vector<std::string> remarks;  // one line each, for the log and `doctor`
};

// Checks the cores asked for, or chooses `workers` distinct physical ones that this process may
// use, those on `numa_node`
// (-1: any) first. Errors: kInvalid (a core that does not exist or may not be used, a wrong number
// of them), kNoCapacity.
[[nodiscard]] Expected<Placement> place_workers(const std::vector<unsigned>& asked,
                                                std::uint32_t workers, int numa_node);

// Called by a worker's own thread: pins it to `core` and prefers memory of the core's NUMA node.
void bind_this_thread(unsigned core);

}  // namespace sluice::dpdk
