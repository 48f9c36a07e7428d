// Time zones as this machine's tz database has them. Any thread.
#pragma once

#include <string>

#include "dataplane/base/expected.h"

namespace sluice::controller {

inline constexpr const char* kZoneDirectory = "/usr/share/zoneinfo";

// The rule (control/patch/time_zone.h) of a zone such as "Europe/Berlin", from now on. kNotFound
// for one that is not there, kInvalid if its future is no such rule.
[[nodiscard]] Expected<std::string> read_zone_rule(const std::string& name,
                                                   const std::string& directory = kZoneDirectory);

}  // namespace sluice::controller
