// How long a migration takes: pre-copy's arithmetic, calibrated by migrations that were measured.
// Pure; one thread at a time changes it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "control/planner/model.h"

namespace sluice::planner {

struct DurationOptions {
  std::uint64_t downtime_limit_ms = 50;
  std::uint32_t iterations_max = 10;
  std::uint64_t restart_ms = 60'000;  // Policy::kShutdown: down here, up there
};

// The expected duration and the range that nine of ten measurements fell into; before there are
// enough of them, a wide guess.
struct DurationEstimate {
  std::uint64_t ms = 0;
  std::uint64_t low_ms = 0;
  std::uint64_t high_ms = 0;
};

// duration = fixed cost + a × (populated memory ÷ rate) + b × (memory dirtied meanwhile ÷ rate).
// The three factors start as 0, 1, 1 and are refined by recursive least squares on the relative
// error (Haykin, Adaptive Filter Theory, ch. 10).
class DurationModel {
 public:
  explicit DurationModel(const DurationOptions& options = {});

  // `bytes_per_second` > 0 unless the guest is shut down to be moved. Never below what the rate
  // allows, at least 1 ms.
  [[nodiscard]] DurationEstimate estimate(const Guest& guest, std::uint64_t bytes_per_second) const;

  // A migration like that took `measured_ms` > 0. Restarts (Policy::kShutdown) teach nothing and
  // are ignored.
  void refine(const Guest& guest, std::uint64_t bytes_per_second, std::uint64_t measured_ms);

  // Fixed cost in seconds, factor of the first copy, factor of what is copied again.
  [[nodiscard]] const std::array<double, 3>& factors() const { return factors_; }

 private:
  using Features = std::array<double, 3>;
  [[nodiscard]] Features features(const Guest& guest, double bytes_per_second) const;

  DurationOptions options_;
  Features factors_ = {0.0, 1.0, 1.0};
  std::array<Features, 3> covariance_;
  std::vector<double> ratios_;  // measured ÷ predicted before it was learnt from, the latest ones
  std::size_t next_ratio_ = 0;
  double low_ =
      0.9;  // the range, relative to the estimate; as guessed before anything was measured
  double high_ = 1.5;
};

}  // namespace sluice::planner
