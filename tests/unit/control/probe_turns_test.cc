#include "control/agent/probe_turns.h"

#include <chrono>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace sluice::agent {
namespace {

constexpr std::chrono::milliseconds kAtOnce{0};

TEST(ProbeTurns, OnePeerTakesSomeOfThem) {
  ProbeTurns turns("h1");
  const auto first = turns.take("h2", kAtOnce);
  std::optional second = *turns.take("h2", kAtOnce);
  const auto refused = turns.take("h2", kAtOnce);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_EQ(refused.error().message,
            "host h1 has 2 checks of its path to or from h2 under way already; try again when one "
            "has ended");
  EXPECT_TRUE(turns.take("h3", kAtOnce));
  second.reset();
  EXPECT_TRUE(turns.take("h2", kAtOnce));
}

TEST(ProbeTurns, AllPeersTogetherLeaveRoomForMigrations) {
  ProbeTurns turns("h1");
  std::vector<ProbeTurns::Turn> taken;
  for (std::size_t i = 0; i < ProbeTurns::kAtOnceMax; ++i)
    taken.push_back(*turns.take("h" + std::to_string(i + 2), kAtOnce));
  const auto refused = turns.take("h9", kAtOnce);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_EQ(
      refused.error().message,
      "host h1 has 4 checks of paths under way, and keeps its other flows for migrations; try "
      "again when one has ended");
  taken.pop_back();
  EXPECT_TRUE(turns.take("h9", kAtOnce));
}

TEST(ProbeTurns, WhoeverWaitsGetsTheTurnThatIsGivenBack) {
  ProbeTurns turns("h1");
  std::vector<ProbeTurns::Turn> taken;
  for (std::size_t i = 0; i < ProbeTurns::kOfPeerMax; ++i) taken.push_back(*turns.take("h2"));
  bool granted = false;
  std::thread waiting([&] { granted = turns.take("h2", std::chrono::minutes(1)).has_value(); });
  taken.clear();
  waiting.join();
  EXPECT_TRUE(granted);
}

}  // namespace
}  // namespace sluice::agent
