// guest::Description as JSON, the form in which a source describes its guest to a destination.
#pragma once

#include <string>
#include <string_view>

#include "drivers/guest/guest.h"

namespace sluice::model {

[[nodiscard]] std::string to_json(const guest::Description& description);
// Nothing in `text` is trusted: kInvalid says what is missing or out of range.
[[nodiscard]] Expected<guest::Description> parse_description(std::string_view text);

}  // namespace sluice::model
