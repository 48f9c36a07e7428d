#include "control/patch/plan.h"

#include <gtest/gtest.h>

namespace sluice::patch {
namespace {

constexpr const char* kMinimal = "name = 'a'\nhosts = ['h1']\nhooks.patch = 'apply'\n";

std::string error_of(const std::string& toml) {
  const auto plan = parse_plan(toml, "plan.toml");
  return plan ? "" : plan.error().message;
}

TEST(PlanFile, HasDefaultsForEverythingButNameHostsAndPatch) {
  const auto plan = parse_plan(kMinimal, "plan.toml");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->patch, (Hook{"apply", false, 600, false}));
  EXPECT_EQ(plan->refill_percent, (std::vector<std::uint32_t>{5, 25, 50, 100}));
  EXPECT_EQ(plan->placement, Placement::kHome);
  EXPECT_TRUE(plan->reboot);
  EXPECT_EQ(plan->failures_max, 0U);
  EXPECT_EQ(plan->parallel, 1U);
}

TEST(PlanFile, ReadsEveryKey) {
  const auto plan = parse_plan(R"(
name = "advisory-17"
hosts = ["h1", "h2"]
parallel = 0
failures = 2
attempts = 5
[window]
days = ["sat", "sun"]
from = "22:00"
to = "06:00"
not_before = 2026-11-22T20:00:00Z
not_after = 2026-11-30T20:00:00+01:00
[hooks]
silence = { name = "mute", on = "controller", timeout_s = 5, idempotent = true }
before = "before"
patch = "apply"
after = "after"
rollback = "undo"
version = "version"
unsilence = "unmute"
[reboot]
needed = false
timeout_s = 60
[expect]
version = "2"
kernel = "6.1"
[canary]
definition = "name = 'c'"
[refill]
placement = "rolling"
percent = [10, 100]
gate_s = 1
[soak]
seconds = 2
goodput_ratio_min = 0.5
)",
                               "plan.toml");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->silence, (Hook{"mute", true, 5, true}));
  EXPECT_EQ(plan->window.weekdays, 0x60);
  EXPECT_EQ(plan->window.from_minute, 22U * 60);
  EXPECT_EQ(plan->window.not_before_ms, 1'795'377'600'000);
  EXPECT_EQ(plan->window.not_after_ms, 1'796'065'200'000);
  EXPECT_FALSE(plan->reboot);
  EXPECT_EQ(plan->refill_percent, (std::vector<std::uint32_t>{10, 100}));
  EXPECT_EQ(plan->placement, Placement::kRolling);
  EXPECT_DOUBLE_EQ(plan->goodput_ratio_min, 0.5);
  EXPECT_EQ(plan->attempts, 5U);
}

TEST(PlanFile, ErrorsNameTheLineAndTheThing) {
  EXPECT_EQ(error_of("name = 'a'\nhosts = ['h1']\n"),
            "plan.toml:1:1: hooks.patch is missing: what is to be done on each host");
  EXPECT_EQ(error_of("name = 'a'\nhosts = ['h1', 'h1']\nhooks.patch = 'x'\n"),
            "plan.toml:2:16: hosts names h1 twice");
  EXPECT_EQ(error_of(std::string(kMinimal) + "paralel = 1\n"),
            "plan.toml:4:1: unknown key paralel; did you mean parallel?");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[reboot]\ntimeouts = 1\n"),
            "plan.toml:5:1: unknown key reboot.timeouts; did you mean reboot.timeout_s?");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[reboot]\ncolour = 1\n"),
            "plan.toml:5:1: unknown key reboot.colour; known: needed, timeout_s");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[refill]\npercent = [50, 25]\n"),
            "plan.toml:5:16: refill.percent must grow, from above 0 to 100");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[refill]\nplacement = 'away'\n"),
            "plan.toml:5:13: refill.placement = \"away\": expected \"home\" or \"rolling\"");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[expect]\nversion = '2'\n"),
            "plan.toml:1:1: expect.version needs hooks.version, which prints it");
  EXPECT_EQ(error_of("name = 'a'\nhosts = ['h1']\nhooks.patch = '../../bin/sh'\n"),
            "plan.toml:3:15: hooks.patch must name a file in the hook directory, not "
            "\"../../bin/sh\"");
  EXPECT_NE(error_of("name = "), "");
}

TEST(Window, OpensOnItsDaysAndHoursAlsoOverMidnight) {
  constexpr TimeMs kHourMs = 3'600'000;
  constexpr TimeMs kSaturdayMs = 1'795'219'200'000;  // 2026-11-21T00:00:00Z
  Window window;
  EXPECT_TRUE(window.open(kSaturdayMs));
  window.weekdays = 1U << 5;  // Saturday's night
  window.from_minute = 22 * 60;
  window.to_minute = 6 * 60;
  EXPECT_FALSE(window.open(kSaturdayMs + 5 * kHourMs)) << "that is Friday's night";
  EXPECT_FALSE(window.open(kSaturdayMs + 21 * kHourMs));
  EXPECT_TRUE(window.open(kSaturdayMs + 22 * kHourMs));
  EXPECT_TRUE(window.open(kSaturdayMs + 29 * kHourMs));
  EXPECT_FALSE(window.open(kSaturdayMs + 30 * kHourMs));
  window.not_after_ms = kSaturdayMs + 23 * kHourMs;
  EXPECT_FALSE(window.open(kSaturdayMs + 24 * kHourMs));
  EXPECT_TRUE(window.over(kSaturdayMs + 24 * kHourMs));
}

}  // namespace
}  // namespace sluice::patch
