// The agent's configuration file, agent.toml; see docs/network.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/security/config.h"
#include "dataplane/base/expected.h"
#include "drivers/dpdk/data_plane.h"
#include "drivers/guest/guest.h"

namespace sluice::agent {

struct Config {
  std::string host;
  std::string run_dir;
  std::vector<std::string> listen;           // "unix:PATH" or "ADDRESS:PORT", never a wildcard
  std::uint64_t memory_bytes = 0;            // offered to guests; 0: a share of the machine's
  std::map<std::string, std::string> peers;  // host name -> address
  dpdk::DataPlaneConfig data_plane;
  // Of the data plane's packets. Lower effort than everything else on the network (RFC 8622): a
  // heartbeat must never wait behind a migration.
  std::uint8_t dscp = 1;
  guest::QemuPolicy qemu;  // [qemu]; see docs/security.md
  // [patching]: what a controller may ask of this host; see docs/patching.md.
  std::string state_dir = "/var/lib/sluice";  // outlives reboots
  std::string hooks_dir = "/etc/sluice/hooks";
  std::vector<std::string> reboot_command = {"/usr/bin/systemctl", "reboot"};
  std::string boot_id_file = "/proc/sys/kernel/random/boot_id";  // another one for tests alone
  // [inventory]: what controllers are told of this host and its guests; see docs/patching.md.
  std::string version_file;               // its first line is the host's package version
  std::uint32_t cpu_level = 0;            // 0: what /proc/cpuinfo says
  std::uint32_t sample_interval_s = 300;  // of guests' memory at rest; 0: never
  std::string hold_dir;                   // for tests alone: see step_holds.h; empty: never hold
  security::SecurityConfig security;
};

// The configuration in `text`. Errors read "SOURCE:LINE:COLUMN: what is wrong"; a key that is not
// known is refused.
[[nodiscard]] Expected<Config> parse_config(std::string_view text, const std::string& source);
// The same from a file; kNotFound if it cannot be read.
[[nodiscard]] Expected<Config> load_config(const std::string& path);

}  // namespace sluice::agent
