// The order in which a guest changes hands, as two transition tables: what either host may do next,
// and nothing else. Pure. One commit point: before kCommitted only the source may run the guest,
// after it only the destination.
//
//   source                                            destination
//   kPreparing                Prepare ------------->   kPreparing
//   kTracking            <---------------- Prepared    kReceiving
//   kStreaming                pages ==============>
//   kPausing, kFinalPass      pages ==============>
//   kProving                  Prove --------------->
//                        <------------------ Proven    kProven
//   kSavingState, kLoadingState   LoadState ------->   kLoading
//                        <------------- StateLoaded    kReady
//   kCommitted                Commit -------------->   kOwned
//   kReleasing           <----------------- Running    kRunning
//
// What fences: the destination's store of outcomes (control/agent/records.h). It lets a session's
// commit pass once, and only while the session's twin waits; when it says "never owned" there is no
// twin any more, and a commit that comes late is refused. Sessions are drawn at random, and a
// commit comes on the stream for which the twin was made: Commit names the session only against a
// source that mixes up its streams.
#pragma once

#include <cstdint>
#include <optional>

namespace sluice::model {

enum class SourceState : std::uint8_t {
  kPreparing = 1,  // the destination makes its twin
  kTracking,       // dirty tracking starts
  kStreaming,      // pre-copy; the guest runs
  kPausing,        // the guest is being stopped
  kFinalPass,
  kProving,
  kSavingState,
  kLoadingState,  // the destination loads the device state
  kCommitted,  // "handed over" is recorded: the guest never runs here again unless the destination
               // never owned it
  kUnknown,    // committed, and the destination cannot be reached
  kForgotten,  // committed, and the destination has lost its records since: the guest may have run
               // there and be gone with it, so only an operator lets the older copy here run
  kReleasing,  // the destination runs the guest; the copy here is being ended
  kReleased,
  kCancelled,  // the guest runs here
  kCount
};

enum class SourceEvent : std::uint8_t {
  kPrepared = 1,
  kTracked,
  kStop,  // pre-copy has ended, or the mode skips it
  kPaused,
  kSettled,  // the final pass and every correction are acknowledged
  kProofMatched,
  kStateSaved,
  kStateLoaded,    // and "handed over" recorded
  kRunning,        // the destination said so, or that it owns the guest
  kNeverOwned,     // the destination said that it does not have the guest and will refuse a late
                   // commit
  kForgotten,      // the destination does not know, and is no longer what the commit was meant for;
                   // or an operator says that it never comes back
  kUnreachable,    // nobody answers for it
  kResumeOrdered,  // by an operator
  kEndOrdered,     // by an operator
  kReleased,       // the copy here is gone
  kFailure,        // anything else that went wrong
  kCount
};

enum class DestinationState : std::uint8_t {
  kPreparing = 1,
  kReceiving,
  kProven,
  kLoading,
  kReady,  // state loaded, twin kept: waits for the commit
  kOwned,  // "owned" is recorded: the guest is ours
  kRunning,
  kDiscarded,  // the twin is gone; a late commit is refused
  kCount
};

enum class DestinationEvent : std::uint8_t {
  kTwinReady = 1,
  kProofMatched,
  kProofMismatched,
  kStateArrived,
  kStateLoaded,
  kCommit,
  kResumed,
  kNeverRan,  // owned, but the twin refused to run and certainly did not
  kFailure,   // an error, an abort or the stream's end
  kCount
};

// The state after `event`; nothing if the event is illegal there.
[[nodiscard]] std::optional<SourceState> next(SourceState state, SourceEvent event);
[[nodiscard]] std::optional<DestinationState> next(DestinationState state, DestinationEvent event);

// Whether the guest may execute on that host in that state.
[[nodiscard]] bool may_run_at_source(SourceState state);
[[nodiscard]] bool may_run_at_destination(DestinationState state);

// For people and logs: "final pass", "owned".
[[nodiscard]] const char* to_string(SourceState state);
[[nodiscard]] const char* to_string(DestinationState state);
// One word each, joined by hyphens: "proof-matched".
[[nodiscard]] const char* to_string(SourceEvent event);
[[nodiscard]] const char* to_string(DestinationEvent event);

}  // namespace sluice::model
