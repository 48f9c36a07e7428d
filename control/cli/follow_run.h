// What the commands for drains and patch runs share.
#pragma once

#include <optional>
#include <string>

#include "control/cli/fleet.h"
#include "control/cli/terminal.h"
#include "control/client/controller_client.h"

namespace sluice::cli {

// Nothing, and says how to configure one, if there is none: status kExitUsage.
[[nodiscard]] std::optional<ControllerClient*> need_controller(Fleet& fleet,
                                                               const Terminal& terminal);

// Prints what a plan would do.
[[nodiscard]] int preview(ControllerClient& controller, const Terminal& terminal,
                          const std::string& plan_toml, const std::string& source);

// Waits until the run ends or pauses and prints what it came to; with `watch` also what happens on
// the way. Ctrl-C leaves the run alone.
[[nodiscard]] int follow_run(ControllerClient& controller, const Terminal& terminal,
                             const std::string& run, bool watch);

}  // namespace sluice::cli
