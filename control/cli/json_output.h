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

[[nodiscard]] Json to_json(const v1::ClusterHost& host);
[[nodiscard]] Json to_json(const v1::Preview& preview);
[[nodiscard]] Json to_json(const v1::TaskStatus& task);
// The final document of `drain` and `patch run --watch`, and that of `patch status`.
[[nodiscard]] Json to_json(const v1::RunStatus& run);
// One line of `--watch`: the same with {"event": "status"}.
[[nodiscard]] Json event_json(const v1::RunStatus& run);

}  // namespace sluice::cli
