#include "control/controller/report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "control/controller/report_stages.h"

namespace sluice::controller {
namespace {

using nlohmann::json;
using patch::ActionKind;
using patch::HostEvent;
using patch::Intent;
using patch::Outcome;
using patch::RunEvent;

constexpr patch::TimeMs kBeginMs = 1'795'219'200'000;  // 2026-11-21T00:00:00Z

Intent migration(std::uint64_t id, const std::string& guest, double expected_seconds) {
  Intent intent;
  intent.id = id;
  intent.kind = ActionKind::kMigrate;
  intent.purpose = "drain:" + guest;
  intent.host = "h1";
  intent.guest = guest;
  intent.from = "h1";
  intent.to = "h2";
  intent.reason = "2 moves planned in 3.0 s";
  intent.expected_seconds = expected_seconds;
  return intent;
}

Intent of_guest(std::uint64_t id, ActionKind kind, const std::string& purpose) {
  Intent intent;
  intent.id = id;
  intent.kind = kind;
  intent.purpose = purpose;
  intent.host = "h1";
  intent.guest = purpose.substr(purpose.find(':') + 1);
  return intent;
}

// A drain of h1, where g1 and g2 move and g3 is shut down; somebody pauses and aborts it.
class ReportOf : public testing::Test {
 protected:
  ReportOf() {
    patch::Created created{"name = \"July\"\nhosts = [\"h1\"]\nhooks.patch = \"apply\"\n",
                           "CN=anna"};
    created.estimates["h1"] = {4, 3, 6, 2};
    created.whole = patch::Estimate{20, 15, 30, 10};
    add(0, created);
    add(0, patch::RunStep{RunEvent::kAdmit, ""});
    add(0, patch::RunStep{RunEvent::kStart, ""});
    add(1, patch::HostStep{"h1", HostEvent::kBegin, ""});
    add(1, patch::Baseline{"h1", "boot", "1", "6.1", {"g1", "g2", "g3"}});
    add(1, patch::MarkStep{"h1", patch::Mark::kCordon});
    add(1, patch::HostStep{"h1", HostEvent::kReady, "3 guests to move"});
    add(2, patch::HostStep{"h1", HostEvent::kDrainStarted, ""});
    add(2, of_guest(1, ActionKind::kStopGuest, "shutdown:g3"));
    add(3, Outcome{1, true, ""});
    add(3, migration(2, "g1", 2));
    add(3, migration(3, "g2", 2));
    add(5, Outcome{2, true, "", 2.2, 12.5, 9});
    add(6, patch::RunStep{RunEvent::kPause, "an operator asked for it", "CN=bert"});
    add(6, Outcome{3, false, "the link | went quiet\nfor good", 3, 0, 0});
    Intent again = migration(4, "g2", 2);
    again.attempt = 2;
    add(6, again);
    add(7, Outcome{4, true, "", 1.0, 30, 9});
    add(8, patch::HostStep{"h1", HostEvent::kDrained, ""});
    add(8, patch::RunStep{RunEvent::kAbort, "an operator asked for it", "CN=bert"});
    add(8, patch::HostStep{"h1", HostEvent::kAbort, "the run was aborted"});
    add(9, of_guest(5, ActionKind::kStartGuest, "start:g3"));
    add(13, Outcome{5, true, ""});
    add(14, patch::HostStep{"h1", HostEvent::kGivenBack, ""});
    add(14, patch::RunStep{RunEvent::kFinished, "every host went well"});
    report_ = make_report(run_, {}, records_);
  }

  template <typename Body>
  void add(int second, Body body) {
    records_.push_back({kBeginMs + second * 1000, std::move(body)});
    const auto applied = run_.apply(records_.back());
    ASSERT_TRUE(applied) << applied.error().message;
  }
  void expect_line(const std::string& line) const {
    EXPECT_NE(report_.markdown().find(line + "\n"), std::string::npos) << line << "\nis not in\n"
                                                                       << report_.markdown();
  }

