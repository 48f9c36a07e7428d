// RTT estimation, loss thresholds and probe timeout as in RFC 9002, without I/O or timers of its
// own.
#pragma once

#include <cstdint>

#include "dataplane/base/units.h"

namespace sluice::protocol {

inline constexpr std::uint64_t kPacketThreshold = 3;          // RFC 9002, 6.1.1
inline constexpr TimeNs kGranularityNs = 1 * kMillisecondNs;  // RFC 9002, 6.1.2
// RFC 9002 says 333 ms for the Internet; ours is one hop.
inline constexpr TimeNs kInitialRttNs = 20 * kMillisecondNs;
// A receiver whose core is shared may be this late.
inline constexpr TimeNs kMaxAckDelayNs = 5 * kMillisecondNs;
inline constexpr std::uint32_t kProbeBackoffMax = 6;  // PTO doubles at most six times
// Nor is it longer than this: a worker that stands still makes a round trip look as long as it
// stood, and what is lost after that must be tried several times before the peer counts as silent.
inline constexpr TimeNs kProbeTimeoutMaxNs = 400 * kMillisecondNs;

class RttEstimator {
 public:
  // RFC 9002, 5.3. `ack_delay_ns` is subtracted where that leaves at least the minimum.
  void sample(TimeNs rtt_ns, TimeNs ack_delay_ns);

  [[nodiscard]] TimeNs smoothed_ns() const { return smoothed_ns_; }
  [[nodiscard]] TimeNs minimum_ns() const { return minimum_ns_; }
  // The time threshold: 9/8 of the larger of smoothed and latest, at least the granularity. RFC
  // 9002, 6.1.2.
  [[nodiscard]] TimeNs loss_delay_ns() const;
  // Probe timeout: smoothed + max(4 * variation, granularity) + max_ack_delay, doubled `backoff`
  // times, up to kProbeTimeoutMaxNs. RFC 9002, 6.2.1.
  [[nodiscard]] TimeNs probe_timeout_ns(std::uint32_t backoff = 0) const;

 private:
  bool has_sample_ = false;
  TimeNs latest_ns_ = 0;
  TimeNs smoothed_ns_ = kInitialRttNs;
  TimeNs variation_ns_ = kInitialRttNs / 2;
  TimeNs minimum_ns_ = 0;
};

}  // namespace sluice::protocol
