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
paths = false
[canary]
definition = "name = 'c'"
[refill]
placement = "rolling"
percent = [10, 100]
gate_s = 1
[soak]
seconds = 2
goodput_ratio_min = 0.5
downtime_ratio_max = 3.5
loss_max = 0.02
steal_max = 0.4
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
  EXPECT_DOUBLE_EQ(plan->downtime_ratio_max, 3.5);
  EXPECT_DOUBLE_EQ(plan->loss_max, 0.02);
  EXPECT_DOUBLE_EQ(plan->steal_max, 0.4);
  EXPECT_FALSE(plan->check_paths);
  EXPECT_EQ(plan->attempts, 5U);
}

TEST(PlanFile, ErrorsNameTheLineAndTheThing) {
  EXPECT_EQ(error_of("name = 'a'\nhosts = ['h1']\n"),
            "plan.toml:1:1: hooks.patch is missing: what is to be done on each host");
  EXPECT_EQ(error_of("name = 'a'\nhosts = ['h1', 'h1']\nhooks.patch = 'x'\n"),
            "plan.toml:2:16: hosts names h1 twice");
  EXPECT_EQ(error_of("name = 'a'\nhooks.patch = 'x'\n"),
            "plan.toml:1:1: hosts, waves or labels is missing: which hosts");
  EXPECT_EQ(error_of(std::string(kMinimal) + "labels = { role = 'compute' }\n"),
            "plan.toml:1:1: hosts, waves and labels exclude each other");
  EXPECT_EQ(error_of(std::string(kMinimal) + "except = ['h2']\n"),
            "plan.toml:4:10: except goes with labels; leave hosts out of the list");
  EXPECT_EQ(error_of("name = 'a'\nwaves = [['h1'], ['h1']]\nhooks.patch = 'x'\n"),
            "plan.toml:2:19: waves names h1 twice");
  EXPECT_EQ(error_of("name = 'a'\nwaves = ['h1']\nhooks.patch = 'x'\n"),
            "plan.toml:2:10: waves must hold lists of hosts: [[\"h1\"], [\"h2\", \"h3\"]]");
  EXPECT_EQ(error_of("name = 'a'\nlabels = { rack = 1 }\nhooks.patch = 'x'\n"),
            "plan.toml:2:19: labels.rack must be a text, or a list of texts");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[window]\ndays = []\n"),
            "plan.toml:5:8: window.days must be a list");
  EXPECT_EQ(
      error_of(std::string(kMinimal) + "shut_down_guests = true\nrefill.placement = 'rolling'\n"),
      "plan.toml:1:1: shut_down_guests goes with refill.placement = \"home\": guests start "
      "again where they were shut down");
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
  EXPECT_EQ(error_of(std::string(kMinimal) + "[expect]\nqemu = 'newest'\n"),
            "plan.toml:5:8: expect.qemu = \"newest\": expected a version of QEMU such as \"8.2\"");
  EXPECT_EQ(error_of(std::string(kMinimal) + "[expect]\nversion = '2'\n"),
            "plan.toml:1:1: expect.version needs hooks.version, which prints it");
  EXPECT_EQ(error_of(std::string(kMinimal) + "hooks.canary_check = 'answers'\n"),
            "plan.toml:1:1: hooks.canary_check needs canary.guest_file, the guest that it looks "
            "at");
  EXPECT_EQ(error_of("name = 'a'\nhosts = ['h1']\nhooks.patch = '../../bin/sh'\n"),
            "plan.toml:3:15: hooks.patch must name a file in the hook directory, not "
            "\"../../bin/sh\"");
  EXPECT_NE(error_of("name = "), "");
}

// A newer version may allow less: a run that is under way keeps what it was admitted with.
TEST(PlanFile, ThatWasAdmittedIsTakenAsItStands) {
  const std::string toml = std::string(kMinimal) +
                           "attempts = 1000\nshut_down_guests = true\n"
                           "refill = { placement = 'rolling', percent = [50, 20] }\n"
                           "soak.goodput_ratio_min = 2\nexpect.version = '2'\n";
  EXPECT_FALSE(parse_plan(toml, "plan.toml"));
  const auto plan = parse_admitted_plan(toml, "plan.toml");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->attempts, 1000U);
  EXPECT_TRUE(plan->shut_down_guests);
  EXPECT_EQ(plan->placement, Placement::kRolling);
  EXPECT_EQ(plan->refill_percent, (std::vector<std::uint32_t>{50, 20}));
  EXPECT_DOUBLE_EQ(plan->goodput_ratio_min, 2);
  // What nobody here can make sense of is not guessed.
  for (const char* line : {"colour = 1\n", "attempts = 'many'\n", "attempts = 5000000000\n"})
    EXPECT_FALSE(parse_admitted_plan(kMinimal + std::string(line), "plan.toml")) << line;
}