  patch::Run run_{"r1"};
  std::vector<patch::Record> records_;
  v1::Report report_;
};

TEST_F(ReportOf, SaysWhoAskedForWhatAndWhen) {
  expect_line("Begun 2026-11-21 00:00:00 UTC by CN=anna, ended 2026-11-21 00:00:14 UTC, 14 s");
  expect_line("- 2026-11-21 00:00:00 run: asked for by CN=anna");
  expect_line("- 2026-11-21 00:00:06 run: pause by CN=bert: an operator asked for it");
  expect_line("- 2026-11-21 00:00:08 run: abort by CN=bert: an operator asked for it");
  const auto document = json::parse(report_.json());
  EXPECT_EQ(document["begun_by"], "CN=anna");
  EXPECT_EQ(document["records"].size(), records_.size());
}

TEST_F(ReportOf, HasEveryDecisionWithItsReason) {
  expect_line("- 2026-11-21 00:00:01 h1: cordon");
  expect_line("- 2026-11-21 00:00:01 h1: ready: 3 guests to move");
  expect_line("- 2026-11-21 00:00:03 h1: drain:g1 begins, h1 -> h2: 2 moves planned in 3.0 s");
  expect_line("- 2026-11-21 00:00:06 h1: drain:g2 failed: the link | went quiet");
  expect_line(
      "- 2026-11-21 00:00:06 h1: drain:g2 begins, h1 -> h2, attempt 2: 2 moves planned in 3.0 s");
  expect_line("- 2026-11-21 00:00:07 h1: drain:g2 done");
}

TEST_F(ReportOf, HasTheDowntimeOfEveryGuest) {
  expect_line("| g1 | 1 | 0 | 12.5 | 12.5 |  |");
  expect_line("| g2 | 1 | 1 | 30.0 | 30.0 |  |");
  expect_line("| g3 | 0 | 0 | 0.0 | 0.0 | 10 |");
  const auto guests = json::parse(report_.json())["guests"];
  ASSERT_EQ(guests.size(), 3U);
  EXPECT_EQ(guests[1]["downtime_ms_max"], 30);
  EXPECT_EQ(guests[2]["down_s"], 10);
}

// Its own host was only to be drained, or is in quarantine.
TEST_F(ReportOf, AGuestThatRunsOnAnotherHostIsNotDown) {
  patch::Run run("r2");
  const std::vector<patch::Record> records = {
      {kBeginMs, patch::Created{"name = \"July\"\nhosts = [\"h1\"]\ndrain_only = true\n"}},
      {kBeginMs, of_guest(1, ActionKind::kStopGuest, "shutdown:g3")},
      {kBeginMs + 1000, Outcome{1, true, ""}},
      {kBeginMs + 1000, of_guest(2, ActionKind::kStartGuest, "start-elsewhere:g3")},
      {kBeginMs + 6000, Outcome{2, true, ""}}};
  for (const auto& record : records) ASSERT_TRUE(run.apply(record));
  const v1::Report report = make_report(run, {}, records);
  EXPECT_NE(report.markdown().find("| g3 | 0 | 0 | 0.0 | 0.0 | 5 |\n"), std::string::npos)
      << report.markdown();
  EXPECT_FALSE(json::parse(report.json())["guests"][0].contains("down_since_ms"));
}

TEST_F(ReportOf, ComparesWhatWasExpectedWithWhatWasMeasured) {
  expect_line("| h1 | skipped | 6.0 | 4.0 (3.0 to 6.0) | +50 % | 2.0 |  |");
  expect_line(
      "| g1 | h1 | h2 | 2 moves planned in 3.0 s | 12.5 | 2.20 | 2.00 | +10 % | 9.00 | done |");
  expect_line("| g2 | h1 | h2 | 2 moves planned in 3.0 s | 0.0 | 3.00 | 2.00 |  | 0.00 | failed |");
  expect_line(
      "2 moves against what was expected of them: half were within 10 %, nine of ten within 50 %.");
  const auto document = json::parse(report_.json());
  EXPECT_NEAR(document["deviation"]["p90"], 0.5, 1e-9);
  EXPECT_EQ(document["hosts"][0]["drain_s"], 6);
  EXPECT_EQ(document["hosts"][0]["bound_s"], 2);
}

TEST_F(ReportOf, ComparesTheWholeRun) {
  expect_line(
      "From its beginning to its end 14.0 s, expected 20.0 (15.0 to 30.0) s, lower bound 10.0 s: "
      "-30 %.");
  const auto whole = json::parse(report_.json())["whole"];
  EXPECT_EQ(whole["measured_s"], 14);
  EXPECT_EQ(whole["estimate_s"], 20);
  EXPECT_EQ(whole["bound_s"], 10);
  expect_line("| emptied | 1 | 6.0 | 4.0 (3.0 to 6.0) | +50 % | 2.0 |");
  expect_line("| what was expected, in all | 1 | 6.0 | 4.0 (3.0 to 6.0) | +50 % | 2.0 |");
}

// Two hosts of ten guests each, patched one after the other; the second fails in its soak.
TEST(ReportStages, AreComparedWithWhatWasExpectedWhenTheRunWasAdmitted) {
  patch::Run run("r1");
  std::vector<patch::Record> records;
  const auto add = [&](int second, auto body) {
    records.push_back({kBeginMs + second * 1000, std::move(body)});
    const auto applied = run.apply(records.back());
    ASSERT_TRUE(applied) << applied.error().message;
  };
  patch::Created created{
      "name = 'a'\nhosts = ['h1', 'h2']\n[hooks]\npatch = 'p'\n[soak]\nseconds = 30\n", ""};
  created.estimates["h1"] = {100, 90, 120, 80};
  created.estimates["h2"] = {50, 40, 60, 30};
  add(0, created);
  add(0, patch::RunStep{RunEvent::kAdmit, ""});
  add(0, patch::RunStep{RunEvent::kStart, ""});
  int at = 0;
  for (const char* const host : {"h1", "h2"}) {
    const std::vector<std::string> guests(10, "g");
    add(at, patch::HostStep{host, HostEvent::kBegin, ""});
    add(at, patch::Baseline{host, "boot", "1", "6.1", guests});
    add(at, patch::HostStep{host, HostEvent::kReady, ""});
    add(at, patch::HostStep{host, HostEvent::kDrainStarted, ""});
    add(at += 90, patch::HostStep{host, HostEvent::kDrained, ""});
    add(at += 5, patch::HostStep{host, HostEvent::kPatchStarted, ""});
    add(at, patch::HostStep{host, HostEvent::kPatched, ""});
    add(at += 300, patch::HostStep{host, HostEvent::kCameBack, ""});
    add(at, patch::HostStep{host, HostEvent::kVerified, ""});
    add(at, patch::HostStep{host, HostEvent::kCanaryPassed, ""});
    add(at += 120, patch::HostStep{host, HostEvent::kRefilled, ""});
    const bool fails = std::string(host) == "h2";
    add(at += 30, patch::HostStep{host, fails ? HostEvent::kFailure : HostEvent::kSoaked, ""});
  }
  const auto stages = stages_of(run, records);
  ASSERT_EQ(stages.size(), 4U);
  EXPECT_EQ(stages[0].hosts, 2U);
  EXPECT_DOUBLE_EQ(stages[0].measured_seconds, 180);
  EXPECT_EQ(stages[0].expected, (patch::Estimate{150, 130, 180, 110}));
  EXPECT_DOUBLE_EQ(stages[1].measured_seconds, 600);
  EXPECT_FALSE(stages[1].expected) << "nobody knows before how long a patch takes";
  // Ten guests come in four steps, with three gates of ten seconds between them.
  EXPECT_EQ(stages[2].expected, (patch::Estimate{210, 190, 240, 170}));
  EXPECT_DOUBLE_EQ(stages[2].measured_seconds, 240);
  EXPECT_EQ(stages[3].hosts, 1U);
  EXPECT_DOUBLE_EQ(stages[3].expected->seconds, 30);
  EXPECT_EQ(patch_seconds(records), (std::vector<double>{300, 300}));
  const StageSum all = sum_of_expected(stages);
  EXPECT_DOUBLE_EQ(all.expected->seconds, 390);
  EXPECT_DOUBLE_EQ(all.measured_seconds, 450);
}

}  // namespace
}  // namespace sluice::controller
