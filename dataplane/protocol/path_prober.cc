#include "dataplane/protocol/path_prober.h"

#include <algorithm>
#include <functional>

#include "dataplane/wire/packet.h"

namespace sluice::protocol {

static_assert(kPathSizes.back() == wire::kMtuMin);
static_assert(std::is_sorted(kPathSizes.begin(), kPathSizes.end(), std::greater<>()));

void PathProber::begin(Because because, TimeNs round_ns, TimeNs now) {
  if (searching_) {
    return;
  }
  searching_ = true;
  first_sequence_ = next_sequence_;
  const auto* smaller =
      std::upper_bound(kPathSizes.begin(), kPathSizes.end(), mtu_,
                       [](std::size_t mtu, std::size_t size) { return size < mtu; });
  table_at_ = static_cast<std::size_t>(smaller - kPathSizes.begin());
  candidates_ = 1 + kPathSizes.size() - table_at_;
  arrived_ = candidates_;
  rounds_with_replies_ = 0;
  began_ns_ = now;
  round_ns_ = std::max(round_ns, kProbeRoundMinNs);
  begin_round(because == Because::kUnknown ? 1 : candidates_, now);
}

void PathProber::begin_round(std::size_t sizes, TimeNs now) {
  next_ = 0;
  round_end_ = sizes;
  round_ends_ns_ = now + round_ns_;
}

std::optional<PathProber::Probe> PathProber::next_probe(TimeNs now) {
  if (!searching_) {
    return std::nullopt;
  }
  if (now >= round_ends_ns_) {
    rounds_with_replies_ += arrived_ < candidates_ ? 1 : 0;
    // What is not larger than something that arrived need not be asked.
    begin_round(std::min(arrived_, candidates_), now);
  }
  // The verdict may be due: then nothing more is sent.
  if (next_ == round_end_ || rounds_with_replies_ >= kProbeRoundsMax || arrived_ == 0) {
    return std::nullopt;
  }
  asked_[next_] = {next_sequence_, now};
  return Probe{next_sequence_++, size(next_++)};
}

bool PathProber::on_reply(const wire::ProbeReplyFrame& reply, TimeNs now) {
  if (!searching_ || reply.probe < first_sequence_ || reply.probe >= next_sequence_) {
    return false;
  }
  for (std::size_t i = 0; i < candidates_; ++i) {
    if (wire::probe_body_bytes(size(i), protection_) == reply.probe_body_bytes) {
      arrived_ = std::min(arrived_, i);
      if (asked_[i].sequence == reply.probe) {
        const TimeNs round_trip_ns = std::max<TimeNs>(now - asked_[i].sent_ns, 1);
        round_trip_ns_ =
            round_trip_ns_ == 0 ? round_trip_ns : std::min(round_trip_ns_, round_trip_ns);
      }
      return true;
    }
  }
  return false;
}

std::optional<std::size_t> PathProber::verdict(TimeNs now) {
  if (!searching_) {
    return std::nullopt;
  }
  if (arrived_ == 0 || (arrived_ < candidates_ && rounds_with_replies_ >= kProbeRoundsMax)) {
    return end_search(size(arrived_), now);
  }
  if (arrived_ == candidates_ && now >= began_ns_ + kProbeSilentNs) {
    return end_search(0, now);
  }
  return std::nullopt;
}

std::size_t PathProber::end_search(std::size_t found, TimeNs now) {
  searching_ = false;
  next_search_ns_ = now + kSearchPauseNs;
  if (found != 0) {
    mtu_ = found;
  }
  return found;
}

}  // namespace sluice::protocol
