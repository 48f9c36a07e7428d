// How many flows each worker has room for. Asked before a flow is lent, so that a worker is never
// given one that it has to refuse. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include "dataplane/base/expected.h"

namespace sluice::dpdk {

enum class FlowRole : std::uint8_t { kSend, kReceive };

class FlowSlots {
 public:
  // kNoCapacity: this worker serves engine::kFlowsMax flows of this role already.
  [[nodiscard]] Expected<void> claim(std::uint32_t worker, FlowRole role);
  // Once the worker has given the flow back.
  void release(std::uint32_t worker, FlowRole role);

 private:
  std::mutex mutex_;
  std::map<std::pair<std::uint32_t, FlowRole>, std::size_t> taken_;
};

}  // namespace sluice::dpdk
