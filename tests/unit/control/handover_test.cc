#include "control/model/handover.h"

#include <gtest/gtest.h>
#include <map>
#include <set>
#include <utility>

namespace sluice::model {
namespace {

using S = SourceState;
using E = SourceEvent;
using D = DestinationState;
using F = DestinationEvent;

// Written out again, by hand, so that a slip in the table shows.
const std::map<std::pair<S, E>, S> legal_at_source = {
    {{S::kPreparing, E::kPrepared}, S::kTracking},
    {{S::kPreparing, E::kFailure}, S::kCancelled},
    {{S::kTracking, E::kTracked}, S::kStreaming},
    {{S::kTracking, E::kFailure}, S::kCancelled},
    {{S::kStreaming, E::kStop}, S::kPausing},
    {{S::kStreaming, E::kFailure}, S::kCancelled},
    {{S::kPausing, E::kPaused}, S::kFinalPass},
    {{S::kPausing, E::kFailure}, S::kCancelled},
    {{S::kFinalPass, E::kSettled}, S::kProving},
    {{S::kFinalPass, E::kFailure}, S::kCancelled},
    {{S::kProving, E::kProofMatched}, S::kSavingState},
    {{S::kProving, E::kFailure}, S::kCancelled},
    {{S::kSavingState, E::kStateSaved}, S::kLoadingState},
    {{S::kSavingState, E::kFailure}, S::kCancelled},
    {{S::kLoadingState, E::kStateLoaded}, S::kCommitted},
    {{S::kLoadingState, E::kFailure}, S::kCancelled},
    {{S::kCommitted, E::kRunning}, S::kReleasing},
    {{S::kCommitted, E::kNeverOwned}, S::kCancelled},
    {{S::kCommitted, E::kUnreachable}, S::kUnknown},
    {{S::kUnknown, E::kRunning}, S::kReleasing},
    {{S::kUnknown, E::kNeverOwned}, S::kCancelled},
    {{S::kUnknown, E::kUnreachable}, S::kUnknown},
    {{S::kCommitted, E::kForgotten}, S::kForgotten},
    {{S::kUnknown, E::kForgotten}, S::kForgotten},
    {{S::kForgotten, E::kResumeOrdered}, S::kCancelled},
    {{S::kForgotten, E::kEndOrdered}, S::kReleasing},
    {{S::kReleasing, E::kReleased}, S::kReleased},
};
const std::map<std::pair<D, F>, D> legal_at_destination = {
    {{D::kPreparing, F::kTwinReady}, D::kReceiving},
    {{D::kPreparing, F::kFailure}, D::kDiscarded},
    {{D::kReceiving, F::kProofMatched}, D::kProven},
    {{D::kReceiving, F::kProofMismatched}, D::kDiscarded},
    {{D::kReceiving, F::kFailure}, D::kDiscarded},
    {{D::kProven, F::kStateArrived}, D::kLoading},
    {{D::kProven, F::kFailure}, D::kDiscarded},
    {{D::kLoading, F::kStateLoaded}, D::kReady},
    {{D::kLoading, F::kFailure}, D::kDiscarded},
    {{D::kReady, F::kCommit}, D::kOwned},
    {{D::kReady, F::kFailure}, D::kDiscarded},
    {{D::kOwned, F::kResumed}, D::kRunning},
    {{D::kOwned, F::kNeverRan}, D::kDiscarded},
};

template <typename State, typename Event>
void expect_exactly(const std::map<std::pair<State, Event>, State>& legal) {
  for (int s = 1; s < static_cast<int>(State::kCount); ++s) {
    for (int e = 1; e < static_cast<int>(Event::kCount); ++e) {
      const auto state = static_cast<State>(s);
      const auto event = static_cast<Event>(e);
      const auto found = legal.find({state, event});
      const auto reached = next(state, event);
      EXPECT_EQ(reached.has_value(), found != legal.end()) << to_string(state) << " on event " << e;
      if (reached && found != legal.end()) {
        EXPECT_EQ(*reached, found->second) << to_string(state);
      }
    }
  }
}

TEST(Handover, SourceAllowsExactlyTheLegalPairs) { expect_exactly(legal_at_source); }
TEST(Handover, DestinationAllowsExactlyTheLegalPairs) { expect_exactly(legal_at_destination); }

TEST(Handover, AfterTheCommitNoFailureAloneLetsTheSourceRun) {
  for (const S state : {S::kCommitted, S::kUnknown, S::kForgotten, S::kReleasing, S::kReleased}) {
    EXPECT_FALSE(next(state, E::kFailure)) << to_string(state);
    EXPECT_FALSE(may_run_at_source(state));
  }
}

TEST(Handover, ADiscardedTwinNeverRuns) {
  for (int e = 1; e < static_cast<int>(F::kCount); ++e) {
    EXPECT_FALSE(next(D::kDiscarded, static_cast<F>(e)));
  }
  EXPECT_FALSE(may_run_at_destination(D::kDiscarded));
}

// Every interleaving of the two tables, joined by the messages between them: nowhere may both run
// the guest. The source hears kNeverOwned only from a discarded destination, and of an owner only
// once it owns.
TEST(Handover, NoReachablePairOfStatesLetsBothRun) {
  std::set<std::pair<S, D>> seen;
  std::set<std::pair<S, D>> open = {{S::kPreparing, D::kPreparing}};
  while (!open.empty()) {
    const auto [source, destination] = *open.begin();
    open.erase(open.begin());
    if (!seen.insert({source, destination}).second) continue;
    EXPECT_FALSE(may_run_at_source(source) && may_run_at_destination(destination))
        << to_string(source) << " / " << to_string(destination);
    for (int e = 1; e < static_cast<int>(E::kCount); ++e) {
      const auto event = static_cast<E>(e);
      const bool owned = destination == D::kOwned || destination == D::kRunning;
      if (event == E::kPrepared && destination != D::kReceiving) continue;
      if (event == E::kProofMatched && destination != D::kProven) continue;
      if (event == E::kStateLoaded && destination != D::kReady) continue;
      if (event == E::kRunning && !owned) continue;
      if (event == E::kNeverOwned && destination != D::kDiscarded) continue;
      // A host that has lost its records is in no state of the table: its guests are gone.
      if (event == E::kForgotten) continue;
      if (const auto reached = next(source, event)) open.insert({*reached, destination});
    }
    for (int f = 1; f < static_cast<int>(F::kCount); ++f) {
      const auto event = static_cast<F>(f);
      const bool committed = source == S::kCommitted || source == S::kUnknown;
      if (event == F::kProofMatched && source != S::kProving) continue;
      if (event == F::kStateArrived && source != S::kLoadingState) continue;
      if (event == F::kCommit && !committed) continue;
      // kNeverRan means that the guest stood still all the while and is gone.
      if (const auto reached = next(destination, event)) open.insert({source, *reached});
    }
  }
  EXPECT_TRUE(seen.contains({S::kReleased, D::kRunning}));
  EXPECT_TRUE(seen.contains({S::kCancelled, D::kDiscarded}));
}

}  // namespace
}  // namespace sluice::model
