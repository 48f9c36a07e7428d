// Which method of steering is chosen for a port. The ports are DPDK's own virtual ones; none of
// them takes rules here, so that those are given to a stand-in.
#include "drivers/dpdk/steering.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rte_byteorder.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_mbuf.h>
#include <string>

#include "dataplane/base/random.h"
#include "drivers/dpdk/eal.h"

namespace sluice::dpdk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What rte_flow is asked for while a test has one of these; without, the port itself is asked.
class RuleTable {
 public:
  struct Rule {
    rte_flow_item_type over = RTE_FLOW_ITEM_TYPE_VOID;
    std::uint16_t udp_port = 0;
    std::uint16_t queue = 0;

    friend bool operator==(const Rule&, const Rule&) = default;
  };

  explicit RuleTable(std::size_t room) : room_(room) { active = this; }
  ~RuleTable() { active = nullptr; }
  RuleTable(const RuleTable&) = delete;
  RuleTable& operator=(const RuleTable&) = delete;

  rte_flow* add(const rte_flow_attr& attributes, const rte_flow_item* pattern,
                const rte_flow_action* actions) {
    if (rules.size() == room_) {
      rte_errno = ENOSPC;
      return nullptr;
    }
    EXPECT_EQ(attributes.ingress, 1U);
    EXPECT_EQ(pattern[0].type, RTE_FLOW_ITEM_TYPE_ETH);
    EXPECT_EQ(pattern[2].type, RTE_FLOW_ITEM_TYPE_UDP);
    EXPECT_EQ(pattern[3].type, RTE_FLOW_ITEM_TYPE_END);
    const auto& spec = static_cast<const rte_flow_item_udp*>(pattern[2].spec)->hdr;
    const auto& mask = static_cast<const rte_flow_item_udp*>(pattern[2].mask)->hdr;
    EXPECT_EQ(mask.dst_port, UINT16_MAX);
    EXPECT_EQ(mask.src_port, 0);
    EXPECT_EQ(actions[0].type, RTE_FLOW_ACTION_TYPE_QUEUE);
    EXPECT_EQ(actions[1].type, RTE_FLOW_ACTION_TYPE_END);
    rules.push_back({pattern[1].type, rte_be_to_cpu_16(spec.dst_port),
                     static_cast<const rte_flow_action_queue*>(actions[0].conf)->index});
    return reinterpret_cast<rte_flow*>(rules.size());
  }
  void remove(rte_flow* rule) {
    rules.at(reinterpret_cast<std::size_t>(rule) - 1) = {};
    ++removed;
  }

  static RuleTable* active;
  std::vector<Rule> rules;
  std::size_t removed = 0;

 private:
  std::size_t room_;
};

RuleTable* RuleTable::active = nullptr;

}  // namespace
}  // namespace sluice::dpdk

// The linker's --wrap leads the driver's calls here, and ours to the library.
rte_flow* create_in_port(std::uint16_t port, const rte_flow_attr* attributes,
                         const rte_flow_item pattern[], const rte_flow_action actions[],
                         rte_flow_error* error) __asm__("__real_rte_flow_create");
int destroy_in_port(std::uint16_t port, rte_flow* rule,
                    rte_flow_error* error) __asm__("__real_rte_flow_destroy");
rte_flow* create_rule(std::uint16_t port, const rte_flow_attr* attributes,
                      const rte_flow_item pattern[], const rte_flow_action actions[],
                      rte_flow_error* error) __asm__("__wrap_rte_flow_create");
int destroy_rule(std::uint16_t port, rte_flow* rule,
                 rte_flow_error* error) __asm__("__wrap_rte_flow_destroy");

