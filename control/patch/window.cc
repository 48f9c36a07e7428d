#include "control/patch/window.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <fmt/format.h>
#include <string_view>

namespace sluice::patch {
namespace {

constexpr TimeMs kMinuteMs = 60'000;
constexpr TimeMs kDayMs = 1440 * kMinuteMs;
constexpr std::array<std::string_view, 7> kWeekdays = {"Mon", "Tue", "Wed", "Thu",
                                                       "Fri", "Sat", "Sun"};

// 1 January 1970 was a Thursday.
std::uint32_t weekday_of(TimeMs local_ms) {
  return static_cast<std::uint32_t>((local_ms / kDayMs + 3) % 7);
}

}  // namespace

bool Window::open(TimeMs now_ms) const {
  if (not_before_ms && now_ms < *not_before_ms) return false;
  if (not_after_ms && now_ms > *not_after_ms) return false;
  const TimeMs local_ms = now_ms + zone.offset_ms(now_ms);
  const auto minute = static_cast<std::uint32_t>(local_ms % kDayMs / kMinuteMs);
  std::uint32_t weekday = weekday_of(local_ms);
  const bool over_midnight = to_minute <= from_minute;
  if (over_midnight && minute < to_minute) {
    weekday = (weekday + 6) % 7;  // this night began yesterday
  } else if (minute < from_minute || (!over_midnight && minute >= to_minute)) {
    return false;
  }
  return (weekdays >> weekday & 1U) != 0;
}

// What opens at all opens within a week; but a clock that is put forward may leave one opening out.
std::optional<TimeMs> Window::opens_ms(TimeMs now_ms) const {
  if (open(now_ms)) return now_ms;
  constexpr TimeMs kTwoWeeksMs = 14 * kDayMs;
  const TimeMs first_ms = std::max(now_ms, not_before_ms.value_or(now_ms));
  if (open(first_ms)) return first_ms;
  TimeMs at_ms = first_ms - first_ms % kMinuteMs + kMinuteMs;
  for (; at_ms <= first_ms + kTwoWeeksMs; at_ms += kMinuteMs) {
    if (not_after_ms && at_ms > *not_after_ms) return std::nullopt;
    if (open(at_ms)) return at_ms;
  }
  return std::nullopt;
}

std::string time_text(const Window& window, TimeMs at_ms) {
  namespace chrono = std::chrono;
  const TimeMs local_ms = at_ms + window.zone.offset_ms(at_ms);
  const chrono::year_month_day date{
      chrono::sys_days{chrono::days{static_cast<int>(local_ms / kDayMs)}}};
  const auto minute = local_ms % kDayMs / kMinuteMs;
  return fmt::format("{} {}-{:02}-{:02} {:02}:{:02} {}", kWeekdays.at(weekday_of(local_ms)),
                     static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()), minute / 60, minute % 60, window.zone_name);
}

}  // namespace sluice::patch
