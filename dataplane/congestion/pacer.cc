#include "dataplane/congestion/pacer.h"

#include <algorithm>

namespace sluice::congestion {

void Pacer::on_sent(std::uint64_t bytes, std::uint64_t bits_per_second, TimeNs now) {
  if (bits_per_second == 0) {
    return;
  }
  // What could have been sent longer ago than a burst is forfeited.
  const TimeNs earliest_ns = now > kPacerBurstNs ? now - kPacerBurstNs : 0;
  // The remainder is carried: at 100 Gb/s a small frame takes 5 ns, and rounding would be percents.
  const std::uint64_t scaled = bytes * 8 * kSecondNs + remainder_;
  next_send_ns_ = std::max(next_send_ns_, earliest_ns) + scaled / bits_per_second;
  remainder_ = scaled % bits_per_second;
}

}  // namespace sluice::congestion
