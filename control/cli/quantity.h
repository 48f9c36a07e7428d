// Durations, sizes and rates: as people write them, and as they like to read them. Pure; any
// thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::cli {

// Microseconds of "50ms", "500us", "1.5s" or "2m": a decimal number and a unit, at most a day.
// Nothing otherwise: a number without a unit could mean any of them.
[[nodiscard]] std::optional<std::uint64_t> parse_duration_us(std::string_view text);

// "90s", "15m", "12h" or "365d": a whole number that is not zero, at most a hundred years.
[[nodiscard]] std::optional<std::chrono::seconds> parse_lifetime(std::string_view text);

[[nodiscard]] std::string format_bytes(std::uint64_t bytes);      // "4.0 GiB"
[[nodiscard]] std::string format_count(std::uint64_t count);      // "1,048,576"
[[nodiscard]] std::string format_ms(std::uint64_t microseconds);  // "12.4 ms"
[[nodiscard]] std::string format_span(
    std::uint64_t milliseconds);  // "2 h 5 min", "1 min 51 s", "3.7 s"

// "1 page", "2 pages".
[[nodiscard]] std::string format_counted(std::uint64_t count, std::string_view singular,
                                         std::string_view plural);

}  // namespace sluice::cli
