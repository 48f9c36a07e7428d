#include "control/model/convergence.h"

#include <algorithm>

namespace sluice::model {

std::uint64_t predict_final_pages(const Iteration& iteration) {
  if (!iteration.harvested || iteration.dirty_period_ns == 0) return iteration.unsent_pages;
  // A page of memory was last scanned somewhere within this iteration, so its writes since then are
  // those of at most the iteration's duration; the guest also writes until it really stops.
  const auto window_ns = static_cast<double>(iteration.duration_ns + iteration.stop_latency_ns);
  const double rewritten = static_cast<double>(iteration.dirty_pages) * window_ns /
                           static_cast<double>(iteration.dirty_period_ns);
  return iteration.unsent_pages + static_cast<std::uint64_t>(rewritten);
}

StopDecision decide(const Iteration& iteration, const StopPolicy& policy) {
  StopDecision decision;
  const bool last = iteration.number >= policy.iterations_max;
  if (!iteration.harvested || iteration.bytes_per_second <= 0) {
    decision.reason = last ? StopReason::kMaxIterations : StopReason::kNone;
    return decision;
  }
  decision.predicted_pages = predict_final_pages(iteration);
  const double copy_s =
      static_cast<double>(decision.predicted_pages * kPageBytes) / iteration.bytes_per_second;
  decision.predicted_downtime_ns = iteration.floor_ns + iteration.scan_ns + iteration.proof_ns +
                                   static_cast<TimeNs>(copy_s * static_cast<double>(kSecondNs));
  const bool fits = decision.predicted_downtime_ns <= policy.downtime_limit_ns;
  if (iteration.dirty_pages == 0 && iteration.unsent_pages == 0) {
    decision.reason = StopReason::kNothingDirty;
  } else if (decision.predicted_pages <= kTinyRemainderPages) {
    decision.reason = StopReason::kTinyRemainder;
  } else if (fits) {
    decision.reason = StopReason::kPredictedDowntime;
  } else if (last) {
    decision.reason = StopReason::kMaxIterations;
  }
  decision.limit_exceeded = decision.reason != StopReason::kNone && !fits;
  return decision;
}

const char* to_string(StopReason reason) {
  switch (reason) {
    case StopReason::kNone:
      return "";
    case StopReason::kNothingDirty:
      return "nothing dirty";
    case StopReason::kTinyRemainder:
      return "tiny remainder";
    case StopReason::kPredictedDowntime:
      return "predicted downtime";
    case StopReason::kMaxIterations:
      return "max iterations";
    case StopReason::kQuickMode:
      return "quick mode";
  }
  return "?";
}

}  // namespace sluice::model
