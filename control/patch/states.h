// A patch run and each of its hosts as two transition tables. Pure.
//
//   run    DRAFT -> ADMITTED -> RUNNING <-> PAUSED -> DONE
//                                  \________/  \---> ABORTING -> ABORTED
//
//   host   PENDING -> PRECHECK -> CORDONED -> DRAINING -> EMPTY -> PATCHING -> REBOOTING ->
//   VERIFYING
//          -> CANARY -> REFILL -> SOAK -> DONE
//          failed or aborted before the patch began:  UNDRAIN -> SKIPPED
//          failed after it:  REDRAIN -> ROLLBACK -> VERIFY_OLD -> DONE_OLD, or QUARANTINED
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::patch {

enum class RunState : std::uint8_t {
  kDraft = 1,  // its plan is journaled, nothing was checked
  kAdmitted,   // every host, hook and window it names exists
  kRunning,
  kPaused,    // no further host begins; those under way go on to their end
  kAborting,  // hosts whose patch has not begun are given back, the others go on to their end
  kDone,
  kAborted,
  kCount
};

enum class RunEvent : std::uint8_t {
  kAdmit = 1,
  kStart,
  kPause,
  kResume,
  kAbort,
  kFinished,  // every host is in a final state and tidied up after
  kCount
};

enum class HostState : std::uint8_t {
  kPending = 1,
  kPrecheck,
  kCordoned,
  kDraining,
  kEmpty,
  kPatching,
  kRebooting,
  kVerifying,
  kCanary,
  kRefill,
  kSoak,
  kDone,
  kUndrain,
  kSkipped,  // it was not touched, or given back before the patch began
  kRedrain,
  kRollback,
  kVerifyOld,
  kDoneOld,      // back at the version from before, in service
  kQuarantined,  // kept out of service for a person to look at; counts against the disruption
                 // budget
  kCount
};

enum class HostEvent : std::uint8_t {
  kBegin = 1,
  kReady,
  kDrainStarted,
  kDrained,
  kDrainOnly,  // the run was to empty the host and nothing else
  kReopened,   // guests came back to the empty host, from one that failed
  kPatchStarted,
  kPatched,
  kPatchedLive,  // the patch needs no reboot
  kCameBack,     // with another boot id
  kVerified,
  kCanaryPassed,
  kRefilled,
  kSoaked,
  kGivenBack,
  kRolledBack,
  kVerifiedOld,
  kFailure,
  kAbort,
  kCount
};

// The state after `event`; nothing if the event is illegal there.
[[nodiscard]] std::optional<RunState> next(RunState state, RunEvent event);
[[nodiscard]] std::optional<HostState> next(HostState state, HostEvent event);

// Nothing leads out of it.
[[nodiscard]] bool is_final(RunState state);
[[nodiscard]] bool is_final(HostState state);
// As journals and people read them: "verify-old", "drain-started".
[[nodiscard]] std::string_view to_string(RunState state);
[[nodiscard]] std::string_view to_string(RunEvent event);
[[nodiscard]] std::string_view to_string(HostState state);
[[nodiscard]] std::string_view to_string(HostEvent event);
[[nodiscard]] std::optional<RunEvent> parse_run_event(std::string_view text);
[[nodiscard]] std::optional<HostEvent> parse_host_event(std::string_view text);

}  // namespace sluice::patch
