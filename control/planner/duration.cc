#include "control/planner/duration.h"

#include <algorithm>
#include <cmath>

namespace sluice::planner {
namespace {

constexpr std::size_t kRatiosMax = 1024;
constexpr std::size_t kRatiosMin = 10;

double sum_of(const std::array<double, 3>& features, const std::array<double, 3>& factors) {
  return features[0] * factors[0] + features[1] * factors[1] + features[2] * factors[2];
}

std::uint64_t to_ms(double seconds) {
  return static_cast<std::uint64_t>(std::ceil(std::max(seconds * 1000.0, 1.0)));
}

}  // namespace

DurationModel::DurationModel(const DurationOptions& options) : options_(options) {
  // How far the start values are trusted: the fixed cost is known least. In units of relative
  // error, because every measurement is divided by its own size.
  covariance_ = {Features{100.0, 0, 0}, Features{0, 0.25, 0}, Features{0, 0, 1.0}};
}

DurationModel::Features DurationModel::features(const Guest& guest, double bytes_per_second) const {
  const double first_s = static_cast<double>(guest.populated_bytes) / bytes_per_second;
  double again_s = 0;
  if (guest.policy == Policy::kLive) {
    const double working_set = static_cast<double>(guest.working_set_bytes);
    const double working_set_s = std::max(static_cast<double>(guest.working_set_ms) / 1000.0, 1e-3);
    double iteration_s = first_s;
    for (std::uint32_t i = 0; i < options_.iterations_max; ++i) {
      const double dirtied =
          std::min(static_cast<double>(guest.dirty_bytes_per_second) * iteration_s +
                       working_set * std::min(1.0, iteration_s / working_set_s),
                   static_cast<double>(guest.populated_bytes));
      const double next_s = dirtied / bytes_per_second;
      again_s += next_s;
      if (next_s * 1000.0 <= static_cast<double>(options_.downtime_limit_ms)) break;
      iteration_s = next_s;
    }
  }
  return {1.0, first_s, again_s};
}

DurationEstimate DurationModel::estimate(const Guest& guest, std::uint64_t bytes_per_second) const {
  if (guest.policy == Policy::kShutdown)
    return {options_.restart_ms, options_.restart_ms / 2, options_.restart_ms * 2};
  const Features known = features(guest, static_cast<double>(bytes_per_second));
  const double seconds = std::max(sum_of(known, factors_), known[1]);
  return {to_ms(seconds), to_ms(seconds * low_), to_ms(seconds * high_)};
}

void DurationModel::refine(const Guest& guest, std::uint64_t bytes_per_second,
                           std::uint64_t measured_ms) {
  if (guest.policy == Policy::kShutdown || measured_ms == 0) return;
  const double measured_s = static_cast<double>(measured_ms) / 1000.0;
  Features known = features(guest, static_cast<double>(bytes_per_second));
  const double predicted_s = std::max(sum_of(known, factors_), 1e-3);
  if (ratios_.size() < kRatiosMax) {
    ratios_.push_back(measured_s / predicted_s);
  } else {
    ratios_[next_ratio_++ % kRatiosMax] = measured_s / predicted_s;
  }
  if (ratios_.size() >= kRatiosMin) {
    std::vector<double> sorted = ratios_;
    std::sort(sorted.begin(), sorted.end());
    low_ = std::min(1.0, sorted[sorted.size() / 20]);
    high_ = std::max(1.0, sorted[sorted.size() - 1 - sorted.size() / 20]);
  }
  // Relative error, so that a large guest does not count for more than a small one.
  const double scale = std::max(known[1] + known[2], 1e-3);
  for (double& feature : known) feature /= scale;
  Features gain{};
  for (std::size_t i = 0; i < 3; ++i) gain[i] = sum_of(covariance_[i], known);
  // The measurement's own relative variance: about a tenth, squared.
  const double variance = 0.01 + sum_of(gain, known);
  const double error = measured_s / scale - sum_of(known, factors_);
  for (std::size_t i = 0; i < 3; ++i) factors_[i] += gain[i] / variance * error;
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) covariance_[i][j] -= gain[i] * gain[j] / variance;
  }
}

}  // namespace sluice::planner
