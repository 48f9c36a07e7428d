// What the planner is given of what agents say.
#include "control/controller/inventory.h"

#include <gtest/gtest.h>

#include "control/planner/duration.h"

namespace sluice::controller {
namespace {

constexpr std::uint64_t kGib = 1UL << 30;

class InventoryTest : public testing::Test {
 protected:
  InventoryTest() {
    for (const char* name : {"h1", "h2"}) {
      auto& host = hosts_[name];
      host.reachable = true;
      host.info.set_name(name);
      host.info.set_memory_bytes(64 * kGib);
    }
    hosts_["h1"].info.set_cpu_level(4);
    hosts_["h2"].info.set_cpu_level(3);
    v1::GuestInfo guest;
    guest.set_name("vm");
    guest.set_state("running");
    guest.set_memory_bytes(8 * kGib);
    hosts_["h1"].guests.push_back(guest);
  }
  v1::GuestInfo& guest() { return hosts_["h1"].guests[0]; }
  [[nodiscard]] planner::Guest planned() const {
    return make_cluster(hosts_, config_).guests.at(0);
  }

  Config config_;
  Hosts hosts_;
};

TEST_F(InventoryTest, AGuestThatNobodyMeasuredIsTakenForFullAndAtRest) {
  const auto out = planned();
  EXPECT_EQ(out.populated_bytes, 8 * kGib);
  EXPECT_EQ(out.dirty_bytes_per_second, 0U);
  EXPECT_EQ(out.working_set_bytes, 0U);
}

TEST_F(InventoryTest, WhatAnAgentHasMeasuredReachesThePlanner) {
  auto& figures = *guest().mutable_figures();
  figures.set_populated_bytes(3 * kGib);
  figures.set_dirty_bytes_per_second(40'000'000);
  figures.set_working_set_bytes(kGib / 8);
  figures.set_working_set_ms(250);
  const auto out = planned();
  EXPECT_EQ(out.populated_bytes, 3 * kGib);
  EXPECT_EQ(out.dirty_bytes_per_second, 40'000'000U);
  EXPECT_EQ(out.working_set_bytes, kGib / 8);
  EXPECT_EQ(out.working_set_ms, 250U);
  // So that a plan expects it to take longer than one at rest.
  planner::Guest idle = out;
  idle.dirty_bytes_per_second = 0;
  const planner::DurationModel model;
  EXPECT_GT(model.estimate(out, kGib / 2).ms, model.estimate(idle, kGib / 2).ms);
}

TEST_F(InventoryTest, NonsenseIsBoundedByTheGuestsMemory) {
  guest().mutable_figures()->set_populated_bytes(900 * kGib);
  guest().mutable_figures()->set_working_set_bytes(900 * kGib);
  EXPECT_EQ(planned().populated_bytes, 8 * kGib);
  EXPECT_EQ(planned().working_set_bytes, 8 * kGib);
  guest().mutable_figures()->set_populated_bytes(0);
  EXPECT_EQ(planned().populated_bytes, 1U) << "an estimate needs something to copy";
}

TEST_F(InventoryTest, CpuLevelsReachThePlanner) {
  guest().set_cpu_level(4);
  guest().set_cpu_level_from_host(true);
  const auto cluster = make_cluster(hosts_, config_);
  EXPECT_EQ(cluster.hosts[0].cpu_level, 4U);
  EXPECT_EQ(cluster.hosts[1].cpu_level, 3U);
  EXPECT_EQ(cluster.guests[0].cpu_level, 4U);
  EXPECT_TRUE(cluster.guests[0].cpu_level_from_host);
}

TEST_F(InventoryTest, QemusSeriesReachThePlannerForGuestsOfTheUsualBinary) {
  hosts_["h1"].info.set_qemu_version("8.2.1");
  guest().set_qemu_version("7.2.22");
  const auto plain = make_cluster(hosts_, config_);
  EXPECT_EQ(plain.hosts[0].qemu_series, planner::parse_qemu_series("8.2"));
  EXPECT_EQ(plain.hosts[1].qemu_series, 0U) << "its agent does not say";
  EXPECT_EQ(plain.guests[0].qemu_series, 0U) << "hosts say nothing of its binary";
  guest().set_usual_qemu(true);
  EXPECT_EQ(planned().qemu_series, planner::parse_qemu_series("7.2"));
}

// Guests that a run has shut down keep their room and their groups.
TEST_F(InventoryTest, GuestsThatAreDownReachThePlannerWhereTheyWere) {
  config_.groups.push_back({{.name = "db"}, {"vm", "down"}});
  const std::string definition = "name = 'down'\ndriver = 'memory'\nmemory = '4G'\n";
  const std::vector<patch::DownGuest> down = {{"down", "h2", definition, 3, true},
                                              {"vm", "h2", definition},        // runs by now
                                              {"lost", "h7", definition},      // no such host
                                              {"odd", "h2", "memory = 'x'"}};  // nobody can tell
  const auto cluster = make_cluster(hosts_, config_, down);
  ASSERT_EQ(cluster.guests.size(), 2U);
  const planner::Guest& guest = cluster.guests[0];
  EXPECT_EQ(guest.name, "down");
  EXPECT_EQ(cluster.hosts[guest.host].name, "h2");
  EXPECT_EQ(guest.memory_bytes, 4 * kGib);
  EXPECT_EQ(guest.groups, std::vector<planner::GroupId>{0});
  EXPECT_EQ(guest.cpu_level, 3U);
  EXPECT_TRUE(guest.cpu_level_from_host);
  EXPECT_EQ(cluster.guests[1].name, "vm");
  EXPECT_EQ(cluster.hosts[cluster.guests[1].host].name, "h1");
}

// Nor does one that is smaller than what the operator keeps free.
TEST_F(InventoryTest, AHostThatWasNeverHeardIsNoTargetAndKeepsNobodyFromPlanning) {
  config_.reserve_bytes = 8 * kGib;
  hosts_["h2"].info.set_memory_bytes(4 * kGib);
  hosts_["h3"] = {};
  const auto cluster = make_cluster(hosts_, config_);
  const auto valid = planner::validate(cluster);
  EXPECT_TRUE(valid) << valid.error().message;
  ASSERT_EQ(cluster.hosts.size(), 3U);
  EXPECT_EQ(cluster.hosts[0].reserve_bytes, 8 * kGib);
  EXPECT_FALSE(cluster.hosts[0].maintenance);
  EXPECT_FALSE(cluster.hosts[1].maintenance);
  EXPECT_TRUE(cluster.hosts[2].maintenance);
}

TEST_F(InventoryTest, NothingIsDecidedBeforeEveryHostWasHeardOrHadItsTime) {
  using std::chrono::milliseconds;
  hosts_["h2"].info.clear_name();
  hosts_["h2"].reachable = false;
  EXPECT_FALSE(may_decide_on(hosts_, milliseconds(0)));
  EXPECT_FALSE(may_decide_on(hosts_, milliseconds(29'999)));
  EXPECT_TRUE(may_decide_on(hosts_, milliseconds(30'000)));
  // Who was heard once is known, though it is silent now.
  hosts_["h2"].info.set_name("h2");
  EXPECT_TRUE(may_decide_on(hosts_, milliseconds(0)));
}

TEST_F(InventoryTest, AHostIsCheckedWithThoseThatItKnowsAndThatAnswer) {
  for (int i = 3; i <= 12; ++i) hosts_["h" + std::to_string(i)].reachable = true;
  auto& info = hosts_["h2"].info;
  EXPECT_TRUE(peers_to_check(hosts_, "h2").empty());
  for (const char* peer : {"h1", "h3", "h4"}) info.add_peers(peer);
  hosts_["h4"].reachable = false;
  EXPECT_EQ(peers_to_check(hosts_, "h2"), (std::vector<std::string>{"h3", "h1"}));
  for (int i = 5; i <= 12; ++i) info.add_peers("h" + std::to_string(i));
  EXPECT_EQ(peers_to_check(hosts_, "h2").size(), 8U);
  EXPECT_EQ(peers_to_check(hosts_, "h2").front(), "h3");
  EXPECT_TRUE(peers_to_check(hosts_, "h99").empty());
}

// It may run: its host is not empty, and it is not missing.
TEST_F(InventoryTest, AGuestThatDoesNotAnswerIsWhereItIs) {
  guest().set_state("silent");
  const auto placed = place_guests(hosts_);
  ASSERT_EQ(placed.count("vm"), 1U);
  EXPECT_EQ(placed.at("vm").host(), "h1");
  EXPECT_EQ(planned().host, 0U);
  hosts_["h2"].reachable = false;
  hosts_["h2"].guests.push_back(guest());
  hosts_["h2"].guests[0].set_state("running");
  EXPECT_EQ(place_guests(hosts_).at("vm").host(), "h2") << "where it ran when last heard of";
}

// Whatever runs elsewhere, a host is not empty for what its agent says that it has.
TEST_F(InventoryTest, ACopyBesideTheGuestIsOnItsHost) {
  const auto copies = [&](const char* host) {
    return copies_on(hosts_, host, place_guests(hosts_));
  };
  using Copies = std::map<std::string, std::string>;
  hosts_["h2"].guests.push_back(guest());
  auto& second = hosts_["h2"].guests[0];
  for (const char* state : {"silent", "forgotten", "handed-over"}) {
    second.set_state(state);
    EXPECT_EQ(place_guests(hosts_).at("vm").host(), "h1");
    EXPECT_EQ(copies("h1"), Copies{});
    EXPECT_EQ(copies("h2"), (Copies{{"vm", state}}));
  }
  for (const char* state : {"incoming", "gone"}) {
    second.set_state(state);
    EXPECT_EQ(copies("h2"), Copies{}) << state;
  }
  // Names decide nothing.
  second.set_state("running");
  for (const char* state : {"silent", "forgotten"}) {
    guest().set_state(state);
    EXPECT_EQ(place_guests(hosts_).at("vm").host(), "h2");
    EXPECT_EQ(copies("h1"), (Copies{{"vm", state}}));
  }
}

}  // namespace
}  // namespace sluice::controller
