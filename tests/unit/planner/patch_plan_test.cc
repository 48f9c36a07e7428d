#include "control/planner/patch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>

#include "control/planner/checker.h"
#include "control/planner/synthetic.h"
#include "dataplane/base/random.h"
#include "tests/unit/planner/builder.h"

namespace sluice::planner {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<HostId> all_hosts(const Cluster& cluster) {
  std::vector<HostId> hosts(cluster.hosts.size());
  std::iota(hosts.begin(), hosts.end(), 0U);
  return hosts;
}

// Every wave by itself passes the checker on the cluster that the waves before have left behind; no
// host is patched twice.
void check_waves(Cluster cluster, const PatchPlan& plan) {
  std::vector<int> patched(cluster.hosts.size(), 0);
  std::uint64_t time_ms = 0;
  for (const PatchWave& wave : plan.waves) {
    ASSERT_THAT(check_plan(cluster, wave.moves, {.emptied = wave.hosts}), IsEmpty());
    EXPECT_GE(wave.start_ms, time_ms);
    time_ms = wave.end_ms;
    for (const HostId host : wave.hosts) EXPECT_EQ(++patched[host], 1);
    for (const Move& move : wave.moves) {
      EXPECT_LE(move.end_ms, wave.drain_ms);
      cluster.guests[move.guest].host = move.to;
      cluster.guests[move.guest].numa_node = move.to_numa_node;
    }
  }
  EXPECT_EQ(plan.total_ms, time_ms);
}

PatchOptions patch_options() {
  PatchOptions options;
  options.plan = simple_options();
  options.plan.search.schedules_max = 20;
  return options;
}

TEST(PatchPlanTest, ThirtyGuestsOnEachOfAHundredAndTwentyHosts) {
  Builder builder;
  constexpr std::uint64_t kTenGbit = 9'300'000'000 / 8;
  for (int id = 0; id < 120; ++id) {
    const HostId host = builder.host("h" + std::to_string(id + 1), 33 * 4, kTenGbit);
    for (int guest = 0; guest < 30; ++guest)
      builder.guest("g" + std::to_string(id * 30 + guest + 1), host, 4);
  }
  const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), patch_options());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(plan->obstacles, IsEmpty());
  EXPECT_THAT(plan->skipped, IsEmpty());
  check_waves(builder.cluster, *plan);
  EXPECT_EQ(plan->guests, 3600);
  EXPECT_LE(plan->moves_per_guest(), 1.1);
  EXPECT_EQ(plan->waves.size(), 12) << "the spare of 10 % is ten hosts' worth";
  EXPECT_GE(plan->total_ms, plan->bound.ms);
  EXPECT_LE(plan->total_ms, plan->bound.ms * 125 / 100) << plan->bound.reason;
}

TEST(PatchPlanTest, MixedClusterIsPatchedWhole) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    Builder builder;
    const GroupId apart = builder.group("apart", Rule::kApartHosts, 2);
    const GroupId tied = builder.group("tied", Rule::kTogether);
    for (int id = 0; id < 12; ++id) builder.host("h" + std::to_string(id), 24 + random.below(16));
    for (int id = 0; id < 70; ++id) {
      const auto host = static_cast<HostId>(random.below(12));
      std::vector<GroupId> groups;
      if (id < 6) groups = {apart};
      if (id == 6 || id == 7) groups = {tied};
      const HostId at = id < 6 ? static_cast<HostId>(id) : id < 8 ? 7 : host;
      builder.guest("g" + std::to_string(id), at, 1 + random.below(4), groups);
    }
    const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), patch_options());
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_THAT(plan->obstacles, IsEmpty());
    check_waves(builder.cluster, *plan);
    std::size_t hosts = 0;
    for (const PatchWave& wave : plan->waves) hosts += wave.hosts.size();
    EXPECT_EQ(hosts, 12);
  }
}

// Groups of every kind, two CPU levels, racks behind uplinks.
TEST(PatchPlanTest, GeneratedClusterKeepsEveryRuleInEveryWave) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Cluster cluster = synthetic_cluster({.hosts = 100, .guests = 600, .seed = seed});
    const auto plan = plan_patch(cluster, all_hosts(cluster), patch_options());
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_THAT(plan->obstacles, IsEmpty());
    check_waves(cluster, *plan);
    EXPECT_LE(plan->moves_per_guest(), 1.2);
  }
}

