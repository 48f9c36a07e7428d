// Reads an inventory: the hosts, links, guests and groups of a cluster, for planning without asking
// agents. The format is described in docs/patching.md. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/planner/model.h"
#include "dataplane/base/expected.h"

namespace sluice::model {

// Bytes per second of "9.3Gbit" or "500Mbit". Nothing if the text is anything else or less than a
// byte per second.
[[nodiscard]] std::optional<std::uint64_t> parse_bit_rate(std::string_view text);

// The cluster that the TOML document `text` describes; `source` names it in errors. Errors:
// kInvalid ("SOURCE:LINE:COLUMN:
// ..." or what validate() says).
[[nodiscard]] Expected<planner::Cluster> parse_inventory(std::string_view text,
                                                         const std::string& source);

}  // namespace sluice::model
