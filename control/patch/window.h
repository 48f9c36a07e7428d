// When hosts of a run may begin. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/patch/time_zone.h"

namespace sluice::patch {

// The zone whose rule nobody needs to look up.
inline constexpr std::string_view kUtc = "UTC";

// A host that has begun goes on when the window closes.
struct Window {
  std::optional<TimeMs> not_before_ms;
  std::optional<TimeMs> not_after_ms;
  std::string zone_name{kUtc};     // of the days and the times of day
  TimeZone zone;                   // as the controller knew it when the run was created
  std::uint8_t weekdays = 0x7f;    // bit 0: Monday
  std::uint32_t from_minute = 0;   // of the day
  std::uint32_t to_minute = 1440;  // exclusive; not larger than from_minute: over midnight

  [[nodiscard]] bool open(TimeMs now_ms) const;
  // When it is open next, now or later, to the minute; nothing if it never will be.
  [[nodiscard]] std::optional<TimeMs> opens_ms(TimeMs now_ms) const;
};

// "Sat 2026-11-21 22:00 Europe/Berlin": a moment as the window's clocks show it.
[[nodiscard]] std::string time_text(const Window& window, TimeMs at_ms);

}  // namespace sluice::patch
