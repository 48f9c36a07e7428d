// What agents say to each other over gRPC, as the wire has it: whatever a peer claims of its end
// and of its guest, what is accepted can be sent to and lies in the guest's memory.
#include <string>

#include "control/agent/peer_endpoint.h"
#include "control/model/description.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::agent {
namespace {

using fuzz::accepted;
using fuzz::require;

constexpr std::uint64_t kRamPages = 8192;

dpdk::PortInfo local_port() {
  dpdk::PortInfo info;
  info.mac = {2, 0, 0, 0, 0, 1};
  info.address = *wire::parse_prefix("10.0.0.1/24");
  info.udp_port = 7332;
  info.mtu = 9000;
  info.queues = 3;
  return info;
}

// Every flow's packets come to a port that the peer has, from one that its RSS function leads to
// the flow's queue.
void check_flows(const v1::Endpoint& endpoint, const wire::Endpoint& peer,
                 const std::optional<dpdk::RssFunction>& rss) {
  const dpdk::PortInfo here = local_port();
  const auto plan = plan_flows_with(here, endpoint.queues());
  require(plan.has_value(), "ports that are not paired have flows whatever their queues");
  require(plan->flows >= 1 && plan->flows <= kFlowsPerWorkerMax * std::max(plan->workers, 1U),
          "a worker serves a bounded number of flows");
  wire::Endpoint remote = peer;
  wire::Endpoint local = local_endpoint(here);
  if (local.address.is_v6() != remote.address.is_v6()) {
    return;  // next_hop() refuses it
  }
  for (std::uint32_t queue = 0; queue < plan->peer_workers; ++queue) {
    remote.port = static_cast<std::uint16_t>(peer.port + queue);
    require(remote.port >= peer.port, "the peer's ports do not wrap around");
    if (!rss) {
      continue;
    }
    if (const auto port = dpdk::source_port_to(*rss, local, remote, queue)) {
      local.port = *port;
      require(dpdk::queue_of(*rss, local, remote) == queue, "a flow is steered to its queue");
    }
  }
}

void check_endpoint(const v1::Endpoint& endpoint) {
  const auto peer = parse_endpoint(endpoint);
  const auto rss = parse_rss(endpoint);
  if (!accepted(peer) || !accepted(rss)) {
    return;
  }
  require(wire::is_unicast(peer->mac) && peer->address.is_specified(), "a peer can be sent to");
  require(peer->port + endpoint.queues() <= 65'536, "a peer's queues have ports");
  check_flows(endpoint, *peer, *rss);
}

void check_prepare(const v1::Prepare& prepare) {
  check_endpoint(prepare.source());
  const dpdk::PortInfo here = local_port();
  const auto mtu = agree_on_mtu(here, prepare.mtu(), "h2");
  if (accepted(mtu)) {
    require(*mtu <= here.mtu && *mtu >= wire::smallest_mtu(here.address.address),
            "pages fit in what both agree on");
  }
  const auto populated = parse_populated(prepare, kRamPages);
  if (accepted(populated)) {
    for (const auto& run : *populated) {
      require(run.first < kRamPages && run.count <= kRamPages - run.first,
              "what is populated lies in the guest's memory");
    }
  }
  (void)accepted(model::parse_description(prepare.guest_description_json()));
}

}  // namespace
}  // namespace sluice::agent

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const auto bytes = static_cast<int>(size);
  v1::SourceMessage from_source;
  if (from_source.ParseFromArray(data, bytes) && from_source.has_prepare()) {
    agent::check_prepare(from_source.prepare());
  }
  v1::DestinationMessage from_destination;
  if (from_destination.ParseFromArray(data, bytes) && from_destination.has_prepared()) {
    agent::check_endpoint(from_destination.prepared().destination());
  }
  return 0;
}
