// What is under way already binds what may begin.
#include "control/patch/planned_mover.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
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
              const bool restarts = guest.policy == planner::Policy::kShutdown;
              return restarts ? 60'000 : guest.populated_bytes * 1000 / bytes_per_second;
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

TEST_F(PlannedMoverTest, AGroupsBudgetCountsGuestsThatAreBeingStarted) {
  cluster_.groups = {{.name = "db", .moving_max = 1}};
  add_guest("g1", "", {0});
  add_guest("g2", "h1", {0});
  facts_.guests.erase("g1");
  empty("h1");
  query_.down["g1"] = {"h2", true};
  query_.resting = {"g1"};
  EXPECT_EQ(begun(), Moves{});
  // One that waits for its host may do so for long.
  query_.down["g1"].starting = false;
  EXPECT_EQ(begun(), Moves{"g2 h1 h3"});
  query_.down["g1"].returning = true;
  EXPECT_EQ(begun(), Moves{});
  cluster_.groups[0].moving_max = 2;
  EXPECT_EQ(begun(), Moves{"g2 h1 h3"});
  // Those of no group, or of another one, wait for nobody.
  cluster_.groups[0].moving_max = 1;
  cluster_.guests[1].memory_bytes = cluster_.guests[1].populated_bytes = 8 * kGib;
  add_guest("g3", "h1");
  EXPECT_EQ(begun(), Moves{"g3 h1 h2"});
}

TEST_F(PlannedMoverTest, GuestsTiedTogetherKeepTheirGroupsBudget) {
  for (const std::uint32_t limit : {0U, 1U, 2U}) {
    cluster_.groups = {{.name = "db", .rule = planner::Rule::kTogether, .moving_max = limit}};
    cluster_.guests.clear();
    facts_.guests.clear();
    query_.under_way.clear();
    for (const char* name : {"g1", "g2", "g3"}) add_guest(name, "h1", {0});
    empty("h1");
    const auto first = mover().propose(query_).start;
    ASSERT_EQ(first.size(), limit == 0 ? 3U : limit);
    // Those that are left follow when these have arrived, to where they are.
    query_.under_way = first;
    EXPECT_EQ(begun(), Moves{});
    query_.under_way.clear();
    for (const Move& move : first) facts_.guests[move.guest].host = move.to;
    const auto next = mover().propose(query_).start;
    ASSERT_EQ(next.size(), limit == 0 ? 0U : 1U);
    if (limit != 0) {
      EXPECT_EQ(next[0].to, first[0].to);
    }
  }
}

// What `run` would ask the planner now.
class Asked final : public Mover {
 public:
  MoveAnswer propose(const MoveQuery& query) const override {
    down = query.down;
    return {};
  }
  [[nodiscard]] bool has_room(const MoveQuery& /*query*/) const override { return true; }
  [[nodiscard]] std::string target_for(const std::string& /*guest*/,
                                       const MoveQuery& /*query*/) const override {
    return {};
  }
  mutable std::map<std::string, Down> down;
};

Run draining(const std::string& id, const std::string& host) {
  Run run(id);
  std::vector<Record> records = {
      {1, Created{fmt::format("name = 'd'\nhosts = ['{}']\ndrain_only = true\n", host)}},
      {1, RunStep{RunEvent::kAdmit, ""}},
      {1, RunStep{RunEvent::kStart, ""}},
      {1, HostStep{host, HostEvent::kBegin, ""}},
      {1, Baseline{host, "boot", "", "", {}}},
      {1, HostStep{host, HostEvent::kReady, ""}},
      {1, HostStep{host, HostEvent::kDrainStarted, ""}}};
  for (const auto& record : records) EXPECT_TRUE(run.apply(record));
  return run;
}

