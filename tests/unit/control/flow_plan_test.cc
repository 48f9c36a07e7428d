#include "control/agent/flow_plan.h"

#include <gtest/gtest.h>
#include <vector>

#include "control/agent/flows.h"

namespace sluice::agent {
namespace {

TEST(FlowPlan, EqualHostsHaveOneFlowAQueue) {
  EXPECT_EQ(plan_flows(1, 1, false), (FlowPlan{1, 1, 1}));
  EXPECT_EQ(plan_flows(4, 4, false), (FlowPlan{4, 4, 4}));
  EXPECT_EQ(plan_flows(64, 64, false), (FlowPlan{64, 64, 64}));
}

TEST(FlowPlan, TheLargerHostsWorkersAllTakePart) {
  EXPECT_EQ(plan_flows(2, 1, false), (FlowPlan{2, 2, 1}));
  EXPECT_EQ(plan_flows(1, 3, false), (FlowPlan{3, 1, 3}));
  EXPECT_EQ(plan_flows(2, 3, false), (FlowPlan{4, 2, 3}));
  EXPECT_EQ(plan_flows(1, 64, false), (FlowPlan{4, 1, 4})) << "bounded by what a worker serves";
}

TEST(FlowPlan, PairedQueuesUseWhatBothHave) {
  EXPECT_EQ(plan_flows(2, 1, true), (FlowPlan{1, 1, 1}));
  EXPECT_EQ(plan_flows(2, 3, true), (FlowPlan{2, 2, 2}));
}

// Most work of one worker, were every flow equal.
double largest_share(std::uint32_t flows, std::uint32_t workers) {
  return static_cast<double>((flows + workers - 1) / workers) / flows;
}

TEST(FlowPlan, EveryPairAgreesAndOverloadsNobody) {
  for (std::uint32_t one = 1; one <= kQueuesMax; ++one) {
    for (std::uint32_t other = 1; other <= kQueuesMax; ++other) {
      for (const bool paired : {false, true}) {
        const FlowPlan here = plan_flows(one, other, paired);
        const FlowPlan there = plan_flows(other, one, paired);
        SCOPED_TRACE(testing::Message() << one << " and " << other << " queues");
        EXPECT_EQ(here, (FlowPlan{there.flows, there.peer_workers, there.workers}));
        EXPECT_LE(here.workers, one);
        EXPECT_LE(here.flows, here.workers * kFlowsPerWorkerMax);
        EXPECT_EQ(here.flows % std::min(one, other), 0U);
        // Never worse than one flow for each queue that both have.
        const double bound = 1.0 / std::min(one, other);
        EXPECT_LE(largest_share(here.flows, here.workers), bound);
        EXPECT_LE(largest_share(here.flows, here.peer_workers), bound);
      }
    }
  }
}

dpdk::PortInfo port_of(std::size_t mtu, const char* address) {
  dpdk::PortInfo info;
  info.mtu = mtu;
  info.address = *wire::parse_prefix(address);
  return info;
}

TEST(AgreedMtu, IsTheSmallerOneAndCarriesPages) {
  EXPECT_EQ(agree_on_mtu(port_of(9000, "10.0.0.1/24"), 1500, "h2"), 1500U);
  EXPECT_EQ(agree_on_mtu(port_of(1500, "fd00::1/64"), 9000, "h2"), 1500U);
  EXPECT_EQ(agree_on_mtu(port_of(9000, "10.0.0.1/24"), 640, "h2"), 640U);
  EXPECT_EQ(agree_on_mtu(port_of(9000, "fd00::1/64"), 660, "h2"), 660U)
      << "20 bytes more of headers";
  EXPECT_FALSE(agree_on_mtu(port_of(9000, "10.0.0.1/24"), 639, "h2"));
  const auto refused = agree_on_mtu(port_of(9000, "fd00::1/64"), 659, "h2");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "h2 asks for an MTU of 659, below 660, the smallest that pages fit in; correct mtu in "
            "its agent.toml");
}

}  // namespace
}  // namespace sluice::agent
