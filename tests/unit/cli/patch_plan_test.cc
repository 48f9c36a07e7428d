// sluice patch plan, from its arguments to what it prints.
#include <cstdio>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unistd.h>

#include "control/cli/command_line.h"

namespace sluice::cli {
namespace {

using testing::HasSubstr;

class PatchPlan : public testing::Test {
 protected:
  int run_plan(const std::string& inventory, std::vector<std::string> arguments = {}) {
    const std::string path =
        testing::TempDir() + "patch_plan_test." + std::to_string(getpid()) + ".toml";
    std::ofstream(path) << inventory;
    arguments.insert(arguments.begin(), {"patch", "plan", "--inventory", path});
    const int status = run(arguments, Terminal{.out = out, .err = err, .interrupts = interrupts},
                           [](const char*) -> const char* { return nullptr; }, {});
    std::remove(path.c_str());
    return status;
  }

  Interrupts interrupts;
  std::ostringstream out;
  std::ostringstream err;
};

constexpr const char* kSixHosts = R"(
[[hosts]]
name = "h"
count = 6
memory = "25G"
link = "8.589934592Gbit"

[[guests]]
name = "g"
on = "h"
count = 5
memory = "4G"
)";

TEST_F(PatchPlan, PrintsWavesEstimateBoundAndMoves) {
  EXPECT_EQ(run_plan(kSixHosts, {"--patch-time", "5m"}), kExitDone) << err.str();
  EXPECT_EQ(err.str(), "");
  // One at a time: five guests of 4 GiB at 1 GiB/s, then five minutes; six in each after the first.
  EXPECT_THAT(out.str(), HasSubstr("WAVE  STARTS       MOVES  EMPTY AFTER  ENDS         HOSTS\n"
                                   "1     0.0 s        5      20.0 s       5 min 20 s   h1\n"));
  EXPECT_THAT(out.str(), HasSubstr("lower bound  30 min 20 s: at most 1 host empty at once"));
  EXPECT_THAT(out.str(), HasSubstr("of 30 guests, 1.17 a guest"));
}

TEST_F(PatchPlan, JsonHasEveryMove) {
  EXPECT_EQ(run_plan(kSixHosts, {"--hosts", "h2,h4", "--json"}), kExitDone) << err.str();
  const auto document = nlohmann::json::parse(out.str());
  EXPECT_EQ(document["moves"],
            document["waves"][0]["moves"].size() +
                (document["waves"].size() > 1 ? document["waves"][1]["moves"].size() : 0));
  EXPECT_EQ(document["moves_per_guest"], 1.1)
      << "room for four on hosts that stay, so one goes to h4 first";
  EXPECT_EQ(document["waves"][0]["hosts"], nlohmann::json::array({"h2"}));
  EXPECT_GE(document["estimate_s"], document["bound_s"]);
  EXPECT_LE(document["estimate_low_s"], document["estimate_s"]);
  EXPECT_GE(document["estimate_high_s"], document["estimate_s"]);
  EXPECT_THAT(document["skipped"], testing::IsEmpty());
}

TEST_F(PatchPlan, SaysWhichHostCannotBeEmptied) {
  const std::string bound =
      "[[guests]]\nname = \"licence\"\non = \"h3\"\nmemory = \"1G\"\npolicy = \"never\"\n";
  EXPECT_EQ(run_plan(kSixHosts + bound), kExitFailed);
  EXPECT_THAT(out.str(),
              HasSubstr("skipped      h3\nguest licence cannot leave h3: its policy is never"));
  EXPECT_EQ(err.str(), "sluice: not every host can be emptied; see above\n");
}

TEST_F(PatchPlan, BadInput) {
  EXPECT_EQ(run_plan("[[hosts]]\nname = \"h\"\n"), kExitFailed);
  EXPECT_THAT(err.str(), HasSubstr("hosts.memory is missing"));
  err.str("");
  EXPECT_EQ(run_plan(kSixHosts, {"--hosts", "h7"}), kExitFailed);
  EXPECT_EQ(err.str(), "sluice: there is no host h7 in the inventory\n");
  err.str("");
  EXPECT_EQ(run_plan(kSixHosts, {"--patch-time", "10"}), kExitUsage);
  EXPECT_THAT(err.str(), HasSubstr("is no duration"));
  err.str("");
  EXPECT_EQ(run({"patch", "plan", "--inventory", "/nowhere.toml"},
                Terminal{.out = out, .err = err, .interrupts = interrupts},
                [](const char*) -> const char* { return nullptr; }, {}),
            kExitFailed);
  EXPECT_EQ(err.str(), "sluice: inventory /nowhere.toml cannot be read or is empty\n");
}

}  // namespace
}  // namespace sluice::cli
