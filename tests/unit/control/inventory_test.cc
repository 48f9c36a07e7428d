#include "control/model/inventory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::model {
namespace {

using testing::HasSubstr;

constexpr const char* kHosts = R"(
[[hosts]]
name = "h"
count = 4
memory = "64G"
reserve = "4G"
guest_overhead = "100M"
cores = 32
cpu_level = 3
numa_nodes = 2
link = "10Gbit"
domain = "rack"
domain_hosts = 2
uplink = "15Gbit"

[[hosts]]
name = "old"
memory = "32G"
link = "1Gbit"
maintenance = true
)";

std::string error_of(const std::string& text) {
  const auto cluster = parse_inventory(text, "cluster.toml");
  return cluster ? "accepted" : cluster.error().message;
}

TEST(Inventory, CountsHostsDomainsAndLinks) {
  const auto cluster = parse_inventory(
      std::string("[network]\nshare_percent = 80\nsession = \"5Gbit\"\n") + kHosts, "x");
  ASSERT_TRUE(cluster) << cluster.error().message;
  ASSERT_EQ(cluster->hosts.size(), 5);
  EXPECT_EQ(cluster->hosts[3].name, "h4");
  EXPECT_EQ(cluster->hosts[0].failure_domain, cluster->hosts[1].failure_domain);
  EXPECT_NE(cluster->hosts[1].failure_domain, cluster->hosts[2].failure_domain);
  EXPECT_EQ(cluster->hosts[0].numa_nodes.size(), 2);
  EXPECT_TRUE(cluster->hosts[4].maintenance);
  EXPECT_EQ(cluster->links[cluster->hosts[0].transmit].bytes_per_second, 1'000'000'000);
  EXPECT_EQ(cluster->session_bytes_per_second, 625'000'000);
  // Within a rack two links, to another rack both uplinks besides, to a host without uplink one.
  EXPECT_EQ(planner::path(*cluster, 0, 1).size(), 2);
  EXPECT_EQ(planner::path(*cluster, 0, 2).size(), 4);
  EXPECT_EQ(planner::path(*cluster, 0, 4).size(), 3);
}

TEST(Inventory, GuestsOnEachHostOfAnEntryOrOnOne) {
  const auto cluster = parse_inventory(std::string(kHosts) + R"(
[[groups]]
name = "db"
rule = "apart"
moving_max = 1

[[guests]]
name = "g"
on = "h"
count = 3
memory = "4G"
populated = "3G"
dirty_rate = "10M"
one_numa_node = true

[[guests]]
name = "db-1"
on = "h2"
memory = "8G"
policy = "quick"
groups = ["db"]
)",
                                       "x");
  ASSERT_TRUE(cluster) << cluster.error().message;
  ASSERT_EQ(cluster->guests.size(), 13);
  EXPECT_EQ(cluster->guests[11].name, "g12");
  EXPECT_EQ(cluster->guests[11].host, 3);
  EXPECT_EQ(cluster->guests[0].populated_bytes, 3ULL << 30);
  EXPECT_NE(cluster->guests[0].numa_node, cluster->guests[1].numa_node);
  EXPECT_EQ(cluster->guests[12].host, 1);
  EXPECT_EQ(cluster->guests[12].policy, planner::Policy::kQuick);
  ASSERT_EQ(cluster->guests[12].groups.size(), 1);
  EXPECT_EQ(cluster->groups[0].moving_max, 1);
}

TEST(Inventory, ADomainHasOneUplink) {
  const std::string more =
      "[[hosts]]\nname = \"more\"\nmemory = \"32G\"\nlink = \"1Gbit\"\ndomain = \"rack-1\"\n";
  EXPECT_EQ(error_of(kHosts + more + "uplink = \"15Gbit\"\n"), "accepted");
  EXPECT_THAT(error_of(kHosts + more + "uplink = \"10Gbit\"\n"),
              HasSubstr("the domain rack-1 has another uplink already"));
}

