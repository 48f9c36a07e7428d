#include "control/agent/config.h"

#include <gtest/gtest.h>
#include <string>

namespace sluice::agent {
namespace {

constexpr const char* kGood = R"(host = "h1"
run_dir = "/run/sluice"
listen = ["unix:/run/sluice/agent.sock", "192.0.2.1:7400"]
memory = "8G"
[peers]
h2 = "192.0.2.2:7400"
[dataplane]
port = "memif:/run/m.sock"
role = "server"
address = "10.77.1.1/24"
mtu = 9000
queues = 2
rate = "10G"
hugepages = "no"
memory = "128M"
workers = [0, 1]
)";

// The good file with one piece of text replaced.
std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Config, ReadsEveryKey) {
  const auto config = parse_config(kGood, "agent.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->host, "h1");
  EXPECT_EQ(config->listen.size(), 2U);
  EXPECT_EQ(config->memory_bytes, 8ULL << 30);
  EXPECT_EQ(config->peers.at("h2"), "192.0.2.2:7400");
  const auto& data_plane = config->data_plane;
  EXPECT_EQ(data_plane.cap_bits_per_second, 9'000'000'000ULL);
  EXPECT_EQ(data_plane.port, "memif:/run/m.sock");
  EXPECT_TRUE(data_plane.memif_server);
  EXPECT_EQ(data_plane.queues, 2U);
  EXPECT_EQ(data_plane.hugepages, dpdk::Hugepages::kNo);
  EXPECT_EQ(data_plane.memory_bytes, 128ULL << 20);
  EXPECT_EQ(data_plane.cores, (std::vector<unsigned>{0, 1}));
  EXPECT_NE(data_plane.file_prefix.find("h1"), std::string::npos);
}

TEST(Config, ReadsWhatControllersAreToldOfTheHost) {
  const auto plain = parse_config(kGood, "a");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->cpu_level, 0U);
  EXPECT_EQ(plain->sample_interval_s, 300U);
  const auto config = parse_config(
      std::string(kGood) +
          "[inventory]\nversion_file = \"/etc/v\"\ncpu_level = 2\nsample_interval_s = 0\n",
      "a");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->version_file, "/etc/v");
  EXPECT_EQ(config->cpu_level, 2U);
  EXPECT_EQ(config->sample_interval_s, 0U);
  const auto refused = parse_config(std::string(kGood) + "[inventory]\ncpu_level = 5\n", "a");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("inventory.cpu_level"), std::string::npos);
}

