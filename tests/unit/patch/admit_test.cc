// What keeps a plan from being run.
#include <gtest/gtest.h>
#include <string>

#include "control/patch/planned_mover.h"
#include "control/patch/run.h"
#include "tests/unit/planner/builder.h"

namespace sluice::patch {
namespace {

// h1 with g1 of 4 GiB, and h2 and h3 that have room for 16 GiB in all.
class Admit : public testing::Test {
 protected:
  Admit() {
    for (const char* name : {"h1", "h2", "h3"}) {
      builder_.host(name, name[1] == '1' ? 64 : 8);
      facts_.hosts[name].reachable = true;
    }
    add_guest("g1", 4);
    plan_.name = "empty h1";
    plan_.hosts = {"h1"};
    plan_.drain_only = true;
    facts_.now_ms = 1'795'219'200'000;  // Saturday, 2026-11-21T00:00:00Z
  }
  void add_guest(const std::string& name, std::uint64_t memory_gib) {
    builder_.guest(name, 0, memory_gib);
    facts_.guests[name] = {.host = "h1"};
  }
  [[nodiscard]] std::string refusal() const {
    const PlannedMover mover(builder_.cluster, planner::simple_options().move_time);
    const auto admitted = admit(plan_, facts_, mover);
    return admitted ? "" : admitted.error().message;
  }

  planner::Builder builder_;
  Facts facts_;
  Plan plan_;
};

TEST_F(Admit, ADrainNeedsAPlaceForWhatItShutsDown) {
  add_guest("old", 8);
  facts_.guests["old"].policy = GuestPolicy::kShutdown;
  EXPECT_EQ(refusal(), "");
  add_guest("g2", 4);
  EXPECT_EQ(refusal(), "") << "g1 and g2 leave it one host";
  add_guest("older", 2);
  facts_.guests["older"].policy = GuestPolicy::kShutdown;
  EXPECT_NE(refusal().find("empty h1: h1 cannot be emptied: 2 GiB of memory are missing"),
            std::string::npos)
      << refusal();
  // A patch gives them their place back.
  plan_.drain_only = false;
  EXPECT_EQ(refusal(), "");
}

TEST_F(Admit, WhatWouldStayDownAfterADrainIsNamed) {
  add_guest("old", 10);
  facts_.guests["old"].policy = GuestPolicy::kShutdown;
  const std::string line = refusal();
  for (const char* text : {"guest old (10 GiB) fits no host", "h3 lacks 2 GiB",
                           "it would be shut down, and stay so", "`sluice guest stop old`"})
    EXPECT_NE(line.find(text), std::string::npos) << text << " in " << line;
}

TEST_F(Admit, EachHookMustBeThere) {
  facts_.hosts["h1"].hooks = {"answers"};
  for (auto* hook : {&plan_.silence, &plan_.before, &plan_.guest_before, &plan_.patch, &plan_.after,
                     &plan_.canary_check, &plan_.guest_after, &plan_.rollback, &plan_.version,
                     &plan_.unsilence}) {
    *hook = Hook{"answer"};
    EXPECT_EQ(refusal(),
              "empty h1: there is no hook answer on h1, did you mean answers?; it has: answers");
    *hook = Hook{"answers"};
    EXPECT_EQ(refusal(), "");
  }
}

TEST_F(Admit, AHostInQuarantineIsGivenBackFirst) {
  facts_.hosts["h1"].quarantined = true;
  for (const bool drain_only : {true, false}) {
    plan_.drain_only = drain_only;
    EXPECT_EQ(refusal(),
              "empty h1: h1 is in quarantine; look at it and `sluice uncordon h1`, or leave it "
              "out");
  }
}

}  // namespace
}  // namespace sluice::patch
