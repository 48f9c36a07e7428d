#include "control/controller/config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>

#include "control/controller/inventory.h"

namespace sluice::controller {
namespace {

// A whole configuration of three hosts, with `more` at its end.
Expected<Config> parse(const std::string& more) {
  return parse_config(R"(name = "c1"
listen = ["unix:/run/c1.sock"]
security.tls = false
[hosts]
h1 = "192.0.2.1:7400"
h2 = "192.0.2.2:7400"
h3 = "192.0.2.3:7400"
)" + more,
                      "controller.toml");
}

std::string complaint(const std::string& more) {
  const auto config = parse(more);
  return config ? "none" : config.error().message;
}

TEST(ControllerConfig, HostsOfADomainFailTogetherAndOthersAlone) {
  const auto config = parse("[domains]\nrack-1 = [\"h1\", \"h3\"]\n");
  ASSERT_TRUE(config) << config.error().message;
  const auto cluster = make_cluster({{"h1", {}}, {"h2", {}}, {"h3", {}}}, *config);
  ASSERT_EQ(cluster.hosts.size(), 3U);
  EXPECT_EQ(cluster.hosts[0].failure_domain, cluster.hosts[2].failure_domain);
  EXPECT_NE(cluster.hosts[0].failure_domain, cluster.hosts[1].failure_domain);
}

TEST(ControllerConfig, EveryHostIsADomainWhereNoneIsNamed) {
  const auto config = parse("");
  ASSERT_TRUE(config) << config.error().message;
  const auto cluster = make_cluster({{"h1", {}}, {"h2", {}}}, *config);
  EXPECT_NE(cluster.hosts[0].failure_domain, cluster.hosts[1].failure_domain);
}

TEST(ControllerConfig, NamesWhatIsWrongWithDomainsAndGroups) {
  EXPECT_NE(complaint("[domains]\nrack-1 = [\"h9\"]\n").find("controller.toml:9:"),
            std::string::npos);
  EXPECT_NE(complaint("[domains]\nrack-1 = [\"h9\"]\n").find("h9 is not a host"),
            std::string::npos);
  EXPECT_NE(complaint("[domains]\nr1 = [\"h1\"]\nr2 = [\"h1\"]\n").find("two domains"),
            std::string::npos);
  EXPECT_NE(complaint("[groups.db]\nrule = \"apart\"\nguests = [1, 2]\n").find("names in quotes"),
            std::string::npos);
}

TEST(ControllerConfig, GivesHostsLabels) {
  const auto config =
      parse("[labels]\nh1 = { role = \"compute\", rack = \"r1\" }\n[labels.h3]\nrack = \"r2\"\n");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->labels.at("h1"), (patch::Labels{{"role", "compute"}, {"rack", "r1"}}));
  EXPECT_EQ(config->labels.at("h3"), (patch::Labels{{"rack", "r2"}}));
  EXPECT_EQ(config->labels.count("h2"), 0U);
  EXPECT_EQ(complaint("[labels]\nh9 = { rack = \"r1\" }\n"),
            "controller.toml:9:6: labels.h9: there is no such host in [hosts]");
  EXPECT_EQ(complaint("[labels]\nh1 = { rack = 1 }\n"),
            "controller.toml:9:15: labels.h1.rack must be a text that is not empty");
}

TEST(ControllerConfig, NamesTheKeyThatWasProbablyMeant) {
  EXPECT_EQ(complaint("[placement]\nreserved = \"1G\"\n"),
            "controller.toml:9:1: unknown key placement.reserved; did you mean placement.reserve?");
  EXPECT_EQ(complaint("[guest.db]\npolicy = \"live\"\n"),
            "controller.toml:8:2: unknown key guest; did you mean guests?");
  EXPECT_EQ(complaint("[groups.db]\nrule = \"apart\"\nguests = [\"a\"]\nmoving = 1\n"),
            "controller.toml:11:1: unknown key groups.db.moving; did you mean "
            "groups.db.moving_max?");
}

}  // namespace
}  // namespace sluice::controller
