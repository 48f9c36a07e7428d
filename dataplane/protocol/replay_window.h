// Which of the newest numbers were seen: the anti-replay window of RFC 4303, 3.4.3. Pure.
#pragma once

#include <cstdint>

#include "dataplane/base/units.h"

namespace sluice::protocol {

class ReplayWindow {
 public:
  // True for numbers noted before, and for those too old to tell.
  [[nodiscard]] bool seen(Sequence sequence) const {
    if (sequence > newest_) {
      return false;
    }
    const Sequence age = newest_ - sequence;
    return age >= kNumbers || (bits_ >> age & 1U) != 0;
  }
  // Of a frame that is authentic.
  void note(Sequence sequence) {
    if (sequence > newest_) {
      const Sequence step = sequence - newest_;
      bits_ = (step >= kNumbers ? 0 : bits_ << step) | 1U;
      newest_ = sequence;
    } else if (newest_ - sequence < kNumbers) {
      bits_ |= 1ULL << (newest_ - sequence);
    }
  }

 private:
  static constexpr Sequence kNumbers = 64;

  Sequence newest_ = 0;
  std::uint64_t bits_ = 1;  // bit i: newest_ - i was seen. 0 is no number
};

}  // namespace sluice::protocol