TEST_F(PlannedMoverTest, IsToldOfTheGuestsThatOtherRunsStart) {
  patch::Run other = draining("r1", "h1");
  const patch::Run own = draining("r2", "h2");
  facts_.guests["g2"] = {"h2"};
  const auto asked = [&] {
    Facts facts = facts_;
    note_moves(facts, "r2", {&other, &own}, {});
    const Asked mover;
    Patience patience;
    EXPECT_TRUE(own.decide(facts, mover, patience).empty());
    return mover.down;
  };
  using Downs = std::map<std::string, Down>;
  ASSERT_TRUE(other.apply({2, Intent{1, ActionKind::kStopGuest, "shutdown:g1", "h1", "g1"}}));
  EXPECT_EQ(asked(), Downs{});
  ASSERT_TRUE(other.apply({3, Outcome{1, true, ""}}));
  EXPECT_EQ(asked(), (Downs{{"g1", {"h1"}}}));
  Intent start{2, ActionKind::kStartGuest, "start-elsewhere:g1", "h1", "g1"};
  start.to = "h3";
  ASSERT_TRUE(other.apply({4, start}));
  EXPECT_EQ(asked(), (Downs{{"g1", {"h3", true, false}}}));
  ASSERT_TRUE(other.apply({5, Outcome{2, true, ""}}));
  EXPECT_EQ(asked(), Downs{});
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

TEST_F(PlannedMoverTest, NobodyWaitsForAGuestThatIsToComeLater) {
  add_guest("g1", "h1");
  cluster_.guests[0].memory_bytes = 8 * kGib;
  cluster_.guests[0].populated_bytes = 8 * kGib;
  add_guest("g2", "h1");
  empty("h1");
  query_.closed.insert("h3");
  EXPECT_EQ(begun(), Moves{"g1 h1 h2"});
  query_.later_ms["g1"] = 5'000;
  EXPECT_EQ(begun(), Moves{"g2 h1 h2"});
  query_.homecoming = {{"g1", "h2"}, {"g2", "h2"}};
  query_.emptying.clear();
  query_.closed.clear();
  EXPECT_EQ(begun(), Moves{"g2 h1 h2"});
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

// What the operator keeps free is taken by guests by now, and all of them rest: they are shut down.
TEST_F(PlannedMoverTest, AHostThatIsFilledToItsLimitCanBeEmptiedByOtherMeans) {
  cluster_.hosts[0].reserve_bytes = 2 * kGib;
  for (const char* name : {"g1", "g2", "g3", "g4"}) {
    add_guest(name, "h1");
    query_.resting.insert(name);
  }
  add_guest("g5", "h3");
  empty("h1");
  empty("h3");
  EXPECT_EQ(begun(), Moves{"g5 h3 h2"});
}

TEST_F(PlannedMoverTest, WhoIsStuckHasItsOwnReasonAndWhatIsMissingInAll) {
  query_.closed = {"h3"};
  for (const char* name : {"g1", "g10"}) add_guest(name, "h1");
  for (const char* name : {"x", "y", "z"}) add_guest(name, "h2");
  empty("h1");
  cluster_.hosts[1].memory_bytes = 14 * kGib;
  const auto stuck = mover().propose(query_).stuck;
  ASSERT_EQ(stuck.size(), 2U);
  for (const auto& [guest, why] : stuck) {
    EXPECT_EQ(why.rfind("6 GiB of memory are missing", 0), 0U) << why;
    EXPECT_NE(why.find("; guest " + guest + " (4 GiB) fits no host: h2 lacks 2 GiB;"),
              std::string::npos)
        << why;
  }
}

TEST_F(PlannedMoverTest, NobodyStopsOnAClosedHostOnItsWayHome) {
  for (const char* name : {"a1", "a2", "a3", "a4"}) {
    add_guest(name, "h1");
    query_.homecoming[name] = "h2";
  }
  for (const char* name : {"b1", "b2", "b3", "b4"}) {
    add_guest(name, "h2");
    query_.homecoming[name] = "h1";
  }
  query_.closed = {"h1", "h2"};  // their homes take them in all the same
  EXPECT_EQ(begun().size(), 1U);
  query_.closed.insert("h3");
  const MoveAnswer answer = mover().propose(query_);
  EXPECT_TRUE(answer.start.empty());
  EXPECT_EQ(answer.stuck.size(), 8U);
}

TEST_F(PlannedMoverTest, SaysWhichClosedHostWouldDo) {
  add_guest("g1", "h1");
  empty("h1");
  query_.closed.insert({"h2", "h3"});
  const auto said = [&] {
    const std::string why = mover().propose(query_).stuck.at("g1");
    return why.substr(why.rfind("; ") + 2);
  };
  facts_.hosts["h2"].cordoned_by = "r1";
  EXPECT_EQ(said(), "open or add one") << "its run opens it again";
  facts_.hosts["h2"].cordoned_by = "operator";
  EXPECT_EQ(said(), "uncordon h2");
  facts_.hosts["h3"].reachable = false;
  EXPECT_EQ(said(), "uncordon h2 or let the agent of h3 answer");
  facts_.hosts["h2"].quarantined = true;
  EXPECT_EQ(said(), "mend and uncordon h2 or let the agent of h3 answer");
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

TEST_F(PlannedMoverTest, AGuestThatIsDownStartsWhereItsCpuIsAndFromWhereItCouldComeBack) {
  add_guest("g1", "h1");
  facts_.guests.clear();
  query_.down["g1"] = {"h1"};
  query_.resting = {"g1"};
  cluster_.guests[0].cpu_level = 3;
  for (auto& host : cluster_.hosts) host.cpu_level = 3;
  cluster_.hosts[1].cpu_level = 2;
  EXPECT_EQ(mover().target_for("g1", query_), "h3");
  cluster_.hosts[1].cpu_level = 4;
  EXPECT_EQ(mover().target_for("g1", query_), "h2") << "its definition says what it starts with";
  cluster_.guests[0].cpu_level_from_host = true;
  EXPECT_EQ(mover().target_for("g1", query_), "h3");
  cluster_.hosts[2].cpu_level = 4;
  EXPECT_EQ(mover().target_for("g1", query_), "");
  // The canary runs, and keeps its level wherever it goes.
  query_.down.clear();
  facts_.guests["g1"] = {"h1"};
  EXPECT_EQ(mover().target_for("g1", query_), "h2");
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
