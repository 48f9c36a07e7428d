// How many flows a session has between two hosts, and which worker serves which at either end.
#pragma once

#include <cstdint>

namespace sluice::agent {

struct FlowPlan {
  std::uint32_t flows = 1;
  // Workers that serve the session at this end and at the other: flow i is that of worker
  // i modulo workers, which is also the index of its queue and of its UDP port.
  std::uint32_t workers = 1;
  std::uint32_t peer_workers = 1;

  friend bool operator==(const FlowPlan&, const FlowPlan&) = default;
};

// Leaves a worker room for the flows of several sessions at once (engine::kFlowsMax).
inline constexpr std::uint32_t kFlowsPerWorkerMax = 4;
inline constexpr std::uint32_t kQueuesMax = 64;  // of one host, as the configuration has it

// For hosts with `queues` and `peer_queues` queue pairs (1..kQueuesMax). At least as many flows as
// the larger has, so that all of its workers take part, and a multiple of the smaller, so that none
// of its workers has more to do than another. `paired`: queue i of one host reaches only queue i of
// the other, so that only as many as both have can be used. Symmetrical.
[[nodiscard]] FlowPlan plan_flows(std::uint32_t queues, std::uint32_t peer_queues, bool paired);

}  // namespace sluice::agent
