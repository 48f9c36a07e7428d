// What the documents show an operator is what the parsers read.
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <numeric>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "control/controller/config.h"
#include "control/model/inventory.h"
#include "control/patch/plan.h"
#include "control/planner/duration.h"
#include "control/planner/patch_plan.h"

namespace sluice::controller {
namespace {

std::string read_file(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string read_document() { return read_file(SLUICE_DOCUMENT); }

std::vector<std::string> toml_blocks(const std::string& text) {
  std::vector<std::string> blocks;
  const std::string fence = "```toml\n";
  for (auto at = text.find(fence); at != std::string::npos; at = text.find(fence, at)) {
    at += fence.size();
    blocks.push_back(text.substr(at, text.find("\n```", at) + 1 - at));
  }
  return blocks;
}

// The block that has `word`.
std::string block_with(const std::string& word) {
  for (const auto& block : toml_blocks(read_document())) {
    if (block.find(word) != std::string::npos) return block;
  }
  ADD_FAILURE() << "no example has " << word;
  return {};
}

TEST(Documents, TheExampleOfAControllersConfigurationIsOne) {
  const auto config = parse_config(block_with("journal ="), "controller.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_FALSE(config->labels.empty());
  EXPECT_FALSE(config->groups.empty());
}

TEST(Documents, TheExampleOfAPlanIsOne) {
  std::string text = block_with("[hooks]");
  // The command line reads the file and sends its text.
  text = std::regex_replace(text, std::regex("guest_file = "), "definition = ");
  const auto plan = patch::parse_plan(text, "plan.toml");
  EXPECT_TRUE(plan) << plan.error().message;
}

// Every host of the inventory can be emptied, so that what it shows is a plan.
void expect_patched(const std::string& inventory) {
  const auto cluster = model::parse_inventory(inventory, "inventory.toml");
  ASSERT_TRUE(cluster) << cluster.error().message;
  std::vector<planner::HostId> hosts(cluster->hosts.size());
  std::iota(hosts.begin(), hosts.end(), 0U);
  const planner::DurationModel durations;
  planner::PatchOptions options;
  options.plan.search.schedules_max = 1;
  options.plan.move_time = [&](const planner::Guest& guest, std::uint64_t rate) {
    return durations.estimate(guest, rate).ms;
  };
  const auto plan = planner::plan_patch(*cluster, hosts, options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE(plan->skipped.empty()) << plan->obstacles.front();
  EXPECT_GT(plan->moves, 3000U);
}

TEST(Documents, TheInventoriesCanBePlannedAsShown) {
  expect_patched(block_with("[[guests]]"));
  expect_patched(read_file(SLUICE_INVENTORY));
}

// What the complaint about a key that is near none lists, in a table or (empty) before the first.
std::string known_keys(const std::string& table) {
  const std::string header = table.empty() ? "" : fmt::format("[{}]\n", table);
  const auto plan = patch::parse_plan(
      fmt::format("name = 'a'\nhosts = ['h1']\n{}qqqqqqqq = 1\n", header), "plan.toml");
  const std::string message = plan ? "" : plan.error().message;
  const std::string before = "known: ";
  const auto at = message.find(before);
  EXPECT_NE(at, std::string::npos) << message;
  return at == std::string::npos ? "" : message.substr(at + before.size());
}

TEST(Documents, TheTableOfAPlanHasEveryKey) {
  const std::string document = read_document();
  const std::regex name("[a-z_]+");
  const std::set<std::string> tables = {"window", "hooks",  "reboot", "expect",
                                        "canary", "refill", "soak"};
  std::size_t keys = 0;
  const auto check = [&](const std::string& prefix, const std::string& known) {
    for (std::sregex_iterator key(known.begin(), known.end(), name), end; key != end; ++key) {
      if (prefix.empty() && tables.count(key->str()) != 0) continue;
      ++keys;
      EXPECT_NE(document.find("`" + prefix + key->str() + "`"), std::string::npos)
          << prefix << key->str() << " is in no row";
    }
  };
  check("", known_keys(""));
  for (const auto& table : tables) check(table + ".", known_keys(table));
  EXPECT_GT(keys, 30U);
}

}  // namespace
}  // namespace sluice::controller
