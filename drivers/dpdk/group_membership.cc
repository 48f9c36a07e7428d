#include "drivers/dpdk/group_membership.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/if_packet.h>
#include <net/if.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sluice::dpdk {

KernelGroupMembership::~KernelGroupMembership() {
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
}

// Through a packet socket that receives nothing itself: the kernel keeps the membership for as long
// as it is open (packet(7), PACKET_ADD_MEMBERSHIP).
Expected<void> KernelGroupMembership::join(const std::string& interface,
                                           const wire::MacAddress& group) {
  descriptor_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  packet_mreq request{};
  request.mr_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  request.mr_type = PACKET_MR_MULTICAST;
  request.mr_alen = group.size();
  std::copy(group.begin(), group.end(), request.mr_address);
  if (descriptor_ < 0 ||
      setsockopt(descriptor_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof(request)) != 0) {
    return fail(ErrorKind::kFailed,
                "neighbour solicitations cannot be received: " + std::string(std::strerror(errno)));
  }
  return {};
}

Expected<void> join_group(std::uint16_t port_id, const wire::MacAddress& group) {
  rte_ether_addr address{};
  std::copy(group.begin(), group.end(), address.addr_bytes);
  if (rte_eth_dev_set_mc_addr_list(port_id, &address, 1) == 0) {
    return {};
  }
  if (const int result = rte_eth_allmulticast_enable(port_id); result != 0) {
    return fail(ErrorKind::kFailed, "neighbour solicitations cannot be received: " +
                                        std::string(rte_strerror(-result)));
  }
  return {};
}

}  // namespace sluice::dpdk
