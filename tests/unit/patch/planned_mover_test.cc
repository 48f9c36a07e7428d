// What is under way already binds what may begin.
#include "control/patch/planned_mover.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace sluice::patch {
namespace {

constexpr std::uint64_t kGib = 1ULL << 30;

// h1, h2 and h3 of 16 GiB each; guests of 4 GiB.
class PlannedMoverTest : public testing::Test {
 protected:
  PlannedMoverTest() {
    for (const char* name : {"h1", "h2", "h3"}) {
      planner::Host host;
      host.name = name;
      host.memory_bytes = 16 * kGib;
      host.cores = 64;
      for (auto* link : {&host.transmit, &host.receive}) {
        *link = static_cast<planner::LinkId>(cluster_.links.size());
        cluster_.links.push_back({host.name + (link == &host.transmit ? " out" : " in"), kGib});
      }
      host.failure_domain = static_cast<std::uint32_t>(cluster_.hosts.size());
      cluster_.hosts.push_back(host);
      facts_.hosts[name].reachable = true;
    }
    query_.facts = &facts_;
  }

  void add_guest(const std::string& name, const std::string& host,
                 std::vector<planner::GroupId> groups = {}) {
    planner::Guest guest;
    guest.name = name;
    guest.host = 0;
    guest.memory_bytes = 4 * kGib;
    guest.populated_bytes = guest.memory_bytes;
    guest.groups = std::move(groups);
    cluster_.guests.push_back(guest);
    facts_.guests[name] = {host};
  }
  void empty(const std::string& host) {
    query_.emptying.insert(host);
    query_.closed.insert(host);
  }
  [[nodiscard]] PlannedMover mover() const {
    return {cluster_, [](const planner::Guest& guest, std::uint64_t bytes_per_second) {
              return guest.populated_bytes * 1000 / bytes_per_second;
            }};
  }
  // "g1 h1 h2", one of each move that may begin.
  [[nodiscard]] std::vector<std::string> begun() const {
    std::vector<std::string> moves;
    const MoveAnswer answer = mover().propose(query_);
    EXPECT_TRUE(answer.stuck.empty()) << answer.stuck.begin()->second;
    for (const Move& move : answer.start)
      moves.push_back(move.guest + " " + move.from + " " + move.to);
    return moves;
  }

  planner::Cluster cluster_;
  Facts facts_;
  MoveQuery query_;
};

using Moves = std::vector<std::string>;

TEST_F(PlannedMoverTest, AGroupsBudgetCountsMovesUnderWay) {
  cluster_.groups = {{.name = "db", .moving_max = 1}};
  add_guest("g1", "h2", {0});
  add_guest("g2", "h1", {0});
  empty("h1");
  query_.closed.insert("h2");
  query_.under_way = {{"g1", "h2", "h1", ""}};
  EXPECT_EQ(begun(), Moves{});
  query_.under_way_unwatched = std::exchange(query_.under_way, {});
  EXPECT_EQ(begun(), Moves{});
  query_.under_way_unwatched.clear();
  EXPECT_EQ(begun(), Moves{"g2 h1 h3"});
}

TEST_F(PlannedMoverTest, AGuestIsKeptApartFromOneThatIsStillLeaving) {
  cluster_.groups = {{.name = "db", .rule = planner::Rule::kApartHosts}};
  add_guest("g1", "h1", {0});
  add_guest("g2", "h3", {0});
  empty("h3");
  query_.under_way = {{"g1", "h1", "h2", ""}};
  // Its place is h1, once g1 has left it.
  EXPECT_EQ(begun(), Moves{});
  facts_.guests["g1"].host = "h2";
  query_.under_way.clear();
  EXPECT_EQ(begun(), Moves{"g2 h3 h1"});
}

TEST_F(PlannedMoverTest, NobodyWaitsForALinkThatMayStayTakenForEver) {
  add_guest("g1", "h1");
  add_guest("g2", "h1");
  empty("h1");
  query_.closed.insert("h3");
  query_.under_way = {{"g1", "h1", "h2", ""}};
  EXPECT_EQ(begun(), Moves{});
  query_.under_way_unwatched = std::exchange(query_.under_way, {});
  EXPECT_EQ(begun(), Moves{"g2 h1 h2"});
}

TEST_F(PlannedMoverTest, ACanaryNeedsRoomAtThisMoment) {
  for (const char* name : {"g1", "g2", "g3", "g4"}) add_guest(name, "h2");
  add_guest("canary", "h1");
  query_.closed = {"h3"};
  query_.under_way = {{"g1", "h2", "h3", ""}};
  EXPECT_EQ(mover().target_for("canary", query_), "");
  facts_.guests["g1"].host = "h3";
  query_.under_way.clear();
  EXPECT_EQ(mover().target_for("canary", query_), "h2");
}

TEST_F(PlannedMoverTest, NothingComesHomeFromAHostThatDoesNotAnswer) {
  add_guest("g1", "h2");
  query_.homecoming["g1"] = "h1";
  EXPECT_EQ(begun(), Moves{"g1 h2 h1"});
  facts_.hosts["h2"].reachable = false;
  EXPECT_EQ(begun(), Moves{});
}

}  // namespace
}  // namespace sluice::patch
