// The command line's syntax: reads arguments and runs what they ask for.
#pragma once

#include <string>
#include <vector>

#include "control/cli/config.h"
#include "control/cli/terminal.h"

namespace sluice::cli {

// Runs one command line, without the program's name, and returns its exit status. `terminal.json`
// is set from the arguments. Nothing but the network and the files that are named is touched
// outside of the parameters.
[[nodiscard]] int run(const std::vector<std::string>& arguments, Terminal terminal,
                      const Environment& environment,
                      const std::vector<std::string>& default_configs);

}  // namespace sluice::cli
