// CLOCK_MONOTONIC, the clock of every timestamp and deadline outside pure code.
#pragma once

#include <ctime>

#include "dataplane/base/units.h"

namespace sluice {

[[nodiscard]] inline TimeNs monotonic_now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<TimeNs>(now.tv_sec) * kSecondNs + static_cast<TimeNs>(now.tv_nsec);
}

// What is left until `deadline_ns`, as ppoll() takes it; zero when it has passed.
[[nodiscard]] inline timespec time_until(TimeNs deadline_ns) {
  const TimeNs now = monotonic_now_ns();
  const TimeNs left = deadline_ns > now ? deadline_ns - now : 0;
  return {static_cast<time_t>(left / kSecondNs), static_cast<long>(left % kSecondNs)};
}

}  // namespace sluice
