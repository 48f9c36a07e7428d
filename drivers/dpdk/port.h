// One network port of DPDK and its queue pairs.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/wire/packet.h"
#include "drivers/dpdk/group_membership.h"
#include "drivers/dpdk/kernel_rings.h"
#include "drivers/dpdk/queue.h"
#include "drivers/dpdk/steering.h"

namespace sluice::dpdk {

enum class PortKind : std::uint8_t {
  kPci = 1,  // "pci:0000:3b:00.0", a NIC bound to a user-space driver
  kKernel,   // "kernel:mig0", a kernel interface through AF_PACKET
  kMemif,    // "memif:/run/sluice/memif.sock", shared memory with another process of this machine
};

struct PortName {
  PortKind kind = PortKind::kKernel;
  std::string target;  // address, interface or socket
};

// kInvalid names what was expected.
[[nodiscard]] Expected<PortName> parse_port(std::string_view text);

struct PortOptions {
  PortName name;
  bool memif_server = false;
  std::size_t mtu = 9000;
  std::uint32_t queues = 1;
  std::uint16_t udp_port = 0;  // queue i receives what is sent to udp_port + i
  wire::IpAddress address;
};

// What can be known to be wrong before the EAL starts: interface missing or down or its MTU too
// small, socket's directory missing, MTU out of range. Removes the socket of a memif server that
// has died, as the driver cannot bind over it.
[[nodiscard]] Expected<void> check_port(const PortOptions& options);

// The EAL's --vdev argument; empty for a PCI device.
[[nodiscard]] std::string virtual_device(const PortOptions& options);

class Port {
 public:
  // After the EAL has started with virtual_device(). A memif whose peer is not there yet is no
  // error: its queues accept nothing until the peer has come.
  [[nodiscard]] static Expected<std::unique_ptr<Port>> open(const PortOptions& options);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  [[nodiscard]] Queue& queue(std::uint32_t index) { return *queues_[index]; }
  [[nodiscard]] wire::MacAddress mac() const;
  [[nodiscard]] std::string driver() const;
  [[nodiscard]] int numa_node() const;                       // -1: unknown
  [[nodiscard]] std::uint64_t link_bits_per_second() const;  // 0: unknown
  // Queue i reaches only queue i of the peer, which may have fewer: those beyond must not be used.
  [[nodiscard]] bool queues_are_paired() const { return options_.name.kind == PortKind::kMemif; }
  // Whether a packet may arrive on another queue than its worker's, which then passes it on: all
  // workers poll while one of them has flows. Also where the port steers: its rules may not see
  // what a tunnel hides, and who sends may not know of its RSS.
  [[nodiscard]] bool passes_packets_on() const {
    return options_.queues > 1 && !queues_are_paired();
  }
  // How a packet comes to its worker's queue; one line.
  [[nodiscard]] const std::string& steering() const { return steering_line_; }
  // What senders need to know where they steer by UDP source ports.
  [[nodiscard]] std::optional<RssFunction> rss() const {
    return steering_ ? steering_->rss() : std::nullopt;
  }
  [[nodiscard]] bool references_memory() const { return references_memory_; }
  [[nodiscard]] const std::vector<std::string>& remarks() const { return remarks_; }

  // Tries again to reach a memif's peer, if it is gone or has not come yet, and gets a kernel port
  // going again that stands still. Every 100 ms or so, from one thread.
  void supervise();

  // Returns when every worker has left the driver at least once since the call. Any thread but a
  // worker's.
  void wait_until_workers_outside() const;

  // Makes memory known to the device where it reads guest pages itself; nothing to do elsewhere.
  [[nodiscard]] Expected<void> register_memory(void* address, std::size_t bytes);
  void unregister_memory(void* address, std::size_t bytes);

 private:
  Port(const PortOptions& options, std::uint16_t port_id) : options_(options), port_id_(port_id) {}
  [[nodiscard]] Expected<void> set_up();
  [[nodiscard]] Expected<void> configure();
  [[nodiscard]] Expected<void> set_up_queue(std::uint32_t index);
  [[nodiscard]] Expected<void> receive_solicitations();
  void choose_steering();
  void supervise_rings();
  [[nodiscard]] bool link_is_up() const;

  PortOptions options_;
  std::uint16_t port_id_;
  bool references_memory_ = true;
  bool reads_memory_itself_ = false;
  std::atomic<bool> started_{false};
  std::uint32_t looks_at_dead_link_ = 0;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::unique_ptr<KernelRings> kernel_rings_;  // null: no kernel port
  bool computes_checksums_ = false;
  KernelGroupMembership solicitations_;
  std::unique_ptr<Steering> steering_;  // null: every packet comes to the right queue
  std::string steering_line_;
  std::vector<std::string> remarks_;
};

}  // namespace sluice::dpdk
