// Patches that bring a newer QEMU, from which no guest comes back.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/patch/scenario.h"

namespace sluice::patch::sim {
namespace {

const std::uint32_t older_series = *planner::parse_qemu_series("7.2");
const std::uint32_t newer_series = *planner::parse_qemu_series("8.2");

// Four hosts with the older QEMU, whose patch brings the newer one.
Scenario newer_qemu(bool expected) {
  Scenario scenario;
  scenario.faults.qemu_of_patch = newer_series;
  if (expected) {
    const auto at = scenario.plan.find("version = \"2\"");
    scenario.plan.insert(at, "qemu = \"8.2\"\n");
  }
  return scenario;
}

// With what a scenario has changed of its faults.
End run_on_older(Scenario scenario, const std::vector<Death>& deaths = {}) {
  scenario.cluster = make_cluster(scenario);
  for (auto& [name, host] : scenario.cluster->hosts) host.qemu_series = older_series;
  for (auto& [name, guest] : scenario.cluster->guests) guest.qemu_series = older_series;
  return run_to_end(scenario, deaths);
}

TEST(NewerQemu, GuestsGoToItWhenThePlanExpectsIt) {
  for (const bool rolls : {false, true}) {
    Scenario scenario = newer_qemu(true);
    if (rolls) scenario.plan += "[refill]\nplacement = \"rolling\"\n";
    const End end = run_on_older(scenario);
    expect_hosts(end, {"run done\nbecause every host went well", "h1 done version 2",
                       "h2 done version 2", "h3 done version 2", "h4 done version 2"});
    std::size_t on_newer = 0;
    for (const auto& [name, guest] : end.cluster.guests)
      on_newer += guest.qemu_series == newer_series ? 1 : 0;
    EXPECT_EQ(on_newer, 8U);
  }
}

TEST(NewerQemu, TheRunEndsTheSameWhateverRecordItsControllerDiesAt) {
  const End alive = run_on_older(newer_qemu(true));
  for (std::uint64_t record = 2; record < alive.records; record += 3) {
    for (const bool written : {true, false}) {
      SCOPED_TRACE(fmt::format("record {} written {}", record, written));
      EXPECT_EQ(run_on_older(newer_qemu(true), {{record, written}}).text, alive.text);
    }
  }
}

TEST(NewerQemu, FailsTheHostBeforeAGuestIsTrappedWhenThePlanDoesNotSayIt) {
  const End end = run_on_older(newer_qemu(false));
  expect_hosts(end, {"run paused\n",
                     "h1 done-old version 1 up true cordoned false quarantined false its QEMU is "
                     "8.2, it was 7.2: guests that come could not go back to hosts with 7.2; if "
                     "that is meant, the plan must say expect.qemu = \"8.2\"",
                     "h2 pending"});
  for (const auto& [name, guest] : end.cluster.guests)
    EXPECT_EQ(guest.qemu_series, older_series) << name;
}

TEST(NewerQemu, AHostWhosePatchDoesNotBringItIsRolledBack) {
  Scenario scenario = newer_qemu(true);
  scenario.faults.qemu_of_patch = 0;
  expect_hosts(run_on_older(scenario), {"h1 done-old version 1 up true cordoned false quarantined "
                                        "false its QEMU is 7.2, expected 8.2"});
}

// Its guests have nowhere to go when it is the first, and run on; later ones are emptied into those
// before.
TEST(NewerQemu, AHostThatFailsWithGuestsIsEmptiedIntoOthersThatHaveIt) {
  for (const std::string& fails : std::vector<std::string>{"h1", "h3"}) {
    Scenario scenario = newer_qemu(true);
    scenario.faults.busy_after_patch = fails;
    const End end = run_on_older(scenario);
    expect_hosts(end, {fails + (fails == "h1" ? " quarantined" : " done-old version 1")});
    EXPECT_EQ(end.cluster.guests.size(), 8U) << end.text;
  }
}

TEST(NewerQemu, IsAdmittedWhereGuestsCanGoOn) {
  Plan plan;
  plan.name = "upgrade";
  plan.hosts = {"h1"};
  plan.expected_qemu = newer_series;
  Facts facts;
  for (const char* name : {"h1", "h2"}) {
    facts.hosts[name].reachable = true;
    facts.hosts[name].qemu_series = older_series;
  }
  const auto line = [&] {
    const auto admitted = admit_qemu(plan, facts);
    return admitted ? "" : admitted.error().message;
  };
  EXPECT_EQ(line(),
            "upgrade: no host but h1 would have QEMU 8.2, so that its guests could go nowhere from "
            "there; add another host to the plan");
  facts.hosts["h2"].qemu_series = newer_series;
  EXPECT_EQ(line(), "");
  facts.hosts["h2"].quarantined = true;
  EXPECT_NE(line(), "");
  plan.hosts = {"h1", "h2"};
  EXPECT_EQ(line(), "");
  plan.expected_qemu = older_series;
  EXPECT_EQ(line(),
            "upgrade: h2 has QEMU 8.2, and the plan expects 7.2, which takes none of its guests "
            "back; expect 8.2 or leave h2 out");
}

}  // namespace
}  // namespace sluice::patch::sim
