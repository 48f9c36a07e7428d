// The controller's configuration file, controller.toml; see docs/patching.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/client/agent_client.h"
#include "control/patch/run.h"
#include "control/planner/model.h"
#include "control/security/config.h"
#include "dataplane/base/expected.h"

namespace sluice::controller {

// Guests that belong together or apart.
struct GroupConfig {
  planner::Group group;
  std::vector<std::string> guests;
};

struct Config {
  std::string name;
  std::vector<std::string> listen;  // as gRPC names addresses
  std::string journal = "/var/lib/sluice/journal.db";
  std::string state_dir = "/var/lib/sluice/controller";  // what its hooks have done
  std::string hooks_dir = "/etc/sluice/controller-hooks";
  std::vector<client::HostAddress> hosts;
  // Number of a host's failure domain; a host that is not named is one by itself.
  std::map<std::string, std::uint32_t> failure_domains;
  std::map<std::string, patch::Labels> labels;  // by host; those without any are left out
  security::SecurityConfig security;
  std::uint64_t reserve_bytes = 0;                     // of every host: never given to guests
  std::uint64_t guest_overhead_bytes = 0;              // what a guest costs besides its memory
  std::map<std::string, patch::GuestPolicy> policies;  // kLive for those that are not named
  std::vector<GroupConfig> groups;
};

// Errors read "SOURCE:LINE:COLUMN: what is wrong"; a key that is not known is refused.
[[nodiscard]] Expected<Config> parse_config(std::string_view text, const std::string& source);
[[nodiscard]] Expected<Config> load_config(const std::string& path);

}  // namespace sluice::controller
