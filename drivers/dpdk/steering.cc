#include "drivers/dpdk/steering.h"

#include <algorithm>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>

namespace sluice::dpdk {
namespace {

// What ports whose driver does not say (struct rte_eth_dev_info) have.
constexpr std::uint8_t kUsualKeyBytes = 40;

// Hashes over a part of addresses and ports only.
constexpr std::uint64_t kPartialHashes = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L3_DST_ONLY |
                                         RTE_ETH_RSS_L4_SRC_ONLY | RTE_ETH_RSS_L4_DST_ONLY;

// One packet pattern: UDP to one port. As little else as possible is asked of the device.
struct Rule {
  explicit Rule(const SteeredPort& port, std::uint16_t queue) : to_queue{.index = queue} {
    spec.hdr.dst_port = rte_cpu_to_be_16(static_cast<std::uint16_t>(port.udp_port_first + queue));
    mask.hdr.dst_port = UINT16_MAX;
    attributes.ingress = 1;
    pattern[0].type = RTE_FLOW_ITEM_TYPE_ETH;
    pattern[1].type = port.over_ipv6 ? RTE_FLOW_ITEM_TYPE_IPV6 : RTE_FLOW_ITEM_TYPE_IPV4;
    pattern[2] = {RTE_FLOW_ITEM_TYPE_UDP, &spec, nullptr, &mask};
    pattern[3].type = RTE_FLOW_ITEM_TYPE_END;
    actions[0] = {RTE_FLOW_ACTION_TYPE_QUEUE, &to_queue};
    actions[1].type = RTE_FLOW_ACTION_TYPE_END;
  }
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;

  rte_flow_attr attributes{};
  rte_flow_item_udp spec{};
  rte_flow_item_udp mask{};
  rte_flow_action_queue to_queue;
  rte_flow_item pattern[4]{};
  rte_flow_action actions[2]{};
};

std::optional<std::vector<std::uint16_t>> read_table(std::uint16_t port_id, std::uint16_t entries) {
  constexpr std::size_t kGroup = RTE_ETH_RETA_GROUP_SIZE;
  std::vector<rte_eth_rss_reta_entry64> groups((entries + kGroup - 1) / kGroup);
  for (auto& group : groups) {
    group.mask = UINT64_MAX;
  }
  if (entries == 0 || rte_eth_dev_rss_reta_query(port_id, groups.data(), entries) != 0) {
    return std::nullopt;
  }
  std::vector<std::uint16_t> queues(entries);
  for (std::size_t i = 0; i < queues.size(); ++i) {
    queues[i] = groups[i / kGroup].reta[i % kGroup];
  }
  return queues;
}

}  // namespace

std::string describe(SteeringMethod method) {
  switch (method) {
    case SteeringMethod::kRules:
      return "by the port's rules (rte_flow), one for each queue";
    case SteeringMethod::kSourcePorts:
      return "by the port's RSS, for which senders choose UDP source ports";
    case SteeringMethod::kSoftware:
      return "in software, from the queue where the port puts a packet";
  }
  return {};
}

void ask_for_rss(const rte_eth_dev_info& info, rte_eth_conf& config) {
  const std::uint64_t hashes = info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
  if (hashes != 0) {
    config.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    config.rx_adv_conf.rss_conf.rss_hf = hashes;
  }
}

Steering::Steering(const SteeredPort& port) : port_(port) {
  if (make_rules()) {
    method_ = SteeringMethod::kRules;
  } else if (read_rss()) {
    method_ = SteeringMethod::kSourcePorts;
  }
}

Steering::~Steering() { remove_rules(); }

void Steering::pass_over(const std::string& method, const std::string& why) {
  remarks_.push_back("steering not by " + method + ": " + why);
}

// All or none: a port that is short of room for rules does not get some.
bool Steering::make_rules() {
  for (std::uint32_t queue = 0; queue < port_.queues; ++queue) {
    const Rule rule(port_, static_cast<std::uint16_t>(queue));
    rte_flow_error error{};
    rte_flow* made =
        rte_flow_create(port_.port_id, &rule.attributes, rule.pattern, rule.actions, &error);
    if (made == nullptr) {
      const int reason = rte_errno;
      remove_rules();
      pass_over("rte_flow", error.message != nullptr ? error.message : rte_strerror(reason));
      return false;
    }
    rules_.push_back(made);
  }
  return true;
}

void Steering::remove_rules() {
  for (rte_flow* rule : rules_) {
    rte_flow_error error{};
    rte_flow_destroy(port_.port_id, rule, &error);
  }
  rules_.clear();
}

bool Steering::read_rss() {
  rte_eth_dev_info info{};
  rte_eth_rss_conf hash{};
  RssFunction function;
  if (rte_eth_dev_info_get(port_.port_id, &info) == 0) {
    function.key.resize(info.hash_key_size == 0 ? kUsualKeyBytes : info.hash_key_size);
  }
  hash.rss_key = function.key.data();
  hash.rss_key_len = static_cast<std::uint8_t>(function.key.size());
  const auto table = read_table(port_.port_id, info.reta_size);
  if (!table || rte_eth_dev_rss_hash_conf_get(port_.port_id, &hash) != 0) {
    pass_over("RSS", "the port has none, or does not tell its key and table");
    return false;
  }
  const std::uint64_t wanted =
      port_.over_ipv6 ? RTE_ETH_RSS_NONFRAG_IPV6_UDP : RTE_ETH_RSS_NONFRAG_IPV4_UDP;
  if ((hash.rss_hf & (wanted | kPartialHashes)) != wanted) {
    pass_over("RSS", "the port does not hash UDP ports");
    return false;
  }
  function.queues = *table;
  if (!is_usable(function, port_.queues)) {
    pass_over("RSS", "the port's table does not lead to each queue, or its key is short");
    return false;
  }
  rss_ = std::move(function);
  return true;
}

}  // namespace sluice::dpdk
