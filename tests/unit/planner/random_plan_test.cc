// Random clusters: whatever is planned passes the checker, and ends near its bound.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/planner/checker.h"
#include "control/planner/duration.h"
#include "control/planner/planner.h"
#include "control/planner/synthetic.h"
#include "dataplane/base/random.h"
#include "tests/unit/planner/builder.h"

namespace sluice::planner {
namespace {

using testing::IsEmpty;

// Hosts, guests and groups of every rule; initially sound or not, as chance has it.
Cluster random_cluster(Random& random) {
  Builder builder;
  const auto hosts = static_cast<HostId>(3 + random.below(8));
  for (HostId id = 0; id < hosts; ++id) {
    builder.host("h" + std::to_string(id), 16 + random.below(24),
                 kLinkRate * (1 + random.below(2)));
    Host& host = builder.cluster.hosts.back();
    host.cpu_level = 2 + static_cast<std::uint32_t>(random.below(2));
    host.qemu_series = *parse_qemu_series(random.chance(0.1) ? "8.2" : "7.2");
    host.failure_domain = static_cast<std::uint32_t>(random.below(4));
    host.maintenance = random.chance(0.05);
    host.guest_overhead_bytes = kGib / 16;
    if (random.chance(0.3)) {
      for (int node = 0; node < 2; ++node) host.numa_nodes.push_back({host.memory_bytes / 2, 32});
    }
  }
  const Rule rules[] = {Rule::kBudgetOnly, Rule::kTogether, Rule::kApartHosts, Rule::kApartDomains};
  for (int id = 0; id < 6; ++id)
    builder.group("group" + std::to_string(id), rules[id % 4], id % 4 == 0 ? 1 : 2);
  builder.cluster.qemu_series_meant = random.chance(0.5) ? *parse_qemu_series("8.2") : 0;
  std::vector<std::uint64_t> used_bytes(hosts, 0);
  for (std::uint64_t id = 0; id < hosts * 3; ++id) {
    const auto host = static_cast<HostId>(random.below(hosts));
    const Host& facts = builder.cluster.hosts[host];
    const std::uint64_t gib = 1 + random.below(5);
    if (used_bytes[host] + (gib + 1) * kGib > facts.memory_bytes / 4 * 3) continue;
    used_bytes[host] += (gib + 1) * kGib;
    builder.guest("g" + std::to_string(id), host, gib);
    Guest& guest = builder.cluster.guests.back();
    guest.cpu_level =
        std::min<std::uint32_t>(facts.cpu_level, 2 + static_cast<std::uint32_t>(random.below(2)));
    guest.policy = random.chance(0.1) ? Policy::kShutdown : Policy::kLive;
    guest.cpu_level_from_host = random.chance(0.5);
    guest.qemu_series = random.chance(0.1) ? 0 : facts.qemu_series;
    if (random.chance(0.3)) guest.groups = {static_cast<GroupId>(random.below(6))};
    if (random.chance(0.1)) {
      guest.one_numa_node = true;
      guest.numa_node = static_cast<std::uint32_t>(random.below(2));
    }
  }
  return builder.cluster;
}

TEST(RandomPlanTest, EveryPlanPassesTheChecker) {
  std::size_t complete = 0;
  std::size_t moves = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const Cluster cluster = random_cluster(random);
    PlanOptions options = simple_options(seed);
    options.search.schedules_max = 40;
    const std::vector<HostId> hosts = {static_cast<HostId>(random.below(cluster.hosts.size()))};
    const auto drain = plan_drain(cluster, hosts, options);
    if (!drain) continue;  // a contradiction among the groups
    ASSERT_THAT(check_plan(cluster, drain->moves,
                           {.emptied = drain->complete() ? hosts : std::vector<HostId>()}),
                IsEmpty());
    EXPECT_GE(drain->makespan_ms, drain->complete() ? drain->bound.ms : 0);
    complete += drain->complete() ? 1 : 0;

    std::vector<Destination> destinations;
    for (GuestId guest = 0; guest < cluster.guests.size(); ++guest) {
      const auto to = static_cast<HostId>(random.below(cluster.hosts.size()));
      if (to != cluster.guests[guest].host) destinations.push_back({guest, to});
    }
    const auto shuffle = plan_moves(cluster, destinations, options);
    ASSERT_TRUE(shuffle);
    ASSERT_THAT(check_plan(cluster, shuffle->moves, {}), IsEmpty());
    moves += shuffle->moves.size();
  }
  EXPECT_GT(complete, 100) << "the generator should mostly make clusters that can be drained";
  EXPECT_GT(moves, 2000);
}

TEST(RandomPlanTest, FixedMovesEndNearTheBound) {
  std::vector<double> ratios;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    Builder builder;
    for (int id = 0; id < 6; ++id)
      builder.host("h" + std::to_string(id), 256, kLinkRate * (1 + id % 2));
    std::vector<Destination> destinations;
    for (int id = 0; id < 60; ++id) {
      const auto from = static_cast<HostId>(random.below(6));
      const GuestId guest = builder.guest("g" + std::to_string(id), from, 1 + random.below(4));
      destinations.push_back({guest, static_cast<HostId>((from + 1 + random.below(5)) % 6)});
    }
    const auto plan = plan_moves(builder.cluster, destinations, simple_options(seed));
    ASSERT_TRUE(plan && plan->complete());
    ASSERT_THAT(check_plan(builder.cluster, plan->moves, {}), IsEmpty());
    ASSERT_GE(plan->makespan_ms, plan->bound.ms);
    ratios.push_back(static_cast<double>(plan->makespan_ms) / static_cast<double>(plan->bound.ms));
  }
  double sum = 0;
  for (const double ratio : ratios) {
    EXPECT_LE(ratio, 1.15);
    sum += ratio;
  }
  EXPECT_LE(sum / static_cast<double>(ratios.size()), 1.03);
}

TEST(RandomPlanTest, OneSeedGivesOnePlan) {
  const SyntheticOptions synthetic{.hosts = 100, .guests = 600, .seed = 3, .emptied_share = 0.2};
  const Cluster cluster = synthetic_cluster(synthetic);
  const auto first = plan_drain(cluster, synthetic_drain(synthetic), simple_options(5));
  const auto second = plan_drain(cluster, synthetic_drain(synthetic), simple_options(5));
  ASSERT_TRUE(first && second);
  ASSERT_EQ(first->moves.size(), second->moves.size());
  for (std::size_t i = 0; i < first->moves.size(); ++i) {
    EXPECT_EQ(first->moves[i].guest, second->moves[i].guest);
    EXPECT_EQ(first->moves[i].start_ms, second->moves[i].start_ms);
  }
}

// A tenth of what perf/planner times.
TEST(RandomPlanTest, FiveHundredHosts) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const SyntheticOptions synthetic{.hosts = 500, .guests = 3000, .seed = seed};
    const Cluster cluster = synthetic_cluster(synthetic);
    const std::vector<HostId> hosts = synthetic_drain(synthetic);
    const DurationModel model;
    PlanOptions options = simple_options(seed);
    options.move_time = [&](const Guest& guest, std::uint64_t rate) {
      return model.estimate(guest, rate).ms;
    };
    const auto plan = plan_drain(cluster, hosts, options);
    ASSERT_TRUE(plan) << plan.error().message;
    ASSERT_TRUE(plan->complete()) << plan->obstacles.front();
    EXPECT_THAT(check_plan(cluster, plan->moves, {.emptied = hosts}), IsEmpty());
    EXPECT_LE(plan->makespan_ms, plan->bound.ms * 105 / 100);
  }
}

}  // namespace
}  // namespace sluice::planner
