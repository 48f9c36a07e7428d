// One end of a migration as one agent describes it to the other, and what both agree on. What a
// peer says is checked here before anything is made of it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/agent/flow_plan.h"
#include "control/proto/sluice.pb.h"
#include "dataplane/base/expected.h"
#include "dataplane/port/dirty_source.h"
#include "dataplane/wire/packet.h"
#include "drivers/dpdk/data_plane.h"

namespace sluice::agent {

// This host's end as its data plane says, and one that the peer described (kInvalid if it makes no
// sense).
[[nodiscard]] v1::Endpoint describe_endpoint(const dpdk::PortInfo& info);
[[nodiscard]] wire::Endpoint local_endpoint(const dpdk::PortInfo& info);
[[nodiscard]] Expected<wire::Endpoint> parse_endpoint(const v1::Endpoint& endpoint);
// The same of the RSS function in it, which may be missing.
[[nodiscard]] Expected<std::optional<dpdk::RssFunction>> parse_rss(const v1::Endpoint& endpoint);

// The smaller of this host's MTU and the one that `peer` named; kInvalid if pages do not fit in it.
[[nodiscard]] Expected<std::size_t> agree_on_mtu(const dpdk::PortInfo& info, std::uint32_t peer_mtu,
                                                 const std::string& peer);

// The flows of a session with a peer of so many queues. kUnsupported where their link cannot come
// up.
[[nodiscard]] Expected<FlowPlan> plan_flows_with(const dpdk::PortInfo& info,
                                                 std::uint32_t peer_queues);

// The runs of a guest's memory that have content, as its source names them. kInvalid for a page
// beyond `ram_pages`.
[[nodiscard]] Expected<std::vector<port::PageRun>> parse_populated(const v1::Prepare& request,
                                                                   std::uint64_t ram_pages);

}  // namespace sluice::agent
