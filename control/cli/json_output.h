// The documents that --json prints. Field names are a contract: other tools depend on them. Pure;
// any thread.
#pragma once

#include <nlohmann/json.hpp>

#include "control/proto/sluice.pb.h"

namespace sluice::cli {

using Json = nlohmann::ordered_json;

[[nodiscard]] Json to_json(const v1::HostInfo& host);
[[nodiscard]] Json to_json(const v1::GuestInfo& guest);
// One line of `migrate --watch`: {"event": "plan" or "progress", ...}.
[[nodiscard]] Json to_json(const v1::MigratePlan& plan);
[[nodiscard]] Json to_json(const v1::MigrateProgress& progress);
// The final document of `migrate`; with "error" if the status is not "completed".
[[nodiscard]] Json to_json(const v1::MigrateSummary& summary);
[[nodiscard]] Json to_json(const v1::VerifyGuestResult& result);

}  // namespace sluice::cli
