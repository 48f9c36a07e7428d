// A plan for each rule that breaks just this rule: the checker must name it, and must let the
// mended plan pass.
#include "control/planner/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/planner/builder.h"

namespace sluice::planner {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CheckerTest : public testing::Test {
 protected:
  static Move move(GuestId guest, HostId from, HostId to, std::uint64_t start_ms,
                   std::uint64_t end_ms) {
    return {.guest = guest,
            .from = from,
            .to = to,
            .bytes_per_second = kLinkRate,
            .start_ms = start_ms,
            .end_ms = end_ms};
  }
  [[nodiscard]] std::vector<std::string> check(const std::vector<Move>& moves,
                                               const CheckOptions& options = {}) const {
    return check_plan(builder.cluster, moves, options);
  }

  Builder builder;
  HostId h1 = builder.host("h1", 8);
  HostId h2 = builder.host("h2", 8);
  HostId h3 = builder.host("h3", 8);
};

TEST_F(CheckerTest, LinkIsFullDuplexAndNeverOverbooked) {
  const GuestId a = builder.guest("a", h1, 2);
  const GuestId b = builder.guest("b", h1, 2);
  const GuestId c = builder.guest("c", h2, 2);
  EXPECT_THAT(
      check({move(a, h1, h2, 0, 2000), move(c, h2, h1, 0, 2000), move(b, h1, h2, 2000, 4000)}),
      IsEmpty());
  EXPECT_THAT(check({move(a, h1, h2, 0, 2000), move(b, h1, h3, 1999, 4000)}),
              ElementsAre(HasSubstr("at 1999 ms: link h1 transmit carries more than its rate")));
}

TEST_F(CheckerTest, LinkBetweenSwitches) {
  const LinkId up = static_cast<LinkId>(builder.cluster.links.size());
  builder.cluster.links.push_back({"leaf up", kLinkRate});
  builder.cluster.links.push_back({"leaf down", kLinkRate});
  builder.cluster.switches = {{"leaf", 1, up, up + 1}, {.name = "core"}};
  for (const HostId host : {h1, h2}) builder.cluster.hosts[host].attached_to = 0;
  builder.cluster.hosts[h3].attached_to = 1;
  const HostId h4 = builder.host("h4", 8);
  builder.cluster.hosts[h4].attached_to = 1;
  const GuestId a = builder.guest("a", h1, 2);
  const GuestId b = builder.guest("b", h2, 2);
  ASSERT_TRUE(validate(builder.cluster));
  EXPECT_EQ(path(builder.cluster, h1, h3).size(), 3);
  EXPECT_EQ(path(builder.cluster, h1, h2).size(), 2);
  EXPECT_THAT(check({move(a, h1, h3, 0, 2000), move(b, h2, h4, 0, 2000)}),
              testing::Each(HasSubstr("link leaf up carries more")));
  EXPECT_THAT(check({move(a, h1, h3, 0, 2000), move(b, h2, h4, 2000, 4000)}), IsEmpty());
}

TEST_F(CheckerTest, MemoryIsTakenAtBothEndsWhileAGuestMoves) {
  const GuestId a = builder.guest("a", h1, 6);
  const GuestId b = builder.guest("b", h2, 6);
  EXPECT_THAT(check({move(b, h2, h3, 0, 6000), move(a, h1, h2, 5000, 11000)}),
              ElementsAre(HasSubstr("h2 lacks 4 GiB for a")));
  EXPECT_THAT(check({move(b, h2, h3, 0, 6000), move(a, h1, h2, 6000, 12000)}), IsEmpty());
}

TEST_F(CheckerTest, ReserveAndOverheadCount) {
  const GuestId a = builder.guest("a", h1, 4);
  builder.cluster.hosts[h2].reserve_bytes = 4 * kGib;
  EXPECT_THAT(check({move(a, h1, h2, 0, 4000)}), IsEmpty());
  builder.cluster.hosts[h2].guest_overhead_bytes = kGib / 2;
  EXPECT_THAT(check({move(a, h1, h2, 0, 4000)}), ElementsAre(HasSubstr("h2 lacks 512 MiB")));
}

TEST_F(CheckerTest, CoresCpuLevelMaintenanceAndPolicy) {
  const GuestId a = builder.guest("a", h1, 1);
  const std::vector<Move> moves = {move(a, h1, h2, 0, 1000)};
  const auto broken_by = [&](auto&& change) {
    const Cluster intact = builder.cluster;
    change();
    auto violations = check(moves);
    builder.cluster = intact;
    return violations;
  };
  EXPECT_THAT(broken_by([&] { builder.cluster.hosts[h2].cores = 0; }),
              ElementsAre(HasSubstr("lacks cores")));
  EXPECT_THAT(broken_by([&] { builder.cluster.hosts[h2].cpu_level = 2; }),
              ElementsAre(HasSubstr("cannot run on the CPU")));
  EXPECT_THAT(broken_by([&] { builder.cluster.hosts[h2].maintenance = true; }),
              ElementsAre(HasSubstr("in maintenance")));
  EXPECT_THAT(broken_by([&] { builder.cluster.guests[a].policy = Policy::kNever; }),
              ElementsAre(HasSubstr("never")));
  EXPECT_THAT(check(moves), IsEmpty());
}

TEST_F(CheckerTest, RestartOnANewerCpuLosesTheWayBack) {
  const GuestId a = builder.guest("a", h1, 1);
  builder.cluster.guests[a].policy = Policy::kShutdown;
  builder.cluster.guests[a].cpu_level_from_host = true;
  EXPECT_THAT(check({move(a, h1, h2, 0, 60000)}), IsEmpty());
  builder.cluster.hosts[h2].cpu_level = 4;
  EXPECT_THAT(check({move(a, h1, h2, 0, 60000)}), ElementsAre(HasSubstr("no way back")));
}

TEST_F(CheckerTest, ANewerQemuIsADoorOfOneWay) {
  const std::uint32_t older = *parse_qemu_series("7.2");
  const std::uint32_t newer = *parse_qemu_series("8.2");
  const GuestId a = builder.guest("a", h1, 1);
  builder.cluster.guests[a].qemu_series = older;
  for (const HostId host : {h1, h3}) builder.cluster.hosts[host].qemu_series = older;
  builder.cluster.hosts[h2].qemu_series = newer;
  EXPECT_THAT(check({move(a, h1, h3, 0, 1000), move(a, h3, h1, 1000, 2000)}), IsEmpty());
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}),
              ElementsAre(HasSubstr("a has no way back from the newer QEMU of h2")));
  builder.cluster.qemu_series_meant = newer;
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}), IsEmpty());
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000), move(a, h2, h3, 1000, 2000)}),
              ElementsAre(HasSubstr("at 1000 ms: a goes to the older QEMU of h3")));
  builder.cluster.guests[a].policy = Policy::kShutdown;
  EXPECT_THAT(check({move(a, h1, h2, 0, 60000), move(a, h2, h3, 60000, 120000)}), IsEmpty())
      << "it starts anew";
}

