// What an operator asks for: a patch plan file. docs/patching.md explains every key. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::patch {

// Milliseconds since the Unix epoch, or of a simulator's clock.
using TimeMs = std::int64_t;

// A command by its name in the hook directory of the controller or of a host's agent: a plan never
// carries commands of its own.
struct Hook {
  std::string name;
  bool on_controller = false;  // else on the host, by its agent
  std::uint32_t timeout_s = 600;
  // May be run again when nobody knows whether it ran. One that is not is run at most once for an
  // intent, whatever crashes.
  bool idempotent = false;

  friend bool operator==(const Hook&, const Hook&) = default;
};

// When hosts may begin. A host that has begun goes on when the window closes.
struct Window {
  std::optional<TimeMs> not_before_ms;
  std::optional<TimeMs> not_after_ms;
  std::uint8_t weekdays = 0x7f;    // bit 0: Monday
  std::uint32_t from_minute = 0;   // of the day, UTC
  std::uint32_t to_minute = 1440;  // exclusive; smaller than from_minute: over midnight

  [[nodiscard]] bool open(TimeMs now_ms) const;
  // It will never open again.
  [[nodiscard]] bool over(TimeMs now_ms) const { return not_after_ms && now_ms > *not_after_ms; }
};

// Where guests live after their host was patched.
enum class Placement : std::uint8_t {
  kHome = 1,  // each host's own guests come back
  kRolling,   // a patched host takes in those of the next hosts: most guests move once
};

struct Plan {
  std::string name;
  std::vector<std::string> hosts;  // in the order in which they begin
  // Empty the hosts and leave them cordoned: what `sluice drain` asks for.
  bool drain_only = false;
  // Hosts out of service at once; 0: as many as the cluster can do without.
  std::uint32_t parallel = 1;
  Window window;

  std::optional<Hook> silence;    // before the drain: tell the monitoring
  std::optional<Hook> before;     // on the empty host's guests' behalf, before the drain
  std::optional<Hook> patch;      // required unless drain_only
  std::optional<Hook> after;      // before the canary, on the patched host
  std::optional<Hook> rollback;   // none: what fails is quarantined
  std::optional<Hook> version;    // prints the version that the host has
  std::optional<Hook> unsilence;  // at the end, whatever happened

  bool reboot = true;
  std::uint32_t reboot_timeout_s = 900;
  std::string expected_version;  // what `version` must print after the patch
  std::string expected_kernel;   // what uname -r must say after the patch

  std::string canary_definition;  // a guest file's text; empty: no canary
  Placement placement = Placement::kHome;
  std::vector<std::uint32_t> refill_percent = {5, 25, 50, 100};
  std::uint32_t gate_s = 10;  // between two steps of the refill
  std::uint32_t soak_s = 60;
  // The host's migrations after the patch against those before, by median goodput.
  double goodput_ratio_min = 0.7;
  std::uint32_t attempts = 3;      // of one guest's migration
  std::uint32_t failures_max = 0;  // hosts that may fail before the run pauses
};

// `source` names the file in errors, which carry line and column.
[[nodiscard]] Expected<Plan> parse_plan(const std::string& toml, const std::string& source);

}  // namespace sluice::patch
