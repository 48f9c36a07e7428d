#include "control/patch/states.h"

#include <gtest/gtest.h>
#include <map>
#include <set>
#include <utility>

namespace sluice::patch {
namespace {

using R = RunState;
using Q = RunEvent;
using S = HostState;
using E = HostEvent;

// Written out once more, by hand: every pair that is not here must be refused.
const std::map<std::pair<R, Q>, R> legal_run_steps = {
    {{R::kDraft, Q::kAdmit}, R::kAdmitted},     {{R::kDraft, Q::kAbort}, R::kAborting},
    {{R::kAdmitted, Q::kStart}, R::kRunning},   {{R::kAdmitted, Q::kAbort}, R::kAborting},
    {{R::kRunning, Q::kPause}, R::kPaused},     {{R::kRunning, Q::kAbort}, R::kAborting},
    {{R::kRunning, Q::kFinished}, R::kDone},    {{R::kPaused, Q::kResume}, R::kRunning},
    {{R::kPaused, Q::kAbort}, R::kAborting},    {{R::kPaused, Q::kFinished}, R::kDone},
    {{R::kAborting, Q::kFinished}, R::kAborted}};

const std::map<std::pair<S, E>, S> legal_host_steps = {
    {{S::kPending, E::kBegin}, S::kPrecheck},
    {{S::kPending, E::kAbort}, S::kSkipped},
    {{S::kPrecheck, E::kReady}, S::kCordoned},
    {{S::kPrecheck, E::kAbort}, S::kSkipped},
    {{S::kPrecheck, E::kFailure}, S::kSkipped},
    {{S::kCordoned, E::kDrainStarted}, S::kDraining},
    {{S::kCordoned, E::kAbort}, S::kUndrain},
    {{S::kCordoned, E::kFailure}, S::kUndrain},
    {{S::kDraining, E::kDrained}, S::kEmpty},
    {{S::kDraining, E::kAbort}, S::kUndrain},
    {{S::kDraining, E::kFailure}, S::kUndrain},
    {{S::kEmpty, E::kDrainOnly}, S::kDone},
    {{S::kEmpty, E::kReopened}, S::kDraining},
    {{S::kEmpty, E::kPatchStarted}, S::kPatching},
    {{S::kEmpty, E::kAbort}, S::kUndrain},
    {{S::kEmpty, E::kFailure}, S::kUndrain},
    {{S::kPatching, E::kPatched}, S::kRebooting},
    {{S::kPatching, E::kPatchedLive}, S::kVerifying},
    {{S::kPatching, E::kFailure}, S::kRedrain},
    {{S::kRebooting, E::kCameBack}, S::kVerifying},
    {{S::kRebooting, E::kFailure}, S::kRedrain},
    {{S::kVerifying, E::kVerified}, S::kCanary},
    {{S::kVerifying, E::kFailure}, S::kRedrain},
    {{S::kCanary, E::kCanaryPassed}, S::kRefill},
    {{S::kCanary, E::kFailure}, S::kRedrain},
    {{S::kRefill, E::kRefilled}, S::kSoak},
    {{S::kRefill, E::kFailure}, S::kRedrain},
    {{S::kSoak, E::kSoaked}, S::kDone},
    {{S::kSoak, E::kFailure}, S::kRedrain},
    {{S::kUndrain, E::kGivenBack}, S::kSkipped},
    {{S::kRedrain, E::kDrained}, S::kRollback},
    {{S::kRedrain, E::kFailure}, S::kQuarantined},
    {{S::kRollback, E::kRolledBack}, S::kVerifyOld},
    {{S::kRollback, E::kFailure}, S::kQuarantined},
    {{S::kVerifyOld, E::kVerifiedOld}, S::kDoneOld},
    {{S::kVerifyOld, E::kFailure}, S::kQuarantined}};

template <typename State, typename Event>
void expect_table(const std::map<std::pair<State, Event>, State>& legal) {
  for (int state = 1; state < static_cast<int>(State::kCount); ++state) {
    for (int event = 1; event < static_cast<int>(Event::kCount); ++event) {
      const std::pair key(static_cast<State>(state), static_cast<Event>(event));
      const auto found = legal.find(key);
      EXPECT_EQ(next(key.first, key.second),
                found == legal.end() ? std::nullopt : std::optional(found->second))
          << to_string(key.first) << " + " << to_string(key.second);
    }
  }
}

TEST(RunStates, EveryPairThatIsNotLegalIsRefused) { expect_table(legal_run_steps); }
TEST(HostStates, EveryPairThatIsNotLegalIsRefused) { expect_table(legal_host_steps); }

TEST(HostStates, EveryStateLeadsToAnEndAlsoWhenEverythingFails) {
  for (int state = 1; state < static_cast<int>(S::kCount); ++state) {
    S at = static_cast<S>(state);
    for (int steps = 0; !is_final(at); ++steps) {
      ASSERT_LT(steps, 10) << to_string(at);
      // Whatever is legal of these, in the order of preference of a run that goes wrong.
      bool moved = false;
      for (const E event : {E::kFailure, E::kAbort, E::kGivenBack, E::kDrained}) {
        if (const auto after = next(at, event); after && !moved) {
          at = *after;
          moved = true;
        }
      }
      ASSERT_TRUE(moved) << to_string(at);
    }
  }
}

TEST(HostStates, NothingLeadsOutOfAFinalState) {
  for (int state = 1; state < static_cast<int>(S::kCount); ++state) {
    if (!is_final(static_cast<S>(state))) continue;
    for (int event = 1; event < static_cast<int>(E::kCount); ++event)
      EXPECT_FALSE(next(static_cast<S>(state), static_cast<E>(event)));
  }
}

TEST(StateNames, AreAllDifferentAndReadBack) {
  std::set<std::string_view> names;
  for (int event = 1; event < static_cast<int>(E::kCount); ++event) {
    const auto name = to_string(static_cast<E>(event));
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(parse_host_event(name), static_cast<E>(event));
  }
  for (int event = 1; event < static_cast<int>(Q::kCount); ++event)
    EXPECT_EQ(parse_run_event(to_string(static_cast<Q>(event))), static_cast<Q>(event));
  EXPECT_EQ(parse_host_event(""), std::nullopt);
}

}  // namespace
}  // namespace sluice::patch
