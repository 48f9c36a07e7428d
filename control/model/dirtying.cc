#include "control/model/dirtying.h"

#include <algorithm>
#include <iterator>

namespace sluice::model {
namespace {

// Periods nearer to each other than this say the same.
constexpr double kPeriodRatioMin = 1.5;
// A working set that is a smaller part of what the shortest period dirtied is noise.
constexpr double kWorkingSetShareMin = 0.1;

double seconds(const Dirtied& dirtied) { return static_cast<double>(dirtied.period_ns) / 1e9; }

Dirtying steady(const Dirtied& dirtied) {
  return {static_cast<std::uint64_t>(static_cast<double>(dirtied.bytes) / seconds(dirtied)), 0, 0};
}

}  // namespace

Dirtying fit_dirtying(const std::vector<Dirtied>& seen) {
  std::vector<Dirtied> periods;
  std::copy_if(seen.begin(), seen.end(), std::back_inserter(periods),
               [](const Dirtied& dirtied) { return dirtied.period_ns > 0; });
  if (periods.empty()) return {};
  const auto [shortest, longest] = std::minmax_element(
      periods.begin(), periods.end(),
      [](const Dirtied& a, const Dirtied& b) { return a.period_ns < b.period_ns; });
  const double short_s = seconds(*shortest);
  const double long_s = seconds(*longest);
  if (long_s < short_s * kPeriodRatioMin) return steady(*longest);
  const auto short_bytes = static_cast<double>(shortest->bytes);
  const double grown = static_cast<double>(longest->bytes) - short_bytes;
  const double rate = std::max(grown / (long_s - short_s), 0.0);
  const double working_set = short_bytes - rate * short_s;
  if (working_set <= short_bytes * kWorkingSetShareMin) return steady(*longest);
  return {static_cast<std::uint64_t>(rate), static_cast<std::uint64_t>(working_set),
          std::max<std::uint64_t>(shortest->period_ns / kMillisecondNs, 1)};
}

}  // namespace sluice::model
