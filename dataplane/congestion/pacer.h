// When the next frame may leave under a rate. Pure: time is passed in.
#pragma once

#include <cstdint>

#include "dataplane/base/units.h"

namespace sluice::congestion {

// How far sending may catch up after a worker was late. A worker that shares its core is often late
// by as much; it is also what a packet of somebody else may wait behind at the most.
inline constexpr TimeNs kPacerBurstNs = kMillisecondNs;

// One per worker; the rate may differ from frame to frame. Called by the worker only.
class Pacer {
 public:
  // `now` or earlier means at once.
  [[nodiscard]] TimeNs next_send_ns() const { return next_send_ns_; }
  // A frame of `bytes` left at `now`. `bits_per_second` 0: there is no limit.
  void on_sent(std::uint64_t bytes, std::uint64_t bits_per_second, TimeNs now);

 private:
  TimeNs next_send_ns_ = 0;
  std::uint64_t remainder_ = 0;  // of a nanosecond, in units of 1 / bits_per_second
};

}  // namespace sluice::congestion
