#include "control/agent/flow_plan.h"

#include <algorithm>

#include "dataplane/engine/commands.h"

namespace sluice::agent {

static_assert(kFlowsPerWorkerMax <= engine::kFlowsMax);

FlowPlan plan_flows(std::uint32_t queues, std::uint32_t peer_queues, bool paired) {
  const std::uint32_t fewer = std::min(queues, peer_queues);
  if (paired) return {fewer, fewer, fewer};
  const std::uint32_t more = std::max(queues, peer_queues);
  const std::uint32_t flows_each = std::min((more + fewer - 1) / fewer, kFlowsPerWorkerMax);
  const std::uint32_t flows = fewer * flows_each;
  return {flows, std::min(queues, flows), std::min(peer_queues, flows)};
}

}  // namespace sluice::agent
