#include "drivers/dpdk/flow_slots.h"

#include <cassert>
#include <string>

#include "dataplane/engine/commands.h"

namespace sluice::dpdk {

Expected<void> FlowSlots::claim(std::uint32_t worker, FlowRole role) {
  const std::lock_guard lock(mutex_);
  std::size_t& taken = taken_[{worker, role}];
  if (taken == engine::kFlowsMax) {
    return fail(ErrorKind::kNoCapacity,
                "worker " + std::to_string(worker) + " of this host's data plane serves " +
                    std::to_string(taken) +
                    " flows already; try again when a migration has ended, or set more "
                    "dataplane.queues");
  }
  ++taken;
  return {};
}

void FlowSlots::release(std::uint32_t worker, FlowRole role) {
  const std::lock_guard lock(mutex_);
  std::size_t& taken = taken_[{worker, role}];
  assert(taken > 0);
  --taken;
}

}  // namespace sluice::dpdk
