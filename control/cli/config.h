// The command line's configuration: which hosts there are and where their agents listen.
//
//   [hosts]
//   h1 = "unix:/run/sluice/lab/h1/agent.sock"
//   h2 = "10.0.0.12:7331"
//
// the table [security], see control/security/config.h, and before them, for drains and patch runs,
//
//   controller = "10.0.0.2:7500"
//   controller_name = "c1"  # in its certificate; default: controller
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "control/client/agent_client.h"
#include "control/security/config.h"
#include "dataplane/base/expected.h"

namespace sluice::cli {

using client::HostAddress;

struct Config {
  std::string path;
  std::vector<HostAddress> hosts;  // by name
  std::string controller;          // its address; empty: none
  std::string controller_name = "controller";
  security::SecurityConfig security;
};

// `path` is for errors, which read "PATH:LINE:COLUMN: what is wrong". kInvalid.
[[nodiscard]] Expected<Config> parse_config(const std::string& text, const std::string& path);

// Looks a variable of the environment up; nullptr if it is not set.
using Environment = std::function<const char*(const char*)>;

// The files that are looked for when none is named, the first that exists wins:
// ~/.config/sluice/sluice.toml, /etc/sluice/sluice.toml, /run/sluice/sluice.toml (where scripts/lab
// puts its own).
[[nodiscard]] std::vector<std::string> default_config_paths(const Environment& environment);

// `named` is --config; then $SLUICE_CONFIG; then `defaults`. A file that is named but not there is
// an error, never a reason to take another. Errors: kNotFound (says where it looked), kInvalid
// ("FILE:LINE:COLUMN: ...").
[[nodiscard]] Expected<Config> load_config(const std::optional<std::string>& named,
                                           const Environment& environment,
                                           const std::vector<std::string>& defaults);

}  // namespace sluice::cli
