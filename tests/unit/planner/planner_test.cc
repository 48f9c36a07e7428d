// Hand-written clusters: what the planner does under each rule, and what it says when it cannot.
#include "control/planner/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/planner/checker.h"
#include "tests/unit/planner/builder.h"

namespace sluice::planner {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class PlannerTest : public testing::Test {
 protected:
  // The plan, checked.
  Plan drain(const std::vector<HostId>& hosts, const PlanOptions& options = simple_options()) {
    const auto plan = plan_drain(builder.cluster, hosts, options);
    EXPECT_TRUE(plan) << plan.error().message;
    if (!plan) return {};
    EXPECT_THAT(check_plan(builder.cluster, plan->moves,
                           {.emptied = plan->complete() ? hosts : std::vector<HostId>(),
                            .closed = options.closed,
                            .no_stop = options.no_stop}),
                IsEmpty());
    return *plan;
  }
  Plan bring(const std::vector<Destination>& destinations,
             const PlanOptions& options = simple_options()) {
    const auto plan = plan_moves(builder.cluster, destinations, options);
    EXPECT_TRUE(plan) << plan.error().message;
    if (!plan) return {};
    EXPECT_THAT(check_plan(builder.cluster, plan->moves,
                           {.closed = options.closed, .no_stop = options.no_stop}),
                IsEmpty());
    return *plan;
  }
  static HostId destination(const Plan& plan, GuestId guest) {
    HostId at = kNone;
    for (const Move& move : plan.moves) {
      if (move.guest == guest) at = move.to;
    }
    return at;
  }

