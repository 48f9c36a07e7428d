// How fast a flow may send: pacing at a rate and a window of frames. Pure: time is passed in.
#pragma once

#include <cstdint>

#include "dataplane/base/units.h"

namespace sluice::congestion {

struct RateConfig {
  // Cap in bits of Ethernet frame per second for this flow; 0: only the window limits.
  std::uint64_t bits_per_second = 0;
  // Frames that may be in flight, 1..wire::kAckSpanMax.
  std::uint32_t window_frames = 256;
  // How far sending may catch up after the worker was late, in nanoseconds at the rate.
  TimeNs burst_ns = 200 * kMicrosecondNs;
};

// A fixed rate and a fixed window. One per flow; called by the flow's worker only.
class RateController {
 public:
  explicit RateController(const RateConfig& config);

  // When the next frame may leave as far as pacing is concerned: `now` or earlier means at once.
  [[nodiscard]] TimeNs next_send_ns() const { return next_send_ns_; }
  [[nodiscard]] std::uint32_t window_frames() const { return window_frames_; }

  void on_sent(std::uint64_t bytes, TimeNs now);
  // What on_sent() changes. Restoring it takes back a frame that did not leave after all.
  struct Pacing {
    TimeNs next_send_ns = 0;
    std::uint64_t remainder = 0;
  };
  [[nodiscard]] Pacing pacing() const { return {next_send_ns_, remainder_}; }
  void restore(const Pacing& pacing) {
    next_send_ns_ = pacing.next_send_ns;
    remainder_ = pacing.remainder;
  }
  // `rtt_ns` is 0 when this ack gave no sample.
  void on_acked(std::uint64_t frames, TimeNs rtt_ns, TimeNs now);
  void on_lost(std::uint64_t frames, TimeNs now);

 private:
  std::uint64_t bits_per_second_;
  std::uint32_t window_frames_;
  TimeNs burst_ns_;
  TimeNs next_send_ns_ = 0;
  std::uint64_t remainder_ = 0;  // of a nanosecond, in units of 1 / bits_per_second_
};

}  // namespace sluice::congestion