rte_flow* create_rule(std::uint16_t port, const rte_flow_attr* attributes,
                      const rte_flow_item pattern[], const rte_flow_action actions[],
                      rte_flow_error* error) {
  auto* table = sluice::dpdk::RuleTable::active;
  return table != nullptr ? table->add(*attributes, pattern, actions)
                          : create_in_port(port, attributes, pattern, actions, error);
}
int destroy_rule(std::uint16_t port, rte_flow* rule, rte_flow_error* error) {
  auto* table = sluice::dpdk::RuleTable::active;
  if (table == nullptr) {
    return destroy_in_port(port, rule, error);
  }
  table->remove(rule);
  return 0;
}

namespace sluice::dpdk {
namespace {

constexpr std::uint16_t kUdpPort = 7401;
constexpr std::uint16_t kSlots = 64;
constexpr std::size_t kTable = 128;  // net_null's

void start_eal_once() {
  static const bool started = [] {
    const auto eal =
        start_eal({Hugepages::kNo, 64UL << 20, "sluice-steering-test", "", "net_ring0"});
    EXPECT_TRUE(eal) << eal.error().message;
    return eal.has_value();
  }();
  ASSERT_TRUE(started);
}

// A virtual port, started with RSS if it has that.
class VirtualPort {
 public:
  VirtualPort(const std::string& name, std::uint16_t queues) : name_(name) {
    start_eal_once();
    EXPECT_EQ(rte_eal_hotplug_add("vdev", name.c_str(), ""), 0) << name;
    EXPECT_EQ(rte_eth_dev_get_port_by_name(name.c_str(), &id_), 0);
    static rte_mempool* const buffers =
        rte_pktmbuf_pool_create("buffers", 2048, 0, 0, 2048, SOCKET_ID_ANY);
    rte_eth_dev_info info{};
    EXPECT_EQ(rte_eth_dev_info_get(id_, &info), 0);
    rte_eth_conf config{};
    ask_for_rss(info, config);
    EXPECT_EQ(rte_eth_dev_configure(id_, queues, queues, &config), 0);
    for (std::uint16_t queue = 0; queue < queues; ++queue) {
      EXPECT_EQ(rte_eth_rx_queue_setup(id_, queue, kSlots, 0, nullptr, buffers), 0);
      EXPECT_EQ(rte_eth_tx_queue_setup(id_, queue, kSlots, 0, nullptr), 0);
    }
    EXPECT_EQ(rte_eth_dev_start(id_), 0);
  }
  ~VirtualPort() {
    rte_eth_dev_stop(id_);
    rte_eal_hotplug_remove("vdev", name_.c_str());
  }
  VirtualPort(const VirtualPort&) = delete;
  VirtualPort& operator=(const VirtualPort&) = delete;

  [[nodiscard]] std::uint16_t id() const { return id_; }

  void spread_over(std::uint16_t queues) const {
    std::array<rte_eth_rss_reta_entry64, kTable / RTE_ETH_RETA_GROUP_SIZE> groups{};
    for (std::size_t i = 0; i < kTable; ++i) {
      auto& group = groups.at(i / RTE_ETH_RETA_GROUP_SIZE);
      group.mask = UINT64_MAX;
      group.reta[i % RTE_ETH_RETA_GROUP_SIZE] = static_cast<std::uint16_t>(i % queues);
    }
    EXPECT_EQ(rte_eth_dev_rss_reta_update(id_, groups.data(), kTable), 0);
  }

