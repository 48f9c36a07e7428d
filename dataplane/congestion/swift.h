// How many frames a flow may have in flight, after Kumar et al., "Swift: Delay is Simple and
// Effective for Congestion Control in the Datacenter", SIGCOMM 2020. Pure: time is passed in.
//
// The window grows by a frame per round trip while frames come back within a target delay, and
// shrinks by how far they exceed it. What differs from the paper, because our clocks are those of
// worker threads that share their cores with others, not those of a NIC:
//
// - A decrease asks for a delay that stood for a whole round: the smallest sample of a round trip,
//   and of kRoundMinNs at least, exceeds the target. A single late thread does not.
// - Losses count as congestion only beyond a share of the round's frames, and the more of them the
//   deeper the decrease (as in BBRv2, which has the same share); a damaged cable costs its own
//   frames then, and not the rate.
// - The path's own delay is measured. Up to the target of a short path nothing is added for it: a
//   flow that begins where others already queue would take their queue for the path and never give
//   way.
// - All growth stops for a round after a decrease. Growth up to the target and decreases beyond it
//   would else leave room between them in which shares stay as unequal as they are.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include "dataplane/base/units.h"
#include "dataplane/wire/frame.h"

namespace sluice::congestion {

// Base target of one hop: 50 microseconds of a switch, and what the threads of two hosts need to
// pass frames on in bursts of 16 and back off between polls.
inline constexpr TimeNs kTargetNs = 500 * kMicrosecondNs;
// Flow scaling: many flows with small windows find each other's frames queued. Up to how much is
// granted, and for windows between which bounds: the square roots of 0.1 and 1,024 frames.
inline constexpr TimeNs kFlowScalingNs = 4 * kTargetNs;
inline constexpr double kFlowScalingRootMin = 0.316227766;
inline constexpr double kFlowScalingRootMax = 32;

inline constexpr double kAdditiveIncrease = 1;  // frames per round trip
inline constexpr double kBeta = 0.8;            // of a delay's excess, in a decrease
inline constexpr double kDecreaseMax = 0.5;     // of the window, once per round
inline constexpr TimeNs kRoundMinNs = kMillisecondNs;
// Losses of a round's frames that change nothing, and the decrease per share beyond them.
inline constexpr double kLossTolerated = 0.02;
inline constexpr double kLossGain = 5;
// Probe timeouts in a row after which the path counts as gone and everything begins anew.
inline constexpr std::uint32_t kTimeoutsBeforeReset = 3;

// Below one frame, pacing spreads frames over several round trips.
inline constexpr double kWindowMin = 1.0 / 16;
inline constexpr TimeNs kPauseMaxNs = 100 * kMillisecondNs;

struct SwiftConfig {
  std::uint32_t window_first_frames = 16;
  std::uint32_t window_max_frames = wire::kAckSpanMax;
};

// What an ack says.
struct AckSample {
  std::uint64_t frames = 0;            // newly acknowledged
  std::uint64_t in_flight_before = 0;  // frames, these included
  // Of the newest frame, if this ack is the first of it: its round trip, and for how much of that
  // it or its ack may have lain unseen because a thread was late.
  std::optional<TimeNs> round_trip_ns;
  TimeNs unseen_ns = 0;
  TimeNs smoothed_round_trip_ns = 0;
};

// One per flow; called by the flow's worker only.
class Swift {
 public:
  explicit Swift(const SwiftConfig& config);

  // Frames that may be in flight, 1..window_max_frames.
  [[nodiscard]] std::uint32_t window_frames() const;
  // When the next frame may leave: later than `now` only while the window is less than a frame.
  [[nodiscard]] TimeNs next_send_ns() const { return next_send_ns_; }

  void on_sent(TimeNs now);
  // Takes the last on_sent() back: the frame did not leave. `next_send_ns` is what next_send_ns()
  // said before.
  void undo_sent(TimeNs next_send_ns) { next_send_ns_ = next_send_ns; }

  void on_acked(const AckSample& sample, TimeNs now);
  void on_lost(std::uint64_t frames, TimeNs now);
  // The `consecutive`-th timeout without an ack in between, from 1; counting may stop at
  // kTimeoutsBeforeReset.
  void on_probe_timeout(std::uint32_t consecutive);

  // The window in frames, parts of one included; the delay that is aimed at; the path's own, which
  // is the shortest round trip seen, 0 before the first.
  [[nodiscard]] double window() const { return window_; }
  [[nodiscard]] TimeNs target_ns() const;
  [[nodiscard]] TimeNs base_delay_ns() const {
    return base_delay_ns_ == kNoDelay ? 0 : base_delay_ns_;
  }

 private:
  static constexpr TimeNs kNoDelay = std::numeric_limits<TimeNs>::max();

  void grow(const AckSample& sample);
  void end_round_if_due(TimeNs now);
  void on_delay(const AckSample& sample);
  [[nodiscard]] double decrease_for_delay() const;
  [[nodiscard]] double decrease_for_loss() const;
  void set_window(double frames);

  double window_max_;
  double window_;
  bool slow_start_ = true;     // doubling each round trip, until the first sign of a queue
  bool queue_stands_ = false;  // in the last round
  TimeNs base_delay_ns_ = kNoDelay;
  TimeNs smoothed_round_trip_ns_ = 0;
  TimeNs next_send_ns_ = 0;

  TimeNs round_began_ns_ = 0;  // 0: none yet
  TimeNs round_delay_ns_ = kNoDelay;
  std::uint64_t round_acked_ = 0;
  std::uint64_t round_lost_ = 0;
};

}  // namespace sluice::congestion
