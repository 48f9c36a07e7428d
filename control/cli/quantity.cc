#include "control/cli/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <system_error>
#include <utility>

namespace sluice::cli {

std::optional<std::uint64_t> parse_duration_us(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 4> kUnits = {
      {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}}};
  constexpr double kMostUs = 86'400e6;

  double number = 0;
  const auto [end, status] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (status != std::errc{} || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  for (const auto& [unit, factor] : kUnits) {
    if (text != unit) continue;
    // Written so that "inf" and "nan", which from_chars reads, are refused.
    if (!(number * factor <= kMostUs)) return std::nullopt;
    return static_cast<std::uint64_t>(std::llround(number * factor));
  }
  return std::nullopt;
}

std::optional<std::chrono::seconds> parse_lifetime(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::int64_t>, 4> kUnits = {
      {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86'400}}};
  constexpr std::int64_t kMostSeconds = 100LL * 365 * 86'400;

  std::int64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc{} || number <= 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  for (const auto& [unit, seconds] : kUnits) {
    if (text == unit && number <= kMostSeconds / seconds)
      return std::chrono::seconds(number * seconds);
  }
  return std::nullopt;
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t from_end = 3; from_end < digits.size(); from_end += 4)
    digits.insert(digits.size() - from_end, 1, ',');
  return digits;
}

std::string format_ms(std::uint64_t microseconds) {
  return fmt::format("{:.1f} ms", static_cast<double>(microseconds) / 1e3);
}

std::string format_span(std::uint64_t milliseconds) {
  if (milliseconds < 59'950)
    return fmt::format("{:.1f} s", static_cast<double>(milliseconds) / 1e3);
  const std::uint64_t seconds = (milliseconds + 500) / 1000;
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  const std::uint64_t minutes = (seconds + 30) / 60;
  return fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

std::string format_counted(std::uint64_t count, std::string_view singular,
                           std::string_view plural) {
  return fmt::format("{} {}", format_count(count), count == 1 ? singular : plural);
}

}  // namespace sluice::cli