  Builder builder;
};

TEST_F(PlannerTest, OneMigrationAtATimeFillsTheLinkAndMeetsTheBound) {
  const HostId h1 = builder.host("h1", 16);
  builder.host("h2", 16);
  builder.host("h3", 16);
  for (const std::uint64_t gib : {1, 2, 3, 4}) builder.guest("g" + std::to_string(gib), h1, gib);
  const Plan plan = drain({h1});
  EXPECT_TRUE(plan.complete());
  EXPECT_EQ(plan.makespan_ms, 10'000);
  EXPECT_EQ(plan.bound.ms, 10'000);
  EXPECT_EQ(plan.bound.reason, "link h1 transmit");
  for (std::size_t i = 1; i < plan.moves.size(); ++i)
    EXPECT_EQ(plan.moves[i].start_ms, plan.moves[i - 1].end_ms);
}

// A migration to a slower link than its host's leaves most of that to others, also for as long as
// it does nothing but begin.
TEST_F(PlannerTest, NoPlanIsBetterThanTheBoundOfUnequalLinks) {
  const HostId h1 = builder.host("h1", 16, 10 * kLinkRate);
  builder.host("h2", 16);
  builder.host("h3", 16);
  for (int i = 0; i < 10; ++i) builder.guest("g" + std::to_string(i), h1, 1);
  PlanOptions options = simple_options();
  options.move_time = [](const Guest& guest, std::uint64_t rate) {
    return 500 + guest.populated_bytes * 1000 / rate;
  };
  const Plan plan = drain({h1}, options);
  EXPECT_EQ(plan.makespan_ms, 7'500);
  EXPECT_EQ(plan.bound.ms, 5'000);
  EXPECT_EQ(plan.bound.reason, "the links into the other hosts");
}

TEST_F(PlannerTest, AsManyAtOnceAsFillALinkThatNoSessionFills) {
  const HostId h1 = builder.host("h1", 16, 4 * kLinkRate);
  builder.host("h2", 16, 4 * kLinkRate);
  builder.cluster.session_bytes_per_second = kLinkRate;
  for (int i = 0; i < 8; ++i) builder.guest("g" + std::to_string(i), h1, 1);
  EXPECT_EQ(drain({h1}).makespan_ms, 2'000);
}

TEST_F(PlannerTest, WhoIsToComeLaterKeepsNobodyWaiting) {
  const HostId h1 = builder.host("h1", 16);
  builder.host("h2", 16);
  builder.guest("large", h1, 4);
  const GuestId small = builder.guest("small", h1, 1);
  PlanOptions options = simple_options();
  EXPECT_EQ(drain({h1}, options).makespan_ms, 5'000);
  options.not_before_ms = {3'000, 0};
  const Plan plan = drain({h1}, options);
  ASSERT_EQ(plan.moves.size(), 2);
  EXPECT_EQ(plan.moves[0].guest, small);
  EXPECT_EQ(plan.moves[0].start_ms, 0);
  EXPECT_EQ(plan.moves[1].start_ms, 3'000);
  EXPECT_EQ(plan.makespan_ms, 7'000);
}

TEST_F(PlannerTest, DisjointLinksWorkInParallel) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  builder.host("h3", 8);
  builder.host("h4", 8);
  for (int i = 0; i < 4; ++i) builder.guest("g" + std::to_string(i), i < 2 ? h1 : h2, 2);
  EXPECT_EQ(drain({h1, h2}).makespan_ms, 4'000);
}

TEST_F(PlannerTest, NotAHostInMaintenanceNorOneOfALowerCpuLevel) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 64);
  const HostId h3 = builder.host("h3", 64);
  const HostId h4 = builder.host("h4", 8);
  builder.cluster.hosts[h2].maintenance = true;
  builder.cluster.hosts[h3].cpu_level = 2;
  const GuestId a = builder.guest("a", h1, 4);
  const GuestId b = builder.guest("b", h1, 2);
  EXPECT_EQ(destination(drain({h1}), a), h4);
  builder.cluster.hosts[h4].reserve_bytes = 3 * kGib;
  const Plan plan = drain({h1});
  EXPECT_EQ(plan.moves.size(), 1);
  EXPECT_NE(destination(plan, a), destination(plan, b));
  EXPECT_THAT(plan.obstacles, ElementsAre("guest b (2 GiB) fits no host: h4 lacks 1 GiB, h2 is in "
                                          "maintenance, h3 has CPU level 2 where it "
                                          "runs at 3; 1 GiB more on h4 would free it"));
}

TEST_F(PlannerTest, TheNewerHostIsNoTargetForAGuestThatRestartsAtItsLevel) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  builder.cluster.hosts[h2].cpu_level = 4;
  const GuestId a = builder.guest("a", h1, 1);
  EXPECT_TRUE(drain({h1}).complete()) << "alive it keeps its level and could come back";
  builder.cluster.guests[a].policy = Policy::kShutdown;
  builder.cluster.guests[a].cpu_level_from_host = true;
  EXPECT_THAT(drain({h1}).obstacles,
              ElementsAre("guest a (1 GiB) fits no host: h2 has a newer CPU from which it could "
                          "not come back to h1; starting "
                          "it at CPU level 3 would free it"));
  EXPECT_EQ(admission_level(builder.cluster, {h1, h2}), 3);
}

TEST_F(PlannerTest, ANewerQemuIsNoTargetUnlessItIsMeant) {
  const std::uint32_t older = *parse_qemu_series("7.2");
  const std::uint32_t newer = *parse_qemu_series("8.2");
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  const HostId h3 = builder.host("h3", 8);
  builder.cluster.hosts[h1].qemu_series = older;
  builder.cluster.hosts[h2].qemu_series = newer;
  const GuestId a = builder.guest("a", h1, 1);
  builder.cluster.guests[a].qemu_series = older;
  EXPECT_EQ(destination(drain({h1}), a), h3) << "of h3 nobody knows, so its agent decides";
  builder.cluster.hosts[h3].maintenance = true;
  EXPECT_THAT(
      drain({h1}).obstacles,
      ElementsAre("guest a (1 GiB) fits no host: h3 is in maintenance, h2 has QEMU 8.2, from "
                  "which it could not come back to h1 with 7.2; ending the maintenance of "
                  "h3 would free it"));
  builder.cluster.qemu_series_meant = newer;
  EXPECT_EQ(destination(drain({h1}), a), h2);
}

TEST_F(PlannerTest, NobodyGoesToAnOlderQemuThanItRunsOn) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  builder.cluster.hosts[h1].qemu_series = *parse_qemu_series("8.2");
  builder.cluster.hosts[h2].qemu_series = *parse_qemu_series("8.1");
  const GuestId a = builder.guest("a", h1, 1);
  EXPECT_TRUE(drain({h1}).complete()) << "without QEMU it goes anywhere";
  builder.cluster.guests[a].qemu_series = *parse_qemu_series("8.2");
  EXPECT_THAT(
      drain({h1}).obstacles,
      ElementsAre("guest a (1 GiB) fits no host: h2 has QEMU 8.1, older than the 8.2 that it "
                  "runs on; QEMU 8.2 on h2 would free it"));
  // Its host's was exchanged under it, and it runs on as it was started.
  builder.cluster.guests[a].qemu_series = *parse_qemu_series("8.1");
  EXPECT_TRUE(drain({h1}).complete());
}

// Those that exchange full hosts cannot stop where the second half of their way would be back.
TEST_F(PlannerTest, NoStopInBetweenOnANewerQemu) {
  const HostId h1 = builder.host("h1", 4);
  const HostId h2 = builder.host("h2", 4);
  const HostId h3 = builder.host("h3", 4);
  for (Host& host : builder.cluster.hosts) host.qemu_series = *parse_qemu_series("7.2");
  const GuestId a = builder.guest("a", h1, 4);
  const GuestId b = builder.guest("b", h2, 4);
  for (Guest& guest : builder.cluster.guests) guest.qemu_series = *parse_qemu_series("7.2");
  const std::vector<Destination> exchange = {{a, h2}, {b, h1}};
  EXPECT_TRUE(plan_moves(builder.cluster, exchange, simple_options())->complete());
  builder.cluster.hosts[h3].qemu_series = *parse_qemu_series("8.2");
  builder.cluster.qemu_series_meant = builder.cluster.hosts[h3].qemu_series;
  EXPECT_FALSE(plan_moves(builder.cluster, exchange, simple_options())->complete());
}

TEST(QemuSeries, IsReadFromAVersion) {
  EXPECT_EQ(qemu_series_text(*parse_qemu_series("7.2.22")), "7.2");
  EXPECT_EQ(parse_qemu_series("8.2"), parse_qemu_series("8.2.1"));
  EXPECT_LT(*parse_qemu_series("9.2"), *parse_qemu_series("10.0"));
  for (const char* const text :
       {"", "8", "8.", ".2", "8.x", "8.2x", "v8.2", "0.9", "8.1000", "4294967297.0"})
    EXPECT_FALSE(parse_qemu_series(text)) << text;
}

TEST_F(PlannerTest, GuestThatNeedsOneNumaNode) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  builder.cluster.hosts[h2].numa_nodes = {{4 * kGib, 32}, {4 * kGib, 32}};
  const GuestId a = builder.guest("a", h1, 3);
  const GuestId b = builder.guest("b", h1, 3);
  const GuestId c = builder.guest("c", h1, 2);
  for (const GuestId guest : {a, b, c}) builder.cluster.guests[guest].one_numa_node = true;
  const Plan plan = drain({h1});
  EXPECT_EQ(plan.moves.size(), 2);
  EXPECT_THAT(
      plan.obstacles,
      ElementsAre(
          "guest c (2 GiB) fits no host: h2 has no NUMA node that takes it whole, 1 GiB too "
          "few; 1 GiB more on one NUMA node of h2 would free it"));
}

TEST_F(PlannerTest, AntiAffinityIsNamedWithItsHolder) {
  const HostId h1 = builder.host("h1", 16);
  const HostId h2 = builder.host("h2", 16);
  const HostId h3 = builder.host("h3", 16);
  const GroupId db = builder.group("db", Rule::kApartHosts);
  builder.guest("db-3", h1, 16, {db});
  builder.guest("web", h2, 3);
  builder.guest("db-1", h3, 0, {db});
  EXPECT_THAT(drain({h1}).obstacles,
              ElementsAre("guest db-3 (16 GiB) fits no host: h2 lacks 3 GiB, h3 holds db-1 of its "
                          "anti-affinity group 'db'; 3 "
                          "GiB more on h2 would free it"));
}

TEST_F(PlannerTest, AntiAffinityOfFailureDomains) {
  const HostId h1 = builder.host("h1", 16);
  const HostId h2 = builder.host("h2", 16);
  const HostId h3 = builder.host("h3", 16);
  builder.cluster.hosts[h2].failure_domain = builder.cluster.hosts[h3].failure_domain;
  const GroupId db = builder.group("db", Rule::kApartDomains);
  builder.guest("db-1", h1, 1, {db});
  builder.guest("db-2", h3, 1, {db});
  EXPECT_THAT(drain({h1}).obstacles,
              ElementsAre("guest db-1 (1 GiB) fits no host: the failure domain of h2 holds db-2 of "
                          "its anti-affinity group "
                          "'db', the failure domain of h3 holds db-2 of its anti-affinity group "
                          "'db'; moving db-2 away from "
                          "there would free it"));
}

TEST_F(PlannerTest, TiedGuestsTravelAsAConvoy) {
  const HostId h1 = builder.host("h1", 8);
  builder.host("h2", 5);
  builder.host("h3", 5);
  const GroupId pair = builder.group("pair", Rule::kTogether);
  const GuestId a = builder.guest("a", h1, 2, {pair});
  const GuestId b = builder.guest("b", h1, 2, {pair});
  builder.guest("c", h1, 3);
  const Plan plan = drain({h1});
  EXPECT_TRUE(plan.complete());
  EXPECT_EQ(destination(plan, a), destination(plan, b));
  builder.cluster.hosts[h1].memory_bytes = 64 * kGib;
  builder.guest("d", h1, 3, {pair});
  EXPECT_THAT(
      drain({h1}).obstacles,
      testing::Contains("guests a and 2 more must stay together (7 GiB), and no host takes them "
                        "all; make room on one or take them out of their group"));
}

TEST_F(PlannerTest, TiedGuestsAreNotTornByFixedDestinations) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  const GroupId pair = builder.group("pair", Rule::kTogether);
  const GuestId a = builder.guest("a", h1, 1, {pair});
  const GuestId b = builder.guest("b", h1, 1, {pair});
  EXPECT_THAT(bring({{a, h2}}).obstacles,
              ElementsAre(HasSubstr("guest a cannot go to h2 without the guests")));
  EXPECT_TRUE(bring({{a, h2}, {b, h2}}).complete());
}

TEST_F(PlannerTest, BudgetLimitsWhatMovesAtOnce) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 8);
  builder.host("h3", 8);
  builder.host("h4", 8);
  const GroupId web = builder.group("web", Rule::kBudgetOnly, 1);
  builder.guest("a", h1, 2, {web});
  builder.guest("b", h2, 2, {web});
  EXPECT_EQ(drain({h1, h2}).makespan_ms, 4'000);
  builder.cluster.groups[web].moving_max = 2;
  EXPECT_EQ(drain({h1, h2}).makespan_ms, 2'000);
}

TEST_F(PlannerTest, PoliciesNeverAndShutdown) {
  const HostId h1 = builder.host("h1", 8);
  builder.host("h2", 8);
  const GroupId pair = builder.group("pair", Rule::kTogether);
  const GuestId a = builder.guest("a", h1, 1, {pair});
  builder.guest("b", h1, 1, {pair});
  const GuestId c = builder.guest("c", h1, 1);
  builder.cluster.guests[a].policy = Policy::kNever;
  builder.cluster.guests[c].policy = Policy::kShutdown;
  const Plan plan = drain({h1});
  EXPECT_THAT(
      plan.obstacles,
      ElementsAre("guest a cannot leave h1: its policy is never; shut it down or change its policy",
                  "guest b cannot leave h1: it is tied to a, whose policy is never"));
  ASSERT_EQ(plan.moves.size(), 1);
  EXPECT_EQ(plan.moves[0].bytes_per_second, 0);
  EXPECT_EQ(plan.makespan_ms, 60'000);
}

TEST_F(PlannerTest, FullHostsExchangeGuestsByAStopInBetween) {
  const HostId h1 = builder.host("h1", 4);
  const HostId h2 = builder.host("h2", 4);
  const HostId h3 = builder.host("h3", 4);
  const GuestId a = builder.guest("a", h1, 4);
  const GuestId b = builder.guest("b", h2, 3);
  const Plan plan = bring({{a, h2}, {b, h1}});
  EXPECT_TRUE(plan.complete()) << plan.obstacles.front();
  EXPECT_EQ(plan.stops, 1);
  ASSERT_EQ(plan.moves.size(), 3);
  EXPECT_EQ(plan.moves[0].guest, b) << "the smaller one makes the detour";
  EXPECT_EQ(plan.moves[0].to, h3);
  builder.guest("c", h3, 2);
  EXPECT_THAT(bring({{a, h2}, {b, h1}}).obstacles,
              ElementsAre("guest a (h1 to h2), b (h2 to h1) wait for each other's room, and no "
                          "host has room for a stop in "
                          "between; 1 GiB more on h3 would free them"));
}

TEST_F(PlannerTest, NoStopOnAHostThatIsClosedForThem) {
  const HostId h1 = builder.host("h1", 4);
  const HostId h2 = builder.host("h2", 4);
  builder.host("closed", 16);
  const HostId h4 = builder.host("h4", 4);
  const GuestId a = builder.guest("a", h1, 4);
  const GuestId b = builder.guest("b", h2, 4);
  PlanOptions options = simple_options();
  options.no_stop = {true, true, true, false};
  const Plan plan = bring({{a, h2}, {b, h1}}, options);
  EXPECT_TRUE(plan.complete()) << "where they go they may";
  EXPECT_EQ(plan.moves[0].to, h4);
  options.no_stop[h4] = true;
  EXPECT_FALSE(bring({{a, h2}, {b, h1}}, options).complete());
  options.no_stop = {};
  options.closed = {false, false, true, true};
  EXPECT_FALSE(bring({{a, h2}, {b, h1}}, options).complete());
}

TEST_F(PlannerTest, ARingOfFullHosts) {
  std::vector<HostId> hosts;
  std::vector<Destination> destinations;
  for (int i = 0; i < 5; ++i) hosts.push_back(builder.host("h" + std::to_string(i), 4));
  builder.host("spare", 4);
  for (int i = 0; i < 5; ++i) {
    destinations.push_back(
        {builder.guest("g" + std::to_string(i), hosts[i], 4), hosts[(i + 1) % 5]});
  }
  const Plan plan = bring(destinations);
  EXPECT_TRUE(plan.complete());
  EXPECT_EQ(plan.stops, 1);
}

TEST_F(PlannerTest, DestinationThatCannotBe) {
  const HostId h1 = builder.host("h1", 8);
  const HostId h2 = builder.host("h2", 4);
  const GuestId a = builder.guest("a", h1, 6);
  EXPECT_THAT(
      bring({{a, h2}}).obstacles,
      ElementsAre(
          "guest a (6 GiB) cannot go to h2: h2 lacks 2 GiB; 2 GiB more on h2 would free it"));
  EXPECT_THAT(plan_moves(builder.cluster, {{a, h1}}, simple_options()).error().message,
              "guest a is on h1 already");
  EXPECT_THAT(plan_moves(builder.cluster, {{a, h2}, {a, h2}}, simple_options()).error().message,
              HasSubstr("guest a has two destinations"));
}

TEST_F(PlannerTest, AClosedHostThatWouldTakeAGuestIsNamed) {
  const HostId h1 = builder.host("h1", 8);
  builder.host("h2", 8);
  builder.host("h3", 2);
  builder.host("h4", 8);
  builder.guest("a", h1, 4);
  PlanOptions options = simple_options();
  options.closed = {false, true, true, true};
  options.to_open = {"", "uncordon h2", "uncordon h3", ""};
  EXPECT_THAT(drain({h1}, options).obstacles,
              testing::Contains("guest a (4 GiB) fits no host: there is no other host that takes "
                                "guests in; uncordon h2"));
  options.closed[2] = false;
  EXPECT_THAT(drain({h1}, options).obstacles,
              testing::Contains("guest a (4 GiB) fits no host: h3 lacks 2 GiB; 2 GiB more on h3 "
                                "would free it, or uncordon h2"));
}

TEST_F(PlannerTest, WhatIsMissingIsToldByDomainsWhereTheyHaveSeveralHosts) {
  const HostId h0 = builder.host("h0", 64);
  for (int i = 1; i <= 6; ++i) builder.host("h" + std::to_string(i), static_cast<std::uint64_t>(i));
  builder.guest("a", h0, 40);
  const auto said = [&] {
    const std::string line = drain({h0}).shortage;
    return line.substr(line.find('(') + 1, line.find(')') - line.find('(') - 1);
  };
  EXPECT_EQ(said(), "h6 6 GiB, h5 5 GiB, h4 4 GiB, h3 3 GiB, the others less");
  for (HostId host = 1; host <= 6; ++host)
    builder.cluster.hosts[host].failure_domain = host <= 3 ? 1 : 2;
  EXPECT_EQ(said(), "the domain of h4 15 GiB, the domain of h1 6 GiB");
  builder.cluster.domain_names = {"", "rack-1", "rack-2"};
  EXPECT_EQ(said(), "rack-2 15 GiB, rack-1 6 GiB");
}

TEST_F(PlannerTest, ClusterWithoutRoomSaysHowMuchIsMissingAndWhere) {
  const HostId h1 = builder.host("h1", 16);
  const HostId h2 = builder.host("h2", 8);
  const HostId h3 = builder.host("h3", 8);
  for (int i = 0; i < 4; ++i) builder.guest("g" + std::to_string(i), h1, 4);
  builder.guest("x", h2, 2);
  builder.guest("y", h3, 7);
  const Plan plan = drain({h1});
  ASSERT_EQ(plan.obstacles.size(), 4);
  EXPECT_EQ(plan.obstacles[0],
            "9 GiB of memory are missing: 16 GiB must leave, the 2 open hosts have 7 GiB free (h2 "
            "6 GiB, h3 1 GiB); empty fewer "
            "hosts at once, or add memory");
  EXPECT_EQ(plan.moves.size(), 1) << "what can move is planned all the same";
  EXPECT_EQ(plan.shortage, plan.obstacles[0]);
}

// Also of those for which a plan for people has no line any more.
TEST_F(PlannerTest, EveryGuestThatStaysHasItsOwnReason) {
  const HostId h1 = builder.host("h1", 64);
  const HostId h2 = builder.host("h2", 64);
  builder.cluster.hosts[h2].cpu_level = 2;
  for (int i = 1; i <= 30; ++i) builder.guest("g" + std::to_string(i), h1, 1);
  builder.cluster.guests[4].policy = Policy::kNever;
  const Plan plan = drain({h1});
  EXPECT_LT(plan.obstacles.size(), 30);
  ASSERT_EQ(plan.obstacle_of.size(), 30);
  for (const auto& [guest, why] : plan.obstacle_of)
    EXPECT_THAT(why, testing::StartsWith("guest " + builder.cluster.guests[guest].name + " "));
  // With fixed destinations too, and where they wait for each other.
  const HostId h3 = builder.host("h3", 30);
  EXPECT_THAT(bring({{0, h2}, {1, h3}}).obstacle_of,
              ElementsAre(testing::Pair(0, HasSubstr("guest g1 (1 GiB) cannot go to h2"))));
  const GuestId full = builder.guest("full", h3, 30);
  builder.cluster.hosts[h1].memory_bytes = 30 * kGib;
  const Plan exchange = bring({{1, h3}, {full, h1}});
  EXPECT_EQ(exchange.obstacle_of.size(), 2) << exchange.obstacles.front();
}

TEST_F(PlannerTest, LargeGuestsTakeTheLargeRoomFirst) {
  const HostId h1 = builder.host("h1", 16);
  builder.host("h2", 9);
  builder.host("h3", 4);
  builder.guest("small1", h1, 2);
  builder.guest("small2", h1, 2);
  builder.guest("large", h1, 9);
  EXPECT_TRUE(drain({h1}).complete());
}

TEST_F(PlannerTest, AffinitiesThatContradictEachOther) {
  const HostId h1 = builder.host("h1", 16);
  const GroupId x = builder.group("x", Rule::kTogether);
  const GroupId y = builder.group("y", Rule::kTogether);
  const GroupId z = builder.group("z", Rule::kApartHosts);
  builder.guest("a", h1, 1, {x, z});
  builder.guest("b", h1, 1, {x, y});
  builder.guest("c", h1, 1, {y, z});
  EXPECT_EQ(plan_drain(builder.cluster, {h1}, simple_options()).error().message,
            "groups contradict each other: a with b by 'x', b with c by 'y' must be together, but "
            "'z' keeps a and c apart; "
            "take one of them out of a group");
}

TEST_F(PlannerTest, BadModelsAreNamed) {
  const HostId h1 = builder.host("h1", 16);
  builder.guest("a", h1, 1);
  EXPECT_TRUE(validate(builder.cluster));
  const auto refused = [&](auto&& change) {
    Cluster cluster = builder.cluster;
    change(cluster);
    const auto valid = validate(cluster);
    return valid ? std::string("accepted") : valid.error().message;
  };
  EXPECT_THAT(refused([](Cluster& c) { c.hosts.push_back(c.hosts[0]); }),
              HasSubstr("host h1 is there twice"));
  EXPECT_THAT(refused([](Cluster& c) { c.links[1].bytes_per_second = 0; }),
              HasSubstr("link h1 receive has no rate"));
  EXPECT_THAT(refused([](Cluster& c) { c.guests[0].host = 7; }),
              HasSubstr("guest a is on a host that does not exist"));
  EXPECT_THAT(refused([](Cluster& c) { c.hosts[0].reserve_bytes = 17 * kGib; }),
              HasSubstr("h1 reserves more"));
  constexpr std::uint64_t kEightEib = 1ULL << 63;
  EXPECT_THAT(refused([](Cluster& c) { c.guests[0].memory_bytes = kEightEib; }),
              HasSubstr("guest a has more memory"));
  EXPECT_THAT(refused([](Cluster& c) { c.hosts[0].memory_bytes = kEightEib; }),
              HasSubstr("host h1 has more memory"));
  EXPECT_THAT(refused([](Cluster& c) { c.hosts[0].guest_overhead_bytes = kEightEib; }),
              HasSubstr("host h1 has more memory"));
  EXPECT_THAT(refused([](Cluster& c) { c.guests[0].groups = {3}; }), HasSubstr("a is in a group"));
  EXPECT_THAT(refused([](Cluster& c) {
                c.switches = {{"s", 1, 0, 1}, {"t", 0, 0, 1}};
              }),
              HasSubstr("switch s is its own ancestor"));
}

}  // namespace
}  // namespace sluice::planner
