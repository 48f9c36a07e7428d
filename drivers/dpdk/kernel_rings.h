// Frees the transmit rings of AF_PACKET of frames that the kernel never takes.
//
// The far end of a veth refuses frames above its MTU, which no real link does. A device without a
// queueing discipline passes that on as congestion, and the kernel then leaves the frame at the
// ring's head to be tried again (Linux 6.18, tpacket_snd() in net/packet/af_packet.c): for ever,
// with all that comes behind it. PACKET_LOSS, which DPDK's driver sets, is for frames above the
// interface's own MTU only.
//
// A frame whose length is impossible is such a one. So when a ring stands still, its largest frames
// are given an impossible length: they are lost, as they would have been on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::dpdk {

// One thread at a time, which need not be a worker's: frames that the driver or the kernel touch
// meanwhile are lost at worst.
class KernelRings {
 public:
  // Of the sockets that DPDK's driver (22.11) has bound to this interface, each with a receive and
  // a transmit ring of `frames` frames of `frame_bytes`; they are closed later than this. kFailed
  // if there are not as many as `queues`.
  [[nodiscard]] static Expected<std::unique_ptr<KernelRings>> open(const std::string& interface,
                                                                   std::size_t queues,
                                                                   std::size_t frame_bytes,
                                                                   std::size_t frames);
  ~KernelRings();
  KernelRings(const KernelRings&) = delete;
  KernelRings& operator=(const KernelRings&) = delete;

  // Frees the rings that no frame has left since the last call although some waited. `accepted`:
  // how many frames each queue's driver has taken so far.
  void supervise(std::span<const std::uint64_t> accepted);

 private:
  class Ring;
  explicit KernelRings(std::vector<std::unique_ptr<Ring>> rings);

  std::vector<std::unique_ptr<Ring>> rings_;  // by queue
};

}  // namespace sluice::dpdk
