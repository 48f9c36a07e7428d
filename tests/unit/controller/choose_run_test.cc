#include "control/controller/choose_run.h"

#include <gtest/gtest.h>

namespace sluice::controller {
namespace {

using Runs = std::vector<RunName>;

TEST(ChooseRun, TheOneThatHasNotEndedIsMeantAlsoIfALaterOneHas) {
  const Runs runs = {{"r1", "may", true}, {"r2", "july", false}, {"r3", "drain h9", true}};
  for (const auto unnamed : {Unnamed::kActive, Unnamed::kActiveOrLast})
    EXPECT_EQ(*choose_run(runs, "", unnamed), "r2");
  EXPECT_EQ(*choose_run(runs, "r3", Unnamed::kActive), "r3");
}

TEST(ChooseRun, OfSeveralNoneIsGuessed) {
  const Runs runs = {{"r1", "may", true}, {"r2", "july", false}, {"r3", "drain h9", false}};
  for (const auto unnamed : {Unnamed::kActive, Unnamed::kActiveOrLast}) {
    const auto chosen = choose_run(runs, "", unnamed);
    ASSERT_FALSE(chosen);
    EXPECT_EQ(chosen.error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(chosen.error().message,
              "several runs have not ended, name one of them: r2 (july), r3 (drain h9)");
  }
  EXPECT_EQ(*choose_run(runs, "r2", Unnamed::kActive), "r2");
}

TEST(ChooseRun, WhatHasEndedIsLookedAtAndNotCommanded) {
  const Runs runs = {{"r1", "may", true}, {"r2", "july", true}};
  EXPECT_EQ(*choose_run(runs, "", Unnamed::kActiveOrLast), "r2");
  EXPECT_EQ(choose_run(runs, "", Unnamed::kActive).error().message,
            "every run has ended; the latest is r2 (july)");
}

TEST(ChooseRun, NamesThoseThatThereAre) {
  EXPECT_EQ(choose_run({}, "", Unnamed::kActiveOrLast).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(choose_run({{"r1", "may", true}, {"r2", "july", true}}, "r7", Unnamed::kActive)
                .error()
                .message,
            "there is no run r7; runs: r1, r2");
}

}  // namespace
}  // namespace sluice::controller
