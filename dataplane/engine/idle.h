// How a worker backs off while a session is active but nothing is there to do. Pure: it decides,
// the caller waits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "dataplane/base/units.h"

namespace sluice::engine {

// Spins at first, so that a full link never waits for the scheduler; then offers the core to
// others; then sleeps, so that guests, their VMM and a peer's worker on the same cores get on. The
// longest sleep is short against a receive ring: at 100 Gb/s, 50 microseconds are 70 frames of
// 9,000 bytes.
class IdleBackoff {
 public:
  static constexpr std::uint32_t kSpins = 200;
  static constexpr std::uint32_t kYields = 50;
  static constexpr TimeNs kSleepFirstNs = 5 * kMicrosecondNs;
  static constexpr TimeNs kSleepMaxNs = 50 * kMicrosecondNs;

  enum class Action : std::uint8_t { kSpin = 1, kYield, kSleep };
  struct Wait {
    Action action = Action::kSpin;
    TimeNs sleep_ns = 0;  // only with kSleep
  };

  // The last step did something.
  void on_busy() {
    empty_steps_ = 0;
    sleep_ns_ = kSleepFirstNs;
  }

  // The last step did nothing: how to wait before the next.
  [[nodiscard]] Wait on_idle() {
    if (empty_steps_ < kSpins + kYields) {
      ++empty_steps_;
      return {empty_steps_ <= kSpins ? Action::kSpin : Action::kYield, 0};
    }
    const Wait wait{Action::kSleep, sleep_ns_};
    sleep_ns_ = std::min(2 * sleep_ns_, kSleepMaxNs);
    return wait;
  }

 private:
  std::uint32_t empty_steps_ = 0;
  TimeNs sleep_ns_ = kSleepFirstNs;
};

}  // namespace sluice::engine
