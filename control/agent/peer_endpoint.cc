#include "control/agent/peer_endpoint.h"

#include <algorithm>
#include <fmt/format.h>

namespace sluice::agent {

v1::Endpoint describe_endpoint(const dpdk::PortInfo& info) {
  v1::Endpoint endpoint;
  endpoint.set_mac(info.mac.data(), info.mac.size());
  const auto& address = info.address.address;
  if (address.is_v6()) {
    endpoint.set_ipv6(address.bytes().data(), address.bytes().size());
  } else {
    endpoint.set_ipv4(address.ipv4());
  }
  endpoint.set_udp_port(info.udp_port);
  endpoint.set_queues(info.queues);
  endpoint.set_mtu(static_cast<std::uint32_t>(info.mtu));
  if (info.rss) {
    endpoint.mutable_rss()->set_key(info.rss->key.data(), info.rss->key.size());
    for (const auto queue : info.rss->queues) endpoint.mutable_rss()->add_queue(queue);
  }
  return endpoint;
}

wire::Endpoint local_endpoint(const dpdk::PortInfo& info) {
  return {info.mac, info.address.address, info.udp_port};
}

Expected<wire::Endpoint> parse_endpoint(const v1::Endpoint& endpoint) {
  wire::Endpoint parsed;
  wire::IpAddress::V6Bytes ipv6{};
  if (endpoint.ipv6().size() == ipv6.size()) {
    std::copy(endpoint.ipv6().begin(), endpoint.ipv6().end(), ipv6.begin());
    parsed.address = wire::IpAddress(ipv6);
  } else {
    parsed.address = wire::IpAddress(endpoint.ipv4());
  }
  std::copy_n(endpoint.mac().begin(), std::min(endpoint.mac().size(), parsed.mac.size()),
              parsed.mac.begin());
  if (endpoint.mac().size() != parsed.mac.size() || !wire::is_unicast(parsed.mac) ||
      !parsed.address.is_specified() || parsed.address.is_multicast() || endpoint.udp_port() == 0 ||
      endpoint.queues() == 0 || endpoint.queues() > kQueuesMax ||
      endpoint.udp_port() > 65'536 - endpoint.queues())
    return fail(ErrorKind::kInvalid, "the peer described no usable data plane address");
  parsed.port = static_cast<std::uint16_t>(endpoint.udp_port());
  return parsed;
}

Expected<std::optional<dpdk::RssFunction>> parse_rss(const v1::Endpoint& endpoint) {
  if (!endpoint.has_rss()) return std::nullopt;
  const auto& described = endpoint.rss();
  dpdk::RssFunction function{{described.key().begin(), described.key().end()}, {}};
  for (const auto queue : described.queue())
    function.queues.push_back(static_cast<std::uint16_t>(std::min(queue, kQueuesMax)));
  if (!dpdk::is_usable(function, endpoint.queues()))
    return fail(ErrorKind::kInvalid, "the peer described no usable RSS function");
  return function;
}

Expected<std::size_t> agree_on_mtu(const dpdk::PortInfo& info, std::uint32_t peer_mtu,
                                   const std::string& peer) {
  const std::size_t smallest = wire::smallest_mtu(info.address.address);
  if (peer_mtu < smallest) {
    return fail(ErrorKind::kInvalid,
                fmt::format("{} asks for an MTU of {}, below {}, the smallest that pages fit in; "
                            "correct mtu in its agent.toml",
                            peer, peer_mtu, smallest));
  }
  return std::min<std::size_t>(peer_mtu, info.mtu);
}

// DPDK's memif client (22.11) asks for as many rings as it has queues, and a server with fewer
// refuses it.
Expected<FlowPlan> plan_flows_with(const dpdk::PortInfo& info, std::uint32_t peer_queues) {
  const std::uint32_t server = info.memif_server ? info.queues : peer_queues;
  const std::uint32_t client = info.memif_server ? peer_queues : info.queues;
  if (info.queues_are_paired && client > server) {
    return fail(ErrorKind::kUnsupported,
                fmt::format("the memif client has {} queues and its server {}: the link does not "
                            "come up; set dataplane.queues of the client to {} or fewer",
                            client, server, server));
  }
  return plan_flows(info.queues, peer_queues, info.queues_are_paired);
}

Expected<std::vector<port::PageRun>> parse_populated(const v1::Prepare& request,
                                                     std::uint64_t ram_pages) {
  std::vector<port::PageRun> runs;
  for (const auto& run : request.populated()) {
    if (run.first() >= ram_pages || run.count() > ram_pages - run.first())
      return fail(ErrorKind::kInvalid, "the source named pages beyond the guest's memory");
    runs.push_back({run.first(), run.count()});
  }
  return runs;
}

}  // namespace sluice::agent
