// What an operator asks for: a patch plan file. docs/patching.md explains every key. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/patch/window.h"
#include "dataplane/base/expected.h"

namespace sluice::patch {

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

// Where guests live after their host was patched.
enum class Placement : std::uint8_t {
  kHome = 1,  // each host's own guests come back
  kRolling,   // a patched host takes in those of the next hosts: most guests move once
};

// What a controller's configuration says of a host: key and value.
using Labels = std::map<std::string, std::string>;

// Chooses hosts by their labels: of every key one of the values.
struct Selector {
  std::map<std::string, std::vector<std::string>> labels;
  std::vector<std::string> except;  // hosts to leave out
  std::string wave_by;              // hosts that have the same value of it form a wave; empty: all
};

// The downtime that a migration may have by default.
inline constexpr double kDowntimeMsMin = 50;

struct Plan {
  std::string name;
  // In the order in which they begin; empty until resolve() if the plan chooses by labels.
  std::vector<std::string> hosts;
  // How many of `hosts` belong together: a wave begins when those before are in service again or
  // have failed. Empty: all are one wave.
  std::vector<std::size_t> waves;
  std::optional<Selector> selector;
  // Empty the hosts and leave them cordoned: what `sluice drain` asks for.
  bool drain_only = false;
  // Hosts out of service at once; 0: as many as the cluster can do without.
  std::uint32_t parallel = 1;
  Window window;

  std::optional<Hook> silence;       // before the drain: tell the monitoring
  std::optional<Hook> before;        // before the drain
  std::optional<Hook> guest_before;  // for each guest of the host, before the drain
  std::optional<Hook> patch;         // required unless drain_only
  std::optional<Hook> after;         // before the canary, on the patched host
  std::optional<Hook> canary_check;  // that the canary runs, once it was started
  std::optional<Hook> guest_after;   // for each guest that is on the host when it has all of them
  std::optional<Hook> rollback;      // none: what fails is quarantined
  std::optional<Hook> version;       // prints the version that the host has
  std::optional<Hook> unsilence;     // at the end, whatever happened

  // The patch needs them down: guests are shut down and started again, none is moved.
  bool shut_down_guests = false;
  bool reboot = true;  // else its boot id must stay as it is
  std::uint32_t reboot_timeout_s = 900;
  std::string expected_version;  // what `version` must print after the patch
  std::string expected_kernel;   // what uname -r must say after the patch
  // What hosts must have after the patch, and what guests may go to for good; 0: the patch leaves
  // QEMU as it is. See planner::parse_qemu_series().
  std::uint32_t expected_qemu = 0;
  // What a host is expected to take from its patch's beginning to its canary's end; 0: what earlier
  // runs have measured.
  std::uint32_t expected_patch_s = 0;
  bool check_paths = true;  // whether frames of the full MTU reach a peer, and come back

  std::string canary_definition;  // a guest file's text; empty: no canary
  Placement placement = Placement::kHome;
  std::vector<std::uint32_t> refill_percent = {5, 25, 50, 100};
  std::uint32_t gate_s = 10;  // between two steps of the refill
  std::uint32_t soak_s = 60;
  // The host's migrations after the patch against those before, by median goodput.
  double goodput_ratio_min = 0.7;
  // The same of their downtime, which is no complaint within kDowntimeMsMin; 0: not compared.
  double downtime_ratio_max = 5;
  // So much more of the frames of its migrations may be lost after the patch than before.
  double loss_max = 0.01;
  // So much more of the time that its guests want a core they may wait for one after the soak than
  // before the drain; 1: not compared.
  double steal_max = 0.2;
  std::uint32_t attempts = 3;      // of one guest's migration
  std::uint32_t failures_max = 0;  // hosts that may fail before the run pauses
};

// `source` names the file in errors, which carry line and column.
[[nodiscard]] Expected<Plan> parse_plan(const std::string& toml, const std::string& source);
// One that a controller admitted, perhaps of an earlier version: what is only not allowed any more
// is taken as it stands, since the run has been under way with it. What cannot be read is an error.
[[nodiscard]] Expected<Plan> parse_admitted_plan(const std::string& toml,
                                                 const std::string& source);

// What a plan leaves to the controller that runs it, as it was when the run was created.
struct Resolution {
  std::vector<std::vector<std::string>> waves;  // of hosts; empty: the plan names them
  std::string zone_rule;                        // of window.timezone; empty: it is UTC

  friend bool operator==(const Resolution&, const Resolution&) = default;
};

// The waves that the plan's selector means. kNotFound, with what there is instead, if it finds no
// host, or a host of `except` does not exist.
[[nodiscard]] Expected<std::vector<std::vector<std::string>>> choose_hosts(
    const Plan& plan, const std::map<std::string, Labels>& hosts);

// Completes `plan`. kInvalid for a rule that cannot be read, or a selector without hosts.
[[nodiscard]] Expected<void> resolve(Plan& plan, const Resolution& resolution);

// h2 before h10: as people count.
[[nodiscard]] bool natural_less(const std::string& a, const std::string& b);

}  // namespace sluice::patch
