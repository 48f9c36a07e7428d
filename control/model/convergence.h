// When to stop pre-copy: the downtime that stopping now would cost, and whether another iteration
// would help. Pure.
#pragma once

#include <cstdint>

#include "dataplane/base/units.h"

namespace sluice::model {

// The classic remainder below which another iteration costs more than it saves.
inline constexpr std::uint64_t kTinyRemainderPages = 64;

struct StopPolicy {
  TimeNs downtime_limit_ns = 50 * kMillisecondNs;
  std::uint32_t iterations_max = 10;
};

// What is known at the end of an iteration.
struct Iteration {
  std::uint32_t number = 0;  // from 1
  bool harvested =
      false;  // whether dirty pages were looked for in it; the first iteration does not
  TimeNs duration_ns = 0;
  std::uint64_t dirty_pages = 0;   // found in this iteration
  TimeNs dirty_period_ns = 0;      // in which those were written
  std::uint64_t unsent_pages = 0;  // pending, deferred and in flight now
  TimeNs scan_ns = 0;              // a scan of the whole memory
  double bytes_per_second = 0;     // of page payload, measured
  TimeNs floor_ns = 0;         // what stopping, state and resuming cost whatever the memory does
  TimeNs stop_latency_ns = 0;  // from asking the guest to stop until it does: it still writes
  TimeNs proof_ns = 0;
};

enum class StopReason : std::uint8_t {
  kNone = 0,
  kNothingDirty,
  kTinyRemainder,
  kPredictedDowntime,
  kMaxIterations,
  kQuickMode,
};

struct StopDecision {
  StopReason reason = StopReason::kNone;
  std::uint64_t predicted_pages = 0;  // of the final pass
  TimeNs predicted_downtime_ns = 0;   // 0: nothing to predict from yet
  bool limit_exceeded = false;        // stopping although the prediction is above the limit
};

// The pages expected in a final pass that starts now: what is unsent and what was written since its
// part of memory was last scanned, at the rate that was seen.
[[nodiscard]] std::uint64_t predict_final_pages(const Iteration& iteration);

[[nodiscard]] StopDecision decide(const Iteration& iteration, const StopPolicy& policy);

// As the summary shows it: "predicted downtime"; empty for kNone.
[[nodiscard]] const char* to_string(StopReason reason);

}  // namespace sluice::model