TEST_F(CheckerTest, NumaNodeIsNotOverfilled) {
  builder.cluster.hosts[h2].numa_nodes = {{4 * kGib, 32}, {4 * kGib, 32}};
  const GuestId a = builder.guest("a", h1, 3);
  const GuestId b = builder.guest("b", h1, 3);
  for (const GuestId guest : {a, b}) builder.cluster.guests[guest].one_numa_node = true;
  std::vector<Move> moves = {move(a, h1, h2, 0, 3000), move(b, h1, h2, 3000, 6000)};
  EXPECT_THAT(check(moves), testing::Contains(HasSubstr("has no NUMA node on h2")));
  moves[0].to_numa_node = 0;
  moves[1].to_numa_node = 0;
  EXPECT_THAT(check(moves), ElementsAre(HasSubstr("NUMA node 0 of h2 is overfull")));
  moves[1].to_numa_node = 1;
  EXPECT_THAT(check(moves), IsEmpty());
}

TEST_F(CheckerTest, AntiAffinityHoldsWhileAMemberLeaves) {
  const GroupId db = builder.group("db", Rule::kApartHosts);
  const GuestId a = builder.guest("a", h1, 1, {db});
  const GuestId b = builder.guest("b", h2, 1, {db});
  EXPECT_THAT(check({move(b, h2, h3, 0, 1000), move(a, h1, h2, 500, 1500)}),
              ElementsAre(HasSubstr("group 'db' keeps apart what meets at h2")));
  EXPECT_THAT(check({move(b, h2, h3, 0, 1000), move(a, h1, h2, 1000, 2000)}), IsEmpty());
}