TEST(Config, ACapIsMostOfTheRateAndThereIsNoneWithoutARate) {
  const auto half = parse_config(with("queues = 2", "queues = 2\nshare = 0.5\ndscp = 8"), "a");
  ASSERT_TRUE(half) << half.error().message;
  EXPECT_EQ(half->data_plane.cap_bits_per_second, 5'000'000'000ULL);
  EXPECT_EQ(half->dscp, 8);
  const auto whole = parse_config(with("queues = 2", "queues = 2\nshare = 1"), "a");
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(whole->data_plane.cap_bits_per_second, 10'000'000'000ULL);
  const auto none = parse_config(with("rate = \"10G\"\n", ""), "a");
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_EQ(none->data_plane.cap_bits_per_second, 0U);
  EXPECT_EQ(none->dscp, 1) << "lower effort";
}

struct Bad {
  const char* from;
  const char* to;
  const char* place;
  const char* word;
};

class BadConfig : public testing::TestWithParam<Bad> {};

TEST_P(BadConfig, IsRefusedWithItsPlaceAndItsName) {
  const auto& bad = GetParam();
  const auto config = parse_config(with(bad.from, bad.to), "agent.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(config.error().message.find(std::string("agent.toml:") + bad.place), std::string::npos)
      << config.error().message;
  EXPECT_NE(config.error().message.find(bad.word), std::string::npos) << config.error().message;
  EXPECT_EQ(config.error().message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Config, BadConfig,
    testing::Values(Bad{"memory = \"8G\"", "memory = 5 5", "4:", ""},
                    Bad{"memory = \"8G\"", "memry = \"8G\"", "4:", "memry"},
                    Bad{"memory = \"8G\"", "memory = \"lots\"", "4:", "lots"},
                    Bad{"192.0.2.1:7400", "0.0.0.0:7400", "3:", "0.0.0.0"},
                    Bad{"192.0.2.1:7400", "[::]:7400", "3:", "[::]"},
                    Bad{"192.0.2.1:7400", ":7400", "3:", ":7400"},
                    Bad{"192.0.2.1:7400", "00:7400", "3:", "listen"},
                    Bad{"192.0.2.1:7400", "[0:0:0::0]:7400", "3:", "every"},
                    Bad{"192.0.2.1:7400", "[::ffff:0.0.0.0]:1", "3:", "every"},
                    Bad{"192.0.2.1:7400", "ipv4:0.0.0.0:1", "3:", "listen"},
                    Bad{"192.0.2.1:7400", "dns:///h1:7400", "3:", "listen"},
                    Bad{"192.0.2.1:7400", "192.0.2.1:0", "3:", "listen"},
                    Bad{"192.0.2.1:7400", "nowhere", "3:", "listen"},
                    Bad{"host = \"h1\"", "host = 1", "1:", "host"},
                    Bad{"\"/run/sluice\"", "\"run\"", "2:", "run_dir"},
                    Bad{"mtu = 9000", "mtu = 639", "11:", "from 640 to 65379"},
                    Bad{"mtu = 9000", "mtu = 65380", "11:", "from 640 to 65379"},
                    Bad{"mtu = 9000", "mtu = \"9000\"", "11:", "mtu"},
                    Bad{"\"server\"", "\"both\"", "9:", "both"},
                    Bad{"\"10G\"", "\"fast\"", "13:", "fast"},
                    Bad{"\"no\"", "\"perhaps\"", "14:", "perhaps"},
                    Bad{"workers = [0, 1]", "workers = [0]", "", "workers"},
                    Bad{"workers = [0, 1]", "workers = [-1, 1]", "16:", "workers"},
                    Bad{"queues = 2", "queus = 2", "12:", "queus"},
                    Bad{"\"10G\"", "\"10G\"\nshare = 0", "14:", "share"},
                    Bad{"\"10G\"", "\"10G\"\nshare = 1.1", "14:", "share"},
                    Bad{"rate = \"10G\"", "share = 0.9", "13:", "rate"},
                    Bad{"\"10G\"", "\"10G\"\ndscp = 64", "14:", "dscp"},
                    Bad{"workers = [0, 1]", "workers = [0, 1]\n[test]\nhold_dir = \"holds\"",
                        "18:", "absolute"}));

TEST(Config, HoldsNothingUnlessTold) {
  EXPECT_TRUE(parse_config(kGood, "agent.toml")->hold_dir.empty());
  const auto config =
      parse_config(std::string(kGood) + "[test]\nhold_dir = \"/run/holds\"\n", "agent.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->hold_dir, "/run/holds");
}

TEST(Config, SaysWhatMayRunAsQemu) {
  const auto silent = parse_config(kGood, "agent.toml");
  ASSERT_TRUE(silent);
  EXPECT_FALSE(silent->qemu.binaries.empty());
  for (const auto& binary : silent->qemu.binaries) EXPECT_TRUE(binary.starts_with("/usr/"));
  EXPECT_FALSE(silent->qemu.arrivals_may_run_programs);
  const auto config = parse_config(
      std::string(kGood) + "[qemu]\nbinaries = [\"/opt/q\"]\narrivals_may_run_programs = true\n",
      "agent.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->qemu.binaries, std::vector<std::string>{"/opt/q"});
  EXPECT_TRUE(config->qemu.arrivals_may_run_programs);
  const auto relative =
      parse_config(std::string(kGood) + "[qemu]\nbinaries = [\"qemu\"]\n", "agent.toml");
  ASSERT_FALSE(relative);
  EXPECT_NE(relative.error().message.find("absolute"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Addresses, BadConfig,
    testing::Values(
        Bad{"10.77.1.1/24", "10.77.1.1", "10:", "prefix length"},
        Bad{"10.77.1.1/24", "10.77.1.1/33", "10:", "10.77.1.1/33"},
        Bad{"10.77.1.1/24", "fd00::1/129", "10:", "fd00::1/129"},
        Bad{"10.77.1.1/24", "ff02::1/64", "10:", "ff02::1"},
        Bad{"mtu = 9000", "gateway = \"router\"", "11:", "router"},
        Bad{"mtu = 9000", "gateway = \"10.77.2.1\"", "11:", "10.77.1.1/24"},
        Bad{"mtu = 9000", "gateway = \"10.77.1.1\"", "11:", "another host"},
        Bad{"mtu = 9000", "gateway = \"fd00::1\"", "11:", "fd00::1"},
        Bad{"[peers]", "[neighbours]\nrouter = \"02:00:00:00:00:01\"\n[peers]", "6:", "router"},
        Bad{"[peers]", "[neighbours]\n\"10.0.0.1\" = \"02:00\"\n[peers]", "6:", "10.0.0.1"},
        Bad{"[peers]", "[neighbours]\n\"10.0.0.1\" = \"ff:ff:ff:ff:ff:ff\"\n[peers]", "6:", "MAC"},
        Bad{"[peers]", "neighbours = 3\n[peers]", "5:", "neighbours"}));

TEST(Config, ReadsAddressesOfEitherFamily) {
  const auto four = parse_config(with("mtu = 9000", "gateway = \"10.77.1.254\""), "agent.toml");
  ASSERT_TRUE(four) << four.error().message;
  EXPECT_EQ(four->data_plane.address, *wire::parse_prefix("10.77.1.1/24"));
  EXPECT_EQ(four->data_plane.gateway, wire::parse_ip("10.77.1.254"));
  EXPECT_TRUE(four->data_plane.neighbours.empty());
  std::string text = with("10.77.1.1/24", "fd00::1/64");
  text += "[neighbours]\n\"fd00::2\" = \"02:00:00:00:00:02\"\n";
  const auto six = parse_config(text, "agent.toml");
  ASSERT_TRUE(six) << six.error().message;
  EXPECT_EQ(six->data_plane.address, *wire::parse_prefix("fd00::1/64"));
  EXPECT_FALSE(six->data_plane.gateway.has_value());
  EXPECT_EQ(six->data_plane.neighbours.at(*wire::parse_ip("fd00::2")),
            *wire::parse_mac("02:00:00:00:00:02"));
}

TEST(Config, NamesWhatIsMissing) {
  for (const char* line : {"host = \"h1\"\n", "run_dir = \"/run/sluice\"\n",
                           "port = \"memif:/run/m.sock\"\n", "address = \"10.77.1.1/24\"\n"}) {
    const auto config = parse_config(with(line, ""), "agent.toml");
    ASSERT_FALSE(config) << line;
    const std::string key = std::string(line).substr(0, std::string(line).find(' '));
    EXPECT_NE(config.error().message.find(key + " is missing"), std::string::npos)
        << config.error().message;
  }
}

TEST(Config, AFileThatIsNotThereIsNamed) {
  const auto config = load_config("/nonexistent/agent.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(config.error().message.find("/nonexistent/agent.toml"), std::string::npos);
}

}  // namespace
}  // namespace sluice::agent
