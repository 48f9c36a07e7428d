#include "control/patch/time_zone.h"

#include <chrono>
#include <cstddef>

namespace sluice::patch {
namespace {

constexpr std::int64_t kSecondMs = 1000;
constexpr std::int64_t kHourMs = 3600 * kSecondMs;
constexpr std::int64_t kDayMs = 24 * kHourMs;

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }
bool is_letter(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
}

}  // namespace

// Eats a rule from its front; after the first thing that does not fit, ok() stays false.
class TimeZone::Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  [[nodiscard]] bool at(char letter) const { return !rest_.empty() && rest_.front() == letter; }
  bool take(char letter) {
    if (!at(letter)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char letter) { ok_ = take(letter) && ok_; }

  // "CET", "<+0330>"
  void name() {
    const bool quoted = take('<');
    std::size_t length = 0;
    while (length < rest_.size() && (quoted ? rest_[length] != '>' : is_letter(rest_[length])))
      ++length;
    ok_ = ok_ && length >= 3;
    rest_.remove_prefix(length);
    if (quoted) expect('>');
  }

  std::int64_t number(std::int64_t min, std::int64_t max) {
    std::int64_t value = 0;
    std::size_t digits = 0;
    for (; digits < rest_.size() && digits < 4 && is_digit(rest_[digits]); ++digits)
      value = value * 10 + (rest_[digits] - '0');
    ok_ = ok_ && digits > 0 && value >= min && value <= max;
    rest_.remove_prefix(digits);
    return value;
  }

  // "2", "-1", "3:30", "12:45:00"
  std::int64_t time_ms(std::int64_t hours_max) {
    const bool negative = take('-');
    if (!negative) take('+');
    std::int64_t value = number(0, hours_max) * kHourMs;
    if (take(':')) value += number(0, 59) * 60 * kSecondMs;
    if (take(':')) value += number(0, 59) * kSecondMs;
    return negative ? -value : value;
  }

  // ",M3.5.0/3"
  Change change() {
    Change change;
    expect(',');
    expect('M');
    change.month = static_cast<std::uint32_t>(number(1, 12));
    expect('.');
    change.week = static_cast<std::uint32_t>(number(1, 5));
    expect('.');
    change.weekday = static_cast<std::uint32_t>(number(0, 6));
    constexpr std::int64_t kHoursMax = 167;
    change.time_ms = take('/') ? time_ms(kHoursMax) : 2 * kHourMs;
    return change;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

std::optional<TimeZone> TimeZone::parse(std::string_view rule) {
  constexpr std::int64_t kOffsetHoursMax = 24;
  Reader reader(rule);
  TimeZone zone;
  reader.name();
  // POSIX counts westward.
  zone.offset_ms_ = -reader.time_ms(kOffsetHoursMax);
  if (reader.ok() && !reader.at_end()) {
    zone.has_summer_ = true;
    reader.name();
    zone.summer_offset_ms_ =
        reader.at(',') ? zone.offset_ms_ + kHourMs : -reader.time_ms(kOffsetHoursMax);
    zone.to_summer_ = reader.change();
    zone.from_summer_ = reader.change();
  }
  if (!reader.ok() || !reader.at_end()) return std::nullopt;
  return zone;
}

std::int64_t TimeZone::local_ms(std::int64_t year, const Change& change) {
  namespace chrono = std::chrono;
  const chrono::year_month month{chrono::year{static_cast<int>(year)}, chrono::month{change.month}};
  const chrono::weekday weekday{change.weekday};
  const chrono::sys_days day = change.week == 5 ? chrono::sys_days{month / weekday[chrono::last]}
                                                : chrono::sys_days{month / weekday[change.week]};
  return day.time_since_epoch().count() * kDayMs + change.time_ms;
}

std::int64_t TimeZone::offset_ms(TimeMs at_ms) const {
  if (!has_summer_) return offset_ms_;
  namespace chrono = std::chrono;
  const auto day = chrono::floor<chrono::days>(
      chrono::sys_time<chrono::milliseconds>{chrono::milliseconds{at_ms + offset_ms_}});
  const auto year = static_cast<int>(chrono::year_month_day{day}.year());
  const std::int64_t begins_ms = local_ms(year, to_summer_) - offset_ms_;
  const std::int64_t ends_ms = local_ms(year, from_summer_) - summer_offset_ms_;
  // In the south summer lasts over the new year.
  const bool summer = begins_ms < ends_ms ? at_ms >= begins_ms && at_ms < ends_ms
                                          : at_ms >= begins_ms || at_ms < ends_ms;
  return summer ? summer_offset_ms_ : offset_ms_;
}

}  // namespace sluice::patch