TEST_F(CheckerTest, AntiAffinityOfFailureDomains) {
  const GroupId db = builder.group("db", Rule::kApartDomains);
  const GuestId a = builder.guest("a", h1, 1, {db});
  builder.guest("b", h3, 1, {db});
  builder.cluster.hosts[h3].failure_domain = builder.cluster.hosts[h2].failure_domain;
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}), ElementsAre(HasSubstr("group 'db' keeps apart")));
  builder.cluster.hosts[h1].failure_domain = builder.cluster.hosts[h2].failure_domain;
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}), IsEmpty()) << "it is no worse than before";
}

TEST_F(CheckerTest, TogetherWithoutAPause) {
  const GroupId pair = builder.group("pair", Rule::kTogether);
  const GuestId a = builder.guest("a", h1, 1, {pair});
  const GuestId b = builder.guest("b", h1, 1, {pair});
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000), move(b, h1, h2, 1000, 2000)}), IsEmpty());
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000), move(b, h1, h2, 1001, 2001)}),
              ElementsAre(HasSubstr("at 1000 ms: group 'pair' is left apart")));
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}), ElementsAre(HasSubstr("left apart")));
}

TEST_F(CheckerTest, DisruptionBudget) {
  const GroupId web = builder.group("web", Rule::kBudgetOnly, 1);
  const GuestId a = builder.guest("a", h1, 1, {web});
  const GuestId b = builder.guest("b", h2, 1, {web});
  EXPECT_THAT(check({move(a, h1, h3, 0, 1000), move(b, h2, h1, 0, 1000)}),
              testing::Contains(HasSubstr("more of group 'web' on the move")));
  EXPECT_THAT(check({move(a, h1, h3, 0, 1000), move(b, h2, h1, 1000, 2000)}), IsEmpty());
}

TEST_F(CheckerTest, GuestsAreWhereTheirMovesSay) {
  const GuestId a = builder.guest("a", h1, 1);
  EXPECT_THAT(check({move(a, h2, h3, 0, 1000)}),
              testing::Contains(HasSubstr("a leaves h2 but is not there")));
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000), move(a, h1, h3, 500, 1500)}),
              testing::Contains(HasSubstr("moves twice at once")));
  EXPECT_THAT(check({move(a, h1, h1, 0, 1000)}), ElementsAre(HasSubstr("a move without")));
  EXPECT_THAT(check({move(a, h1, h2, 0, 999)}),
              ElementsAre(HasSubstr("before its memory can have")));
}

TEST_F(CheckerTest, ClosedHostsTakeNobodyInAndOthersArePassedByNobody) {
  const GuestId a = builder.guest("a", h1, 2);
  const std::vector<Move> way = {move(a, h1, h2, 0, 2000), move(a, h2, h3, 2000, 4000)};
  EXPECT_THAT(check(way, {.closed = {true, false, false}}), IsEmpty());
  EXPECT_THAT(check(way, {.closed = {false, true, false}}),
              ElementsAre(HasSubstr("a goes to h2, which is closed")));
  EXPECT_THAT(check(way, {.no_stop = {true, false, true}}), IsEmpty());
  EXPECT_THAT(check(way, {.no_stop = {false, true, false}}),
              ElementsAre(HasSubstr("a makes a stop on h2, which is closed")));
}

TEST_F(CheckerTest, EmptiedHostsEndEmptyAndTakeNobodyIn) {
  const GuestId a = builder.guest("a", h1, 1);
  EXPECT_THAT(check({}, {.emptied = {h1}}), ElementsAre(HasSubstr("a is still on h1")));
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}, {.emptied = {h1}}), IsEmpty());
  EXPECT_THAT(check({move(a, h1, h2, 0, 1000)}, {.emptied = {h1, h2}}),
              ElementsAre(HasSubstr("h2, which is to be emptied"), HasSubstr("a is still on h2")));
}

}  // namespace
}  // namespace sluice::planner