Plan parsed(const std::string& toml) {
  const auto plan = parse_plan(toml, "plan.toml");
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? *plan : Plan{};
}

using Waves = std::vector<std::vector<std::string>>;

TEST(PlanFile, WavesAreTheHostsInTheirOrder) {
  const Plan plan = parsed("name = 'a'\nwaves = [['h2'], ['h1', 'h3']]\nhooks.patch = 'x'\n");
  EXPECT_EQ(plan.hosts, (std::vector<std::string>{"h2", "h1", "h3"}));
  EXPECT_EQ(plan.waves, (std::vector<std::size_t>{1, 2}));
}

class PlanByLabels : public testing::Test {
 protected:
  Waves choose(const std::string& keys) {
    Plan plan = parsed("name = 'a'\nhooks.patch = 'x'\n" + keys);
    EXPECT_TRUE(plan.hosts.empty());
    const auto waves = choose_hosts(plan, hosts_);
    message_ = waves ? "" : waves.error().message;
    return waves ? *waves : Waves{};
  }
  const std::map<std::string, Labels> hosts_ = {{"h1", {{"role", "compute"}, {"rack", "r2"}}},
                                                {"h2", {{"role", "compute"}, {"rack", "r10"}}},
                                                {"h10", {{"role", "compute"}, {"rack", "r2"}}},
                                                {"s1", {{"role", "storage"}}},
                                                {"s2", {}}};
  std::string message_;
};

TEST_F(PlanByLabels, TakesTheHostsThatHaveThemAsPeopleCount) {
  EXPECT_EQ(choose("labels = { role = 'compute' }\n"), (Waves{{"h1", "h2", "h10"}}));
  EXPECT_EQ(choose("labels = { role = ['compute', 'storage'] }\nexcept = ['h2']\n"),
            (Waves{{"h1", "h10", "s1"}}));
  EXPECT_EQ(choose("labels = { role = 'compute', rack = 'r2' }\n"), (Waves{{"h1", "h10"}}));
}

TEST_F(PlanByLabels, MakesWavesOfALabelsValues) {
  EXPECT_EQ(choose("labels = { role = 'compute' }\nwave_by = 'rack'\n"),
            (Waves{{"h1", "h10"}, {"h2"}}));
  choose("labels = { role = ['compute', 'storage'] }\nwave_by = 'rack'\n");
  EXPECT_EQ(message_,
            "a: s1 has no label rack, by which waves are made; give it one in [labels] of the "
            "controller's configuration, or leave it out by except");
}

TEST_F(PlanByLabels, SaysWhatThereIsWhereNoHostFits) {
  choose("labels = { role = 'computer' }\n");
  EXPECT_EQ(message_,
            "a: no host has the labels role = computer: hosts have role = compute or storage; "
            "[labels] of the controller's configuration gives them");
  choose("labels = { site = 'north' }\n");
  EXPECT_NE(message_.find("no host has a label site"), std::string::npos) << message_;
  choose("labels = { role = 'storage', rack = 'r2' }\n");
  EXPECT_NE(message_.find("no host has all of them"), std::string::npos) << message_;
  choose("labels = { role = 'compute' }\nexcept = ['h7']\n");
  EXPECT_EQ(message_, "a: there is no host h7 to leave out; `sluice hosts` lists them");
}

TEST_F(PlanByLabels, IsCompleteOnceResolved) {
  Plan plan = parsed(
      "name = 'a'\nhooks.patch = 'x'\nlabels = { role = 'compute' }\n"
      "window.timezone = 'Europe/Berlin'\n");
  EXPECT_FALSE(resolve(plan, {{}, "CET-1CEST,M3.5.0,M10.5.0/3"})) << "no hosts were chosen";
  EXPECT_FALSE(resolve(plan, {{{"h1"}}, "CET-1CEST,"})) << "no rule";
  ASSERT_TRUE(resolve(plan, {{{"h1"}, {"h2", "h3"}}, "CET-1CEST,M3.5.0,M10.5.0/3"}));
  EXPECT_EQ(plan.hosts, (std::vector<std::string>{"h1", "h2", "h3"}));
  EXPECT_EQ(plan.waves, (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(plan.window.zone.offset_ms(1'795'219'200'000), 3'600'000);
}

TEST(NaturalOrder, CountsNumbersInNames) {
  EXPECT_TRUE(natural_less("h2", "h10"));
  EXPECT_FALSE(natural_less("h10", "h2"));
  EXPECT_TRUE(natural_less("h02", "h10"));
  EXPECT_TRUE(natural_less("a10", "b2"));
  EXPECT_TRUE(natural_less("h", "h1"));
  EXPECT_TRUE(natural_less("r1-h10", "r2-h1"));
  EXPECT_NE(natural_less("h01", "h1"), natural_less("h1", "h01")) << "different names are ordered";
  EXPECT_FALSE(natural_less("h1", "h1"));
}

}  // namespace
}  // namespace sluice::patch
