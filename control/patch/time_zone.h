// A time zone as the rule of POSIX's TZ variable, which is also the last line of a file of
// /usr/share/zoneinfo: "CET-1CEST,M3.5.0,M10.5.0/3". Pure: what a run's window means does not
// change with the machine that a controller runs on. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::patch {

// Milliseconds since the Unix epoch, or of a simulator's clock.
using TimeMs = std::int64_t;

class TimeZone {
 public:
  // UTC.
  TimeZone() = default;

  // Nothing for what is no such rule; of the days of change it knows the form M alone, as the tz
  // database uses it.
  [[nodiscard]] static std::optional<TimeZone> parse(std::string_view rule);

  // What clocks show there, east of UTC.
  [[nodiscard]] std::int64_t offset_ms(TimeMs at_ms) const;

 private:
  // On the `week`th (5: the last) `weekday` (0: Sunday) of a month, at a time of that day's clock,
  // which may be a day before or after.
  struct Change {
    std::uint32_t month = 1;
    std::uint32_t week = 1;
    std::uint32_t weekday = 0;
    std::int64_t time_ms = 0;
  };
  class Reader;
  static std::int64_t local_ms(std::int64_t year, const Change& change);

  std::int64_t offset_ms_ = 0;
  bool has_summer_ = false;
  std::int64_t summer_offset_ms_ = 0;
  Change to_summer_;
  Change from_summer_;
};

}  // namespace sluice::patch
