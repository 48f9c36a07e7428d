// What a migration came to, for a person. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "control/proto/sluice.pb.h"

namespace sluice::cli {

// Several lines, each ended. `downtime_limit_us` is shown beside the downtime; 0 if it is not
// known.
[[nodiscard]] std::string render_summary(const v1::MigrateSummary& summary,
                                         std::uint64_t downtime_limit_us);

}  // namespace sluice::cli
