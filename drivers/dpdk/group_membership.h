// Lets the Ethernet frames of one multicast group through to a port.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/base/expected.h"
#include "dataplane/wire/address.h"

namespace sluice::dpdk {

// A kernel interface receives the group's frames as long as this lives.
class KernelGroupMembership {
 public:
  KernelGroupMembership() = default;
  ~KernelGroupMembership();
  KernelGroupMembership(const KernelGroupMembership&) = delete;
  KernelGroupMembership& operator=(const KernelGroupMembership&) = delete;

  [[nodiscard]] Expected<void> join(const std::string& interface, const wire::MacAddress& group);

 private:
  int descriptor_ = -1;
};

// A DPDK port receives the group's frames, or all groups' where it cannot choose.
[[nodiscard]] Expected<void> join_group(std::uint16_t port_id, const wire::MacAddress& group);

}  // namespace sluice::dpdk