 private:
  std::string name_;
  std::uint16_t id_ = 0;
};

TEST(Steering, APortThatTakesRulesGetsOneForEachQueue) {
  const VirtualPort port("net_null_rules", 3);
  RuleTable table(8);
  {
    const Steering steering({port.id(), 3, kUdpPort, false});
    EXPECT_EQ(steering.method(), SteeringMethod::kRules);
    EXPECT_FALSE(steering.rss());
    EXPECT_THAT(steering.remarks(), IsEmpty());
    EXPECT_THAT(table.rules, ElementsAre(RuleTable::Rule{RTE_FLOW_ITEM_TYPE_IPV4, 7401, 0},
                                         RuleTable::Rule{RTE_FLOW_ITEM_TYPE_IPV4, 7402, 1},
                                         RuleTable::Rule{RTE_FLOW_ITEM_TYPE_IPV4, 7403, 2}));
    EXPECT_EQ(table.removed, 0U);
  }
  EXPECT_EQ(table.removed, 3U);
}

TEST(Steering, RulesOverIpv6MatchIpv6) {
  const VirtualPort port("net_null_rules6", 2);
  RuleTable table(8);
  const Steering steering({port.id(), 2, kUdpPort, true});
  EXPECT_THAT(table.rules, ElementsAre(RuleTable::Rule{RTE_FLOW_ITEM_TYPE_IPV6, 7401, 0},
                                       RuleTable::Rule{RTE_FLOW_ITEM_TYPE_IPV6, 7402, 1}));
}

TEST(Steering, APortShortOfRulesKeepsNoneAndUsesItsRss) {
  const VirtualPort port("net_null_short", 3);
  port.spread_over(3);
  RuleTable table(2);
  const Steering steering({port.id(), 3, kUdpPort, false});
  EXPECT_EQ(table.removed, 2U);
  EXPECT_EQ(steering.method(), SteeringMethod::kSourcePorts);
  EXPECT_THAT(steering.remarks(), ElementsAre(HasSubstr("rte_flow")));
}

TEST(Steering, ThroughAPortsRssSenderReachesEachQueue) {
  constexpr std::uint16_t kQueues = 8;
  const VirtualPort port("net_null_rss", kQueues);
  port.spread_over(kQueues);
  const Steering steering({port.id(), kQueues, kUdpPort, false});
  ASSERT_EQ(steering.method(), SteeringMethod::kSourcePorts);
  ASSERT_TRUE(steering.rss());

  std::array<std::uint8_t, 40> key{};
  rte_eth_rss_conf told{key.data(), key.size(), 0};
  ASSERT_EQ(rte_eth_dev_rss_hash_conf_get(port.id(), &told), 0);
  EXPECT_TRUE(std::equal(key.begin(), key.end(), steering.rss()->key.begin()));
  EXPECT_EQ(steering.rss()->queues.size(), kTable);

  wire::Endpoint from{{2, 0, 0, 0, 0, 1}, wire::IpAddress(0x0A4D0101), kUdpPort};
  wire::Endpoint to{{2, 0, 0, 0, 0, 2}, wire::IpAddress(0x0A4D0102), kUdpPort};
  for (std::uint16_t queue = 0; queue < kQueues; ++queue) {
    to.port = static_cast<std::uint16_t>(kUdpPort + queue);
    const auto source = source_port_to(*steering.rss(), from, to, queue);
    ASSERT_TRUE(source);
    EXPECT_EQ(queue_of(*steering.rss(), {from.mac, from.address, *source}, to), queue);
  }
}

TEST(Steering, ATableThatMissesAQueueLeavesSoftware) {
  const VirtualPort port("net_null_partial", 3);
  port.spread_over(2);
  const Steering steering({port.id(), 3, kUdpPort, false});
  EXPECT_EQ(steering.method(), SteeringMethod::kSoftware);
  EXPECT_FALSE(steering.rss());
  EXPECT_THAT(steering.remarks(), ElementsAre(HasSubstr("rte_flow"), HasSubstr("table")));
}

TEST(Steering, APortWithNothingIsSteeredInSoftware) {
  start_eal_once();
  std::uint16_t id = 0;
  ASSERT_EQ(rte_eth_dev_get_port_by_name("net_ring0", &id), 0);
  const Steering steering({id, 2, kUdpPort, false});
  EXPECT_EQ(steering.method(), SteeringMethod::kSoftware);
  EXPECT_THAT(steering.remarks(), ElementsAre(HasSubstr("rte_flow"), HasSubstr("RSS")));
}

}  // namespace
}  // namespace sluice::dpdk
