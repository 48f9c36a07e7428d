#include "dataplane/protocol/loss_detector.h"

#include <algorithm>

namespace sluice::protocol {

void RttEstimator::sample(TimeNs rtt_ns, TimeNs ack_delay_ns) {
  latest_ns_ = rtt_ns;
  if (!has_sample_) {
    has_sample_ = true;
    minimum_ns_ = rtt_ns;
    smoothed_ns_ = rtt_ns;
    variation_ns_ = rtt_ns / 2;
    return;
  }
  minimum_ns_ = std::min(minimum_ns_, rtt_ns);
  const TimeNs delay_ns = std::min(ack_delay_ns, kMaxAckDelayNs);
  const TimeNs adjusted_ns = rtt_ns >= minimum_ns_ + delay_ns ? rtt_ns - delay_ns : rtt_ns;
  const TimeNs deviation_ns =
      adjusted_ns > smoothed_ns_ ? adjusted_ns - smoothed_ns_ : smoothed_ns_ - adjusted_ns;
  variation_ns_ = (3 * variation_ns_ + deviation_ns) / 4;
  smoothed_ns_ = (7 * smoothed_ns_ + adjusted_ns) / 8;
}

TimeNs RttEstimator::loss_delay_ns() const {
  return std::max(std::max(latest_ns_, smoothed_ns_) * 9 / 8, kGranularityNs);
}

TimeNs RttEstimator::probe_timeout_ns(std::uint32_t backoff) const {
  const TimeNs timeout_ns =
      smoothed_ns_ + std::max(4 * variation_ns_, kGranularityNs) + kMaxAckDelayNs;
  return std::min(timeout_ns << backoff, kProbeTimeoutMaxNs);
}

}  // namespace sluice::protocol