TEST(Inventory, AGroupThatAGuestNamesTwiceIsOne) {
  const auto cluster =
      parse_inventory(std::string(kHosts) +
                          "[[groups]]\nname = \"db\"\nrule = \"apart\"\n[[guests]]\nname = "
                          "\"a\"\non = \"h1\"\nmemory = \"1G\"\ngroups = [\"db\", \"db\"]\n",
                      "x");
  ASSERT_TRUE(cluster) << cluster.error().message;
  EXPECT_EQ(cluster->guests[0].groups.size(), 1);
}

TEST(Inventory, AGuestRunsOnTheQemuOfItsHostUnlessItSaysAnother) {
  const std::string host = "[[hosts]]\nname = \"h\"\nmemory = \"64G\"\nlink = \"1Gbit\"\n";
  const std::string guest = "[[guests]]\non = \"h\"\nmemory = \"1G\"\nname = ";
  const auto cluster = parse_inventory(
      host + "qemu = \"8.2.1\"\n" + guest + "\"a\"\n" + guest + "\"b\"\nqemu = \"7.2\"\n", "x");
  ASSERT_TRUE(cluster) << cluster.error().message;
  EXPECT_EQ(cluster->hosts[0].qemu_series, planner::parse_qemu_series("8.2"));
  EXPECT_EQ(cluster->guests[0].qemu_series, planner::parse_qemu_series("8.2"));
  EXPECT_EQ(cluster->guests[1].qemu_series, planner::parse_qemu_series("7.2"));
  EXPECT_THAT(error_of(host + "qemu = \"new\"\n"), HasSubstr("expected a version of QEMU"));
}

TEST(Inventory, ErrorsNameTheLineAndTheRemedy) {
  const std::string hosts = kHosts;
  EXPECT_THAT(error_of(""), HasSubstr("hosts is missing"));
  EXPECT_THAT(error_of("hosts = 3"), HasSubstr("cluster.toml:1:9: hosts must be a list"));
  EXPECT_THAT(error_of("[[hosts]]\nname = \"h\"\nmemory = \"4X\"\nlink = \"1Gbit\""),
              HasSubstr("cluster.toml:3:10: hosts.memory = \"4X\": expected a size such as"));
  EXPECT_THAT(error_of("[[hosts]]\nname = \"h\"\nmemory = \"4G\"\nlink = \"fast\""),
              HasSubstr("expected a rate such as \"9.3Gbit\""));
  EXPECT_THAT(error_of(hosts + "[[hosts]]\nname = \"old\"\nmemory = \"4G\"\nlink = \"1Gbit\""),
              HasSubstr("host old is there twice"));
  EXPECT_THAT(error_of(hosts + "[[guests]]\nname = \"g\"\non = \"h9\"\nmemory = \"1G\""),
              HasSubstr("there is no host h9; add it as [[hosts]]"));
  EXPECT_THAT(
      error_of(hosts + "[[guests]]\nname = \"g\"\non = \"h1\"\nmemory = \"1G\"\ngroups = [\"x\"]"),
      HasSubstr("no such group"));
  EXPECT_THAT(error_of(hosts + "[[groups]]\nname = \"x\"\nrule = \"near\""),
              HasSubstr("expected together, apart, apart-domains or budget"));
  EXPECT_THAT(
      error_of(hosts + "[[guests]]\nname = \"g\"\non = \"h1\"\nmemory = \"1G\"\nmemmory = \"2G\""),
      HasSubstr("unknown key guests.memmory"));
  EXPECT_THAT(error_of("[[hosts]\n"), HasSubstr("cluster.toml:1:"));
}

TEST(Inventory, BitRates) {
  EXPECT_EQ(parse_bit_rate("9.3Gbit"), 1'162'500'000U);
  EXPECT_EQ(parse_bit_rate("500Mbit"), 62'500'000U);
  for (const char* const text :
       {"", "Gbit", "10", "10G", "-1Gbit", "0Gbit", "infGbit", "nanGbit", "10 Gbit"})
    EXPECT_FALSE(parse_bit_rate(text)) << text;
}

}  // namespace
}  // namespace sluice::model
