#include "dataplane/congestion/swift.h"

#include <algorithm>
#include <cmath>

namespace sluice::congestion {
namespace {

// Swift, 3.2: alpha / sqrt(window) + beta, which is the whole range at the smallest window and
// nothing at the largest.
double flow_scaling_ns(double window) {
  constexpr auto kRange = static_cast<double>(kFlowScalingNs);
  constexpr double kAtMin = 1 / kFlowScalingRootMin;
  constexpr double kAtMax = 1 / kFlowScalingRootMax;
  const double share = (1 / std::sqrt(window) - kAtMax) / (kAtMin - kAtMax);
  return kRange * std::clamp(share, 0.0, 1.0);
}

}  // namespace

Swift::Swift(const SwiftConfig& config)
    : window_max_(std::clamp<std::uint32_t>(config.window_max_frames, 1, wire::kAckSpanMax)),
      window_(std::clamp<double>(config.window_first_frames, 1, window_max_)) {}

std::uint32_t Swift::window_frames() const {
  return std::max(static_cast<std::uint32_t>(window_), 1U);
}

void Swift::on_sent(TimeNs now) {
  if (window_ < 1) {
    const double pause_ns = static_cast<double>(smoothed_round_trip_ns_) / window_;
    next_send_ns_ = now + std::min(static_cast<TimeNs>(pause_ns), kPauseMaxNs);
  }
}

// Where the path alone takes longer, the target is a quarter of the difference above the path.
TimeNs Swift::target_ns() const {
  const TimeNs local_ns = kTargetNs + static_cast<TimeNs>(flow_scaling_ns(window_));
  const TimeNs base_ns = base_delay_ns();
  return base_ns <= local_ns ? local_ns : base_ns + (base_ns - local_ns) / 4;
}

void Swift::on_acked(const AckSample& sample, TimeNs now) {
  smoothed_round_trip_ns_ = sample.smoothed_round_trip_ns;
  round_acked_ += sample.frames;
  if (sample.round_trip_ns) {
    on_delay(sample);
  }
  end_round_if_due(now);
}

// The path is at most as long as a whole round trip, the queue at least what is left without the
// time unseen.
void Swift::on_delay(const AckSample& sample) {
  const TimeNs round_trip_ns = *sample.round_trip_ns;
  const TimeNs delay_ns = round_trip_ns - std::min(round_trip_ns, sample.unseen_ns);
  base_delay_ns_ = std::min(base_delay_ns_, round_trip_ns);
  round_delay_ns_ = std::min(round_delay_ns_, delay_ns);
  slow_start_ = slow_start_ && delay_ns < target_ns();
  // A window that is not used says nothing about the path (RFC 7661).
  if (!queue_stands_ && 2 * static_cast<double>(sample.in_flight_before) >= window_) {
    grow(sample);
  }
}

void Swift::grow(const AckSample& sample) {
  const auto acked = static_cast<double>(sample.frames);
  set_window(window_ + (slow_start_ ? acked : kAdditiveIncrease * acked / std::max(window_, 1.0)));
}

void Swift::on_lost(std::uint64_t frames, TimeNs now) {
  slow_start_ = false;
  round_lost_ += frames;
  end_round_if_due(now);
}

void Swift::end_round_if_due(TimeNs now) {
  if (round_began_ns_ != 0 &&
      now < round_began_ns_ + std::max(kRoundMinNs, smoothed_round_trip_ns_)) {
    return;
  }
  if (round_began_ns_ != 0) {
    // So small a window makes no queue: the path has become longer.
    if (window_ == kWindowMin && round_delay_ns_ != kNoDelay) {
      base_delay_ns_ = std::max(base_delay_ns_, round_delay_ns_);
    }
    const double for_delay = decrease_for_delay();
    queue_stands_ = for_delay > 0;
    set_window(window_ * (1 - std::min(std::max(for_delay, decrease_for_loss()), kDecreaseMax)));
  }
  round_began_ns_ = now;
  round_delay_ns_ = kNoDelay;
  round_acked_ = 0;
  round_lost_ = 0;
}

double Swift::decrease_for_delay() const {
  const TimeNs target = target_ns();
  if (round_delay_ns_ == kNoDelay || round_delay_ns_ <= target) {
    return 0;
  }
  return kBeta * static_cast<double>(round_delay_ns_ - target) /
         static_cast<double>(round_delay_ns_);
}

double Swift::decrease_for_loss() const {
  if (round_lost_ == 0) {
    return 0;
  }
  const double share =
      static_cast<double>(round_lost_) / static_cast<double>(round_lost_ + round_acked_);
  return std::max(kLossGain * (share - kLossTolerated), 0.0);
}

void Swift::on_probe_timeout(std::uint32_t consecutive) {
  if (consecutive < kTimeoutsBeforeReset) {
    slow_start_ = false;
    set_window(window_ * (1 - kDecreaseMax));
  } else {
    slow_start_ = true;
    set_window(std::min(window_, 1.0));
  }
}

void Swift::set_window(double frames) {
  window_ = std::clamp(frames, kWindowMin, window_max_);
  if (window_ >= 1) {
    next_send_ns_ = 0;
  }
}

}  // namespace sluice::congestion
