// CLOCK_MONOTONIC, the clock of every timestamp and deadline of the agent.
#pragma once

#include <ctime>

#include "dataplane/base/units.h"

namespace sluice::agent {

[[nodiscard]] inline TimeNs monotonic_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<TimeNs>(now.tv_sec) * kSecondNs + static_cast<TimeNs>(now.tv_nsec);
}

}  // namespace sluice::agent
