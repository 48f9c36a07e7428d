// The virtual time of the simulation that runs on this thread.
#pragma once

#include "dataplane/base/units.h"

namespace sluice::sim {

inline thread_local TimeNs virtual_now_ns = 0;

// An engine::Worker's clock.
[[nodiscard]] inline TimeNs read_virtual_clock() noexcept { return virtual_now_ns; }

}  // namespace sluice::sim
