#include "control/patch/record.h"

#include <gtest/gtest.h>
#include <limits>

#include "control/planner/model.h"

namespace sluice::patch {
namespace {

Record intent_record() {
  Intent intent;
  intent.id = 7;
  intent.kind = ActionKind::kMigrate;
  intent.purpose = "drain:db-3";
  intent.host = "h1";
  intent.guest = "db-3";
  intent.from = "h1";
  intent.to = "h2";
  intent.live = false;
  intent.attempt = 2;
  intent.reason = "most room";
  return {123, intent};
}

TEST(FailureLine, SaysHowAHookEndedAndItsLastLine) {
  EXPECT_EQ(failure_line("exit status 100: Reading package lists...\nDone\n\nE: no space left\n\n"),
            "exit status 100: E: no space left");
  EXPECT_EQ(failure_line("exit status 3: no such package\r\n"), "exit status 3: no such package");
  EXPECT_EQ(failure_line("exit status 3: "), "exit status 3");
  EXPECT_EQ(failure_line("it did not end within 5 s and was killed\nwaiting\nstill waiting\n"),
            "it did not end within 5 s and was killed: still waiting");
  EXPECT_EQ(failure_line("h1 does not answer"), "h1 does not answer");
  EXPECT_EQ(failure_line(" \n"), "it printed nothing");
  const std::string line = failure_line("exit status 1: begins\n" + std::string(383, 'x') + "äää");
  EXPECT_EQ(line, "exit status 1: " + std::string(383, 'x') + "ä …");
}

TEST(Records, EveryKindReadsBackAsItWasWritten) {
  Intent hook;
  hook.id = 1;
  hook.purpose = "patch";
  hook.host = "h1";
  hook.hook = {"apply", true, 9, true};
  Intent patch = hook;
  patch.boot_id = "abc";
  Intent reboot;
  reboot.id = 2;
  reboot.kind = ActionKind::kReboot;
  reboot.host = "h1";
  reboot.boot_id = "abc";
  Intent stop;
  stop.id = 3;
  stop.kind = ActionKind::kStopGuest;
  stop.host = "h1";
  stop.guest = "g1";
  stop.definition = "name = 'g1'\n";
  Intent stop_of_level = stop;
  stop_of_level.cpu_level = 4;
  stop_of_level.cpu_level_from_host = true;
  Intent start;
  start.id = 4;
  start.kind = ActionKind::kStartGuest;
  start.host = "h1";
  start.guest = "g1";
  start.to = "h2";
  const Record records[] = {
      {1, Created{"name = 'a'\n"}},
      {1, Created{"name = 'a'\n",
                  "CN=anna",
                  {{{"h1"}, {"h2", "h3"}}, "CET-1CEST,M3.5.0,M10.5.0/3"},
                  {{"h1", {10.5, 9.25, 15, 8}}},
                  patch::Estimate{700, 650.5, 800, 600}}},
      {2, RunStep{RunEvent::kPause, "two hosts failed"}},
      {2, RunStep{RunEvent::kAbort, "", "CN=anna"}},
      {3, HostStep{"h1", HostEvent::kCameBack, "boot id a -> b"}},
      {4, Baseline{"h1", "a", "1", "6.1", {"g1", "g2"}}},
      {4, Baseline{"h1", "a", "1", "6.1", {}, 9'300'000'000}},
      {4, Baseline{"h1", "a", "1", "6.1", {}, 9'300'000'000, 4, 0.125}},
      {4, Baseline{"h1", "a", "1", "6.1", {}, 0, 0, {}, *planner::parse_qemu_series("7.2")}},
      {4, Intent{9, ActionKind::kCheckPaths, "paths", "h1"}},
      intent_record(),
      {5, hook},
      {5, patch},
      {6, reboot},
      {6, stop},
      {6, stop_of_level},
      {6, start},
      {7, Outcome{7, true, "said \"yes\"\n", 1.5, 11.25, 8.5}},
      {7, Outcome{7, false, "where g1 runs is not known", 0, 0, 0, true}},
      {7, Outcome{7, true, "", 1.5, 11.25, 8.5, false, 0.015}},
      {7, Outcome{7, false, "there is no hook x", 0, 0, 0, false, 0, true}},
      {7, Outcome{7, true, "it may be rebooting", 0, 0, 0, false, 0, false, true}},
      {8, MarkStep{"h1", Mark::kQuarantine}},
      {8, MarkStep{"h1", Mark::kMended}},
      {8, MarkStep{"h1", Mark::kUncordon, "CN=anna"}},
      {9, RefillStep{"h1", 3}},
  };
  for (const Record& record : records) {
    const std::string json = encode(record);
    EXPECT_EQ(json.find('\n'), std::string::npos) << json;
    const auto read = decode(json);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->body.index(), record.body.index());
    EXPECT_EQ(encode(*read), json);
  }
}

// As earlier versions wrote it.
TEST(Records, AStopWithoutALevelIsRead) {
  const auto read = decode(
      R"({"action":"stop-guest","at_ms":6,"attempt":1,"definition":"name = 'g1'\n","guest":"g1",)"
      R"("host":"h1","id":3,"purpose":"shutdown:g1","reason":"","type":"intent"})");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(std::get<Intent>(read->body).cpu_level, 0U);
  EXPECT_FALSE(std::get<Intent>(read->body).cpu_level_from_host);
}

TEST(Records, WhatAHookPrintedNeedNotBeText) {
  const auto read = decode(encode({1, Outcome{1, true, "\xff\xfe"}}));
  ASSERT_TRUE(read) << read.error().message;
}

TEST(Records, NumbersOutOfRangeAreRefused) {
  EXPECT_TRUE(decode(R"({"at_ms":1,"host":"h1","step":1,"type":"refill"})"));
  for (const char* step : {"4294967297", "-1", "1.5", "1e300"}) {
    EXPECT_FALSE(
        decode(R"({"at_ms":1,"host":"h1","type":"refill","step":)" + std::string(step) + "}"))
        << step;
  }
}

// As an earlier version wrote it; no later controller could start.
TEST(Records, WhatWasNoNumberIsReadAsNone) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const double endless = std::numeric_limits<double>::infinity();
  const auto outcome = decode(encode({5, Outcome{1, true, "", endless, none, none}}));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(std::get<Outcome>(outcome->body).seconds, 0);
  EXPECT_EQ(std::get<Outcome>(outcome->body).goodput_gbps, 0);
  Baseline baseline{"h1", "boot", "", "", {}};
  baseline.waited_share = none;
  const auto read = decode(encode({5, baseline}));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_FALSE(std::get<Baseline>(read->body).waited_share);
}

TEST(Records, AnythingElseIsRefused) {
  for (const char* text :
       {"", "{}", "[]", "{\"type\":\"intent\",\"at_ms\":1}", "{\"type\":\"magic\",\"at_ms\":1}",
        "{\"type\":\"mark\",\"at_ms\":1,\"host\":\"h1\",\"mark\":\"\"}",
        "{\"type\":\"run\",\"at_ms\":1,\"event\":\"dance\",\"reason\":\"\"}"}) {
    const auto read = decode(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().kind, ErrorKind::kInvalid);
  }
}

}  // namespace
}  // namespace sluice::patch
