// Packets of a session come to the queues of their workers at either end, where the ports spread
// them by RSS.
#include <algorithm>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "control/agent/flows.h"
#include "dataplane/base/random.h"

namespace sluice::agent {
namespace {

dpdk::PortInfo rss_port(Random& random, const char* address, std::uint32_t queues) {
  dpdk::PortInfo info;
  info.mac = {2, 0, 0, 0, 0, 1};
  info.address = *wire::parse_prefix(address);
  info.udp_port = static_cast<std::uint16_t>(7000 + random.below(1000));
  info.mtu = 9000;
  info.queues = queues;
  info.rss.emplace();
  for (int i = 0; i < 40; ++i) info.rss->key.push_back(static_cast<std::uint8_t>(random.next()));
  for (std::uint32_t i = 0; i < 128; ++i)
    info.rss->queues.push_back(static_cast<std::uint16_t>(i % queues));
  return info;
}

// One end's view of a session, from what the other describes.
FlowsConfig view(const dpdk::PortInfo& here, const dpdk::PortInfo& there) {
  const v1::Endpoint described = describe_endpoint(there);
  FlowsConfig config;
  config.plan = plan_flows(here.queues, described.queues(), false);
  config.local = local_endpoint(here);
  config.remote = parse_endpoint(described).value();
  config.remote_rss = parse_rss(described).value();
  return config;
}

struct UdpPorts {
  std::uint16_t source = 0;
  std::uint16_t destination = 0;
};

UdpPorts ports_of(const wire::PacketTemplate& packet) {
  std::vector<std::byte> bytes(packet.bytes());
  packet.fill(bytes, 100);
  const std::size_t at = bytes.size() - wire::kUdpBytes;
  const auto field = [&](std::size_t i) {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[at + i]) << 8U |
                                      std::to_integer<unsigned>(bytes[at + i + 1]));
  };
  return {field(0), field(2)};
}

void expect_every_flow_steered(const dpdk::PortInfo& from, const dpdk::PortInfo& to) {
  const FlowsConfig config = view(from, to);
  std::vector<bool> reached(config.plan.peer_workers);
  for (std::uint32_t flow = 0; flow < config.plan.flows; ++flow) {
    const UdpPorts ports = ports_of(packet_template(config, flow));
    const std::uint32_t worker = flow % config.plan.peer_workers;
    EXPECT_EQ(ports.destination, to.udp_port + worker) << "what software goes by";
    wire::Endpoint source = config.local;
    wire::Endpoint destination = config.remote;
    source.port = ports.source;
    destination.port = ports.destination;
    const auto queue = dpdk::queue_of(*to.rss, source, destination);
    EXPECT_EQ(queue, worker) << "flow " << flow;
    reached.at(queue) = true;
  }
  EXPECT_EQ(std::count(reached.begin(), reached.end(), true),
            static_cast<std::ptrdiff_t>(reached.size()));
}

TEST(FlowSteering, RssPutsEveryFlowIntoItsQueueAtBothEnds) {
  constexpr std::uint64_t kSeed = 74;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (const auto& [here, there] : {std::pair{2U, 2U}, {1U, 3U}, {8U, 3U}, {16U, 16U}}) {
    SCOPED_TRACE(testing::Message() << here << " and " << there << " queues");
    for (const bool v6 : {false, true}) {
      const auto one = rss_port(random, v6 ? "fd00::1/64" : "10.0.0.1/24", here);
      const auto other = rss_port(random, v6 ? "fd00::2/64" : "10.0.0.2/24", there);
      expect_every_flow_steered(one, other);
      expect_every_flow_steered(other, one);
    }
  }
}

TEST(FlowSteering, WithoutRssPacketsComeFromTheWorkersOwnPort) {
  Random random(1);
  const auto here = rss_port(random, "10.0.0.1/24", 2);
  auto there = rss_port(random, "10.0.0.2/24", 2);
  there.rss.reset();
  const FlowsConfig config = view(here, there);
  EXPECT_FALSE(config.remote_rss);
  EXPECT_EQ(ports_of(packet_template(config, 1)).source, here.udp_port + 1);
}

TEST(FlowSteering, AnRssFunctionThatMakesNoSenseIsRefused) {
  Random random(2);
  const auto port = rss_port(random, "10.0.0.1/24", 2);
  const v1::Endpoint good = describe_endpoint(port);
  EXPECT_EQ(parse_rss(good).value(), port.rss);

  v1::Endpoint without;
  EXPECT_EQ(parse_rss(without).value(), std::nullopt);
  v1::Endpoint short_key = good;
  short_key.mutable_rss()->mutable_key()->resize(16);
  v1::Endpoint odd_table = good;
  odd_table.mutable_rss()->add_queue(0);
  v1::Endpoint unknown_queue = good;
  unknown_queue.mutable_rss()->set_queue(5, 0x10001);
  v1::Endpoint huge_table = good;
  huge_table.mutable_rss()->mutable_queue()->Resize(1 << 20, 0);
  for (const auto& bad : {short_key, odd_table, unknown_queue, huge_table}) {
    const auto parsed = parse_rss(bad);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().kind, ErrorKind::kInvalid);
  }
}

}  // namespace
}  // namespace sluice::agent
