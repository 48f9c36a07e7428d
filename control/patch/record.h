// The journal of a run: everything that was decided and everything that became of it, in order.
// Intent before, outcome after. Folding the records gives the run's state (run.h). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "control/patch/plan.h"
#include "control/patch/states.h"
#include "dataplane/base/expected.h"

namespace sluice::patch {

// What emptying a host, or a whole run, was expected to take.
struct Estimate {
  double seconds = 0;
  double low_seconds = 0;  // nine of ten runs are expected between low and high
  double high_seconds = 0;
  double bound_seconds = 0;  // what nobody can beat

  friend bool operator==(const Estimate&, const Estimate&) = default;
};

struct Created {
  std::string plan_toml;
  std::string by{};  // the operator's certificate; empty: nobody knows
  Resolution resolution{};
  std::map<std::string, Estimate> estimates{};  // of its drain, by host
  // From the run's beginning to its end; none in old journals.
  std::optional<Estimate> whole{};
};

struct RunStep {
  RunEvent event = RunEvent::kAdmit;
  std::string reason;
  std::string by{};  // of an operator's word: whose certificate
};

struct HostStep {
  std::string host;
  HostEvent event = HostEvent::kBegin;
  std::string reason;
};

// What a host was like before anything was done to it.
struct Baseline {
  std::string host;
  std::string boot_id;
  std::string version;  // as the version hook printed it; empty without one
  std::string kernel;
  std::vector<std::string> guests;         // that live there
  std::uint64_t link_bits_per_second = 0;  // for migrations; 0: not known
  std::uint32_t cpu_level = 0;             // 0: not known
  // Of the time that its guests wanted a core, the share that they waited for one.
  std::optional<double> waited_share{};
  std::uint32_t qemu_series = 0;  // as in planner::Host
};

enum class ActionKind : std::uint8_t {
  kMigrate = 1,
  kHook,
  kReboot,      // only while the host's boot id is still boot_id
  kStartGuest,  // the canary, or a guest that was shut down
  kStopGuest,   // the canary, or a guest whose policy is to be shut down; done if there is none
  kCheckPaths,  // whether frames as large as configured reach a peer, and come back from it
  kCount
};

// Something is about to be done. An intent without an outcome is in doubt after a crash: it is
// taken up again, never simply repeated.
struct Intent {
  std::uint64_t id = 0;  // from 1, unique in the run
  ActionKind kind = ActionKind::kHook;
  std::string purpose{};  // what for: "patch", "drain:db-3"; see run.h
  std::string host{};     // whose turn it serves
  // kMigrate, kStartGuest, kStopGuest, and kHook of a hook for each guest
  std::string guest{};
  std::string from{};  // kMigrate
  std::string to{};    // kMigrate; kStartGuest: not on `host` but there
  bool live = true;    // kMigrate: false: stop, move, resume
  Hook hook{};         // kHook
  // kReboot; of the patch's hook: what the host's was when it began, empty in old journals
  std::string boot_id{};
  // kStopGuest, if the guest is to be started again: as what. Noted before it is stopped, since
  // nobody can be asked afterwards.
  std::string definition{};
  // kStopGuest, with the definition: as in planner::Guest; 0 and false in old journals.
  std::uint32_t cpu_level = 0;
  bool cpu_level_from_host = false;
  std::uint32_t attempt = 1;
  std::string reason{};
  double expected_seconds = 0;  // kMigrate; 0: nobody said
};

struct Outcome {
  std::uint64_t id = 0;  // the intent's
  bool ok = false;
  std::string detail;  // a hook's output, or why it failed
  double seconds = 0;
  double downtime_ms = 0;   // kMigrate
  double goodput_gbps = 0;  // kMigrate
  // kMigrate and kStopGuest, not ok: on which host the guest runs could not be found out. Nobody
  // may touch it any more but its agents and an operator.
  bool unsettled = false;
  double lost_share = 0;   // kMigrate: of the frames sent
  bool not_begun = false;  // kHook, not ok: its command has not run
  bool unheard = false;    // kReboot, ok: its agent did not answer, and may not have been told
};

enum class Mark : std::uint8_t {
  kCordon = 1,
  kUncordon,
  kQuarantine,
  kMended,  // an operator has taken it out of quarantine while its run goes on
  kCount
};

// One line of what a failed hook has left in Outcome::detail: how it ended, and the last line that
// it printed, which is mostly the cause.
[[nodiscard]] std::string failure_line(const std::string& detail);

// A host is taken out of, or given back to, placement.
struct MarkStep {
  std::string host;
  Mark mark = Mark::kCordon;
  std::string by{};  // of an operator's word: whose certificate
};

// The health gate before the next step of a refill was passed.
struct RefillStep {
  std::string host;
  std::uint32_t step = 0;  // index into refill_percent that is allowed now
};

struct Record {
  TimeMs at_ms = 0;
  std::variant<Created, RunStep, HostStep, Baseline, Intent, Outcome, MarkStep, RefillStep> body;
};

// One JSON object in one line; decode() refuses what encode() never writes.
[[nodiscard]] std::string encode(const Record& record);
[[nodiscard]] Expected<Record> decode(const std::string& json);

[[nodiscard]] std::string_view to_string(ActionKind kind);
[[nodiscard]] std::string_view to_string(Mark mark);

}  // namespace sluice::patch
