#include "dataplane/congestion/rate_controller.h"

#include <algorithm>

#include "dataplane/wire/frame.h"

namespace sluice::congestion {

RateController::RateController(const RateConfig& config)
    : bits_per_second_(config.bits_per_second),
      window_frames_(std::clamp<std::uint32_t>(config.window_frames, 1, wire::kAckSpanMax)),
      burst_ns_(config.burst_ns) {}

void RateController::on_sent(std::uint64_t bytes, TimeNs now) {
  if (bits_per_second_ == 0) {
    return;
  }
  // What could have been sent longer ago than a burst is forfeited.
  const TimeNs earliest_ns = now > burst_ns_ ? now - burst_ns_ : 0;
  // The remainder is carried: at 100 Gb/s a small frame takes 5 ns, and rounding would be percents.
  const std::uint64_t scaled = bytes * 8 * kSecondNs + remainder_;
  next_send_ns_ = std::max(next_send_ns_, earliest_ns) + scaled / bits_per_second_;
  remainder_ = scaled % bits_per_second_;
}

void RateController::on_acked(std::uint64_t /*frames*/, TimeNs /*rtt_ns*/, TimeNs /*now*/) {}

void RateController::on_lost(std::uint64_t /*frames*/, TimeNs /*now*/) {}

}  // namespace sluice::congestion
