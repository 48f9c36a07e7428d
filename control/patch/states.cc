#include "control/patch/states.h"

#include <array>
#include <cstddef>

#include "control/model/transition_table.h"

namespace sluice::patch {
namespace {

using model::Transition;

using R = RunState;
using Q = RunEvent;
constexpr std::array kRun = {
    Transition<R, Q>{R::kDraft, Q::kAdmit, R::kAdmitted},
    Transition<R, Q>{R::kDraft, Q::kAbort, R::kAborting},
    Transition<R, Q>{R::kAdmitted, Q::kStart, R::kRunning},
    Transition<R, Q>{R::kAdmitted, Q::kAbort, R::kAborting},
    Transition<R, Q>{R::kRunning, Q::kPause, R::kPaused},
    Transition<R, Q>{R::kRunning, Q::kAbort, R::kAborting},
    Transition<R, Q>{R::kRunning, Q::kFinished, R::kDone},
    Transition<R, Q>{R::kPaused, Q::kResume, R::kRunning},
    Transition<R, Q>{R::kPaused, Q::kAbort, R::kAborting},
    Transition<R, Q>{R::kPaused, Q::kFinished, R::kDone},
    Transition<R, Q>{R::kAborting, Q::kFinished, R::kAborted},
};

using S = HostState;
using E = HostEvent;
constexpr std::array kHost = {
    Transition<S, E>{S::kPending, E::kBegin, S::kPrecheck},
    Transition<S, E>{S::kPrecheck, E::kReady, S::kCordoned},
    Transition<S, E>{S::kCordoned, E::kDrainStarted, S::kDraining},
    Transition<S, E>{S::kDraining, E::kDrained, S::kEmpty},
    Transition<S, E>{S::kEmpty, E::kDrainOnly, S::kDone},
    Transition<S, E>{S::kEmpty, E::kReopened, S::kDraining},
    Transition<S, E>{S::kEmpty, E::kPatchStarted, S::kPatching},
    Transition<S, E>{S::kPatching, E::kPatched, S::kRebooting},
    Transition<S, E>{S::kPatching, E::kPatchedLive, S::kVerifying},
    Transition<S, E>{S::kRebooting, E::kCameBack, S::kVerifying},
    Transition<S, E>{S::kVerifying, E::kVerified, S::kCanary},
    Transition<S, E>{S::kCanary, E::kCanaryPassed, S::kRefill},
    Transition<S, E>{S::kRefill, E::kRefilled, S::kSoak},
    Transition<S, E>{S::kSoak, E::kSoaked, S::kDone},
    // Before the patch began.
    Transition<S, E>{S::kPending, E::kAbort, S::kSkipped},
    Transition<S, E>{S::kPrecheck, E::kAbort, S::kSkipped},
    Transition<S, E>{S::kPrecheck, E::kFailure, S::kSkipped},
    Transition<S, E>{S::kCordoned, E::kAbort, S::kUndrain},
    Transition<S, E>{S::kCordoned, E::kFailure, S::kUndrain},
    Transition<S, E>{S::kDraining, E::kAbort, S::kUndrain},
    Transition<S, E>{S::kDraining, E::kFailure, S::kUndrain},
    Transition<S, E>{S::kEmpty, E::kAbort, S::kUndrain},
    Transition<S, E>{S::kEmpty, E::kFailure, S::kUndrain},
    Transition<S, E>{S::kUndrain, E::kGivenBack, S::kSkipped},
    // After it.
    Transition<S, E>{S::kPatching, E::kFailure, S::kRedrain},
    Transition<S, E>{S::kRebooting, E::kFailure, S::kRedrain},
    Transition<S, E>{S::kVerifying, E::kFailure, S::kRedrain},
    Transition<S, E>{S::kCanary, E::kFailure, S::kRedrain},
    Transition<S, E>{S::kRefill, E::kFailure, S::kRedrain},
    Transition<S, E>{S::kSoak, E::kFailure, S::kRedrain},
    Transition<S, E>{S::kRedrain, E::kDrained, S::kRollback},
    Transition<S, E>{S::kRedrain, E::kFailure, S::kQuarantined},
    Transition<S, E>{S::kRollback, E::kRolledBack, S::kVerifyOld},
    Transition<S, E>{S::kRollback, E::kFailure, S::kQuarantined},
    Transition<S, E>{S::kVerifyOld, E::kVerifiedOld, S::kDoneOld},
    Transition<S, E>{S::kVerifyOld, E::kFailure, S::kQuarantined},
};

// Index is the enumerator; its 0 is never valid.
constexpr std::array<std::string_view, static_cast<std::size_t>(RunState::kCount)> kRunStateNames =
    {"", "draft", "admitted", "running", "paused", "aborting", "done", "aborted"};
constexpr std::array<std::string_view, static_cast<std::size_t>(RunEvent::kCount)> kRunEventNames =
    {"", "admit", "start", "pause", "resume", "abort", "finished"};
constexpr std::array<std::string_view, static_cast<std::size_t>(HostState::kCount)>
    kHostStateNames = {"",        "pending",  "precheck",   "cordoned",  "draining",
                       "empty",   "patching", "rebooting",  "verifying", "canary",
                       "refill",  "soak",     "done",       "undrain",   "skipped",
                       "redrain", "rollback", "verify-old", "done-old",  "quarantined"};
constexpr std::array<std::string_view, static_cast<std::size_t>(HostEvent::kCount)>
    kHostEventNames = {
        "",           "begin",       "ready",         "drain-started", "drained",
        "drain-only", "reopened",    "patch-started", "patched",       "patched-live",
        "came-back",  "verified",    "canary-passed", "refilled",      "soaked",
        "given-back", "rolled-back", "verified-old",  "failure",       "abort"};

template <typename Value, std::size_t N>
std::optional<Value> parse(const std::array<std::string_view, N>& names, std::string_view text) {
  for (std::size_t i = 1; i < N; ++i) {
    if (names.at(i) == text) return static_cast<Value>(i);
  }
  return std::nullopt;
}

}  // namespace

std::optional<RunState> next(RunState state, RunEvent event) {
  return model::find(kRun, state, event);
}
std::optional<HostState> next(HostState state, HostEvent event) {
  return model::find(kHost, state, event);
}

bool is_final(RunState state) { return state == R::kDone || state == R::kAborted; }

bool is_final(HostState state) {
  return state == S::kDone || state == S::kSkipped || state == S::kDoneOld ||
         state == S::kQuarantined;
}

std::string_view to_string(RunState state) {
  return kRunStateNames.at(static_cast<std::size_t>(state));
}
std::string_view to_string(RunEvent event) {
  return kRunEventNames.at(static_cast<std::size_t>(event));
}
std::string_view to_string(HostState state) {
  return kHostStateNames.at(static_cast<std::size_t>(state));
}
std::string_view to_string(HostEvent event) {
  return kHostEventNames.at(static_cast<std::size_t>(event));
}
std::optional<RunEvent> parse_run_event(std::string_view text) {
  return parse<RunEvent>(kRunEventNames, text);
}
std::optional<HostEvent> parse_host_event(std::string_view text) {
  return parse<HostEvent>(kHostEventNames, text);
}

}  // namespace sluice::patch