TEST(PatchPlanTest, NoMoreHostsAtOnceThanAllowed) {
  Builder builder;
  for (int id = 0; id < 6; ++id)
    builder.guest("g" + std::to_string(id), builder.host("h" + std::to_string(id), 64), 1);
  PatchOptions options = patch_options();
  options.hosts_at_once_max = 2;
  const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), options);
  ASSERT_TRUE(plan);
  for (const PatchWave& wave : plan->waves) EXPECT_LE(wave.hosts.size(), 2);
  EXPECT_EQ(plan->bound.ms, 3 * options.patch_ms + 1000);
}

TEST(PatchPlanTest, ExtraMovesLimitTheFirstWave) {
  Builder builder;
  for (int id = 0; id < 20; ++id) {
    const HostId host = builder.host("h" + std::to_string(id), 20);
    for (int guest = 0; guest < 10; ++guest)
      builder.guest("g" + std::to_string(id * 10 + guest), host, 1);
  }
  const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), patch_options());
  ASSERT_TRUE(plan);
  check_waves(builder.cluster, *plan);
  EXPECT_EQ(plan->waves.front().hosts.size(), 2)
      << "half of the room is free, but a tenth may move twice";
  EXPECT_LE(plan->moves_per_guest(), 1.1);
}

TEST(PatchPlanTest, HostThatCannotBeEmptiedIsNamedAndTheOthersArePatched) {
  for (const GuestId bound : {0U, 2U}) {
    Builder builder;
    for (int id = 0; id < 4; ++id)
      builder.guest("g" + std::to_string(id), builder.host("h" + std::to_string(id), 8), 1);
    builder.cluster.guests[bound].policy = Policy::kNever;
    const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), patch_options());
    ASSERT_TRUE(plan);
    check_waves(builder.cluster, *plan);
    EXPECT_THAT(plan->skipped, ElementsAre(bound));
    const std::string number = std::to_string(bound);
    EXPECT_THAT(plan->obstacles, ElementsAre(HasSubstr("guest g" + number + " cannot leave h" +
                                                       number + ": its policy is never")));
    std::size_t hosts = 0;
    for (const PatchWave& wave : plan->waves) hosts += wave.hosts.size();
    EXPECT_EQ(hosts, 3);
    EXPECT_LE(plan->bound.ms, plan->total_ms);
  }
}

TEST(PatchPlanTest, TheBoundIsThatOfTheHostsThatArePatched) {
  Builder builder;
  PatchOptions options = patch_options();
  options.hosts_at_once_max = 1;
  for (int id = 0; id < 4; ++id) {
    builder.guest("g" + std::to_string(id), builder.host("h" + std::to_string(id), 8), 1);
    if (id > 0) builder.cluster.guests[id].policy = Policy::kNever;
  }
  const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), options);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->skipped.size(), 3);
  EXPECT_EQ(plan->bound.ms, options.patch_ms + 1000);
  EXPECT_EQ(plan->total_ms, plan->bound.ms);
}

// Its guest fits where the others have made room, and nowhere before that.
TEST(PatchPlanTest, AHostThatCannotBeEmptiedAtFirstIsTriedAgain) {
  Builder builder;
  const HostId h1 = builder.host("h1", 5);
  const HostId h2 = builder.host("h2", 6);
  const HostId h3 = builder.host("h3", 6);
  builder.guest("large", h1, 3);
  for (const HostId host : {h2, h3}) {
    for (int id = 0; id < 4; ++id)
      builder.guest("small" + std::to_string(host) + std::to_string(id), host, 1);
  }
  const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), patch_options());
  ASSERT_TRUE(plan);
  check_waves(builder.cluster, *plan);
  EXPECT_THAT(plan->obstacles, IsEmpty());
  EXPECT_THAT(plan->skipped, IsEmpty());
}

TEST(PatchPlanTest, FullClusterSaysWhatIsMissing) {
  Builder builder;
  for (int id = 0; id < 3; ++id)
    builder.guest("g" + std::to_string(id), builder.host("h" + std::to_string(id), 4), 4);
  const auto plan = plan_patch(builder.cluster, all_hosts(builder.cluster), patch_options());
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->skipped.size(), 3);
  EXPECT_THAT(plan->waves, IsEmpty());
  EXPECT_THAT(plan->obstacles, testing::Contains(HasSubstr("4 GiB of memory are missing")));
}

}  // namespace
}  // namespace sluice::planner
