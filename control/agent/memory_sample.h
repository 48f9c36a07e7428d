// A guest's dirty rate and working set without tracking it: some of its pages are read now and
// again, and those that differ stand for the rest, as in QEMU's own calc-dirty-rate. The guest is
// neither stopped nor slowed, and no page comes to be by being looked at.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "control/model/dirtying.h"
#include "dataplane/base/expected.h"
#include "dataplane/base/units.h"
#include "drivers/guest/guest.h"

namespace sluice::agent {

struct MemorySample {
  model::Dirtying dirtying;
  std::uint64_t populated_bytes = 0;
};

// Waits until so much time has passed since the first call, which is made with 0, and returns how
// much really has; nothing: there is no use in going on.
using WaitUntil = std::function<std::optional<TimeNs>(TimeNs)>;

// Takes what waiting for two seconds takes, and some 20 ms of a core, whatever the guest's size. A
// page that is written with what it holds already does not count as written. `seed` chooses the
// pages. kFailed if `wait_until` says so, kNoCapacity if the memory cannot be mapped.
[[nodiscard]] Expected<MemorySample> sample_memory(const guest::Memory& memory, std::uint64_t seed,
                                                   const WaitUntil& wait_until);

}  // namespace sluice::agent
