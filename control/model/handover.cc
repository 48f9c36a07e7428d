#include "control/model/handover.h"

#include <array>
#include <cstddef>

#include "control/model/transition_table.h"

namespace sluice::model {
namespace {

using S = SourceState;
using E = SourceEvent;
constexpr std::array kSource = {
    Transition<S, E>{S::kPreparing, E::kPrepared, S::kTracking},
    Transition<S, E>{S::kTracking, E::kTracked, S::kStreaming},
    Transition<S, E>{S::kStreaming, E::kStop, S::kPausing},
    Transition<S, E>{S::kPausing, E::kPaused, S::kFinalPass},
    Transition<S, E>{S::kFinalPass, E::kSettled, S::kProving},
    Transition<S, E>{S::kProving, E::kProofMatched, S::kSavingState},
    Transition<S, E>{S::kSavingState, E::kStateSaved, S::kLoadingState},
    Transition<S, E>{S::kLoadingState, E::kStateLoaded, S::kCommitted},
    Transition<S, E>{S::kCommitted, E::kRunning, S::kReleasing},
    Transition<S, E>{S::kCommitted, E::kNeverOwned, S::kCancelled},
    Transition<S, E>{S::kCommitted, E::kUnreachable, S::kUnknown},
    Transition<S, E>{S::kUnknown, E::kRunning, S::kReleasing},
    Transition<S, E>{S::kUnknown, E::kNeverOwned, S::kCancelled},
    Transition<S, E>{S::kUnknown, E::kUnreachable, S::kUnknown},
    Transition<S, E>{S::kCommitted, E::kForgotten, S::kForgotten},
    Transition<S, E>{S::kUnknown, E::kForgotten, S::kForgotten},
    Transition<S, E>{S::kForgotten, E::kResumeOrdered, S::kCancelled},
    Transition<S, E>{S::kForgotten, E::kEndOrdered, S::kReleasing},
    Transition<S, E>{S::kReleasing, E::kReleased, S::kReleased},
    Transition<S, E>{S::kPreparing, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kTracking, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kStreaming, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kPausing, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kFinalPass, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kProving, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kSavingState, E::kFailure, S::kCancelled},
    Transition<S, E>{S::kLoadingState, E::kFailure, S::kCancelled},
};

using D = DestinationState;
using F = DestinationEvent;
constexpr std::array kDestination = {
    Transition<D, F>{D::kPreparing, F::kTwinReady, D::kReceiving},
    Transition<D, F>{D::kReceiving, F::kProofMatched, D::kProven},
    Transition<D, F>{D::kReceiving, F::kProofMismatched, D::kDiscarded},
    Transition<D, F>{D::kProven, F::kStateArrived, D::kLoading},
    Transition<D, F>{D::kLoading, F::kStateLoaded, D::kReady},
    Transition<D, F>{D::kReady, F::kCommit, D::kOwned},
    Transition<D, F>{D::kOwned, F::kResumed, D::kRunning},
    Transition<D, F>{D::kOwned, F::kNeverRan, D::kDiscarded},
    Transition<D, F>{D::kPreparing, F::kFailure, D::kDiscarded},
    Transition<D, F>{D::kReceiving, F::kFailure, D::kDiscarded},
    Transition<D, F>{D::kProven, F::kFailure, D::kDiscarded},
    Transition<D, F>{D::kLoading, F::kFailure, D::kDiscarded},
    Transition<D, F>{D::kReady, F::kFailure, D::kDiscarded},
};

}  // namespace

std::optional<SourceState> next(SourceState state, SourceEvent event) {
  return find(kSource, state, event);
}

std::optional<DestinationState> next(DestinationState state, DestinationEvent event) {
  return find(kDestination, state, event);
}

bool may_run_at_source(SourceState state) {
  switch (state) {
    case S::kPreparing:
    case S::kTracking:
    case S::kStreaming:
    case S::kPausing:
    case S::kCancelled:
      return true;
    default:
      return false;
  }
}

bool may_run_at_destination(DestinationState state) {
  return state == D::kOwned || state == D::kRunning;
}

const char* to_string(SourceState state) {
  switch (state) {
    case S::kPreparing:
      return "preparing";
    case S::kTracking:
      return "tracking";
    case S::kStreaming:
      return "streaming";
    case S::kPausing:
      return "stopping";
    case S::kFinalPass:
      return "final pass";
    case S::kProving:
      return "proving";
    case S::kSavingState:
    case S::kLoadingState:
      return "state";
    case S::kCommitted:
      return "committing";
    case S::kUnknown:
      return "unknown outcome";
    case S::kForgotten:
      return "forgotten";
    case S::kReleasing:
      return "releasing";
    case S::kReleased:
      return "released";
    case S::kCancelled:
      return "cancelled";
    case S::kCount:
      break;
  }
  return "?";
}

const char* to_string(DestinationState state) {
  switch (state) {
    case D::kPreparing:
      return "preparing";
    case D::kReceiving:
      return "receiving";
    case D::kProven:
      return "proven";
    case D::kLoading:
      return "loading";
    case D::kReady:
      return "ready";
    case D::kOwned:
      return "owned";
    case D::kRunning:
      return "running";
    case D::kDiscarded:
      return "discarded";
    case D::kCount:
      break;
  }
  return "?";
}

const char* to_string(SourceEvent event) {
  switch (event) {
    case E::kPrepared:
      return "prepared";
    case E::kTracked:
      return "tracked";
    case E::kStop:
      return "stop";
    case E::kPaused:
      return "paused";
    case E::kSettled:
      return "settled";
    case E::kProofMatched:
      return "proof-matched";
    case E::kStateSaved:
      return "state-saved";
    case E::kStateLoaded:
      return "state-loaded";
    case E::kRunning:
      return "running";
    case E::kNeverOwned:
      return "never-owned";
    case E::kForgotten:
      return "forgotten";
    case E::kUnreachable:
      return "unreachable";
    case E::kResumeOrdered:
      return "resume-ordered";
    case E::kEndOrdered:
      return "end-ordered";
    case E::kReleased:
      return "released";
    case E::kFailure:
      return "failure";
    case E::kCount:
      break;
  }
  return "?";
}

const char* to_string(DestinationEvent event) {
  switch (event) {
    case F::kTwinReady:
      return "twin-ready";
    case F::kProofMatched:
      return "proof-matched";
    case F::kProofMismatched:
      return "proof-mismatched";
    case F::kStateArrived:
      return "state-arrived";
    case F::kStateLoaded:
      return "state-loaded";
    case F::kCommit:
      return "commit";
    case F::kResumed:
      return "resumed";
    case F::kNeverRan:
      return "never-ran";
    case F::kFailure:
      return "failure";
    case F::kCount:
      break;
  }
  return "?";
}

}  // namespace sluice::model
