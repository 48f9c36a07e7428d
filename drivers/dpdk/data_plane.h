// The host's data plane: the EAL, one port, its queue pairs and one pinned worker for each. The
// control side talks to it through commands and events only; nothing here names an rte_ type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/engine/commands.h"
#include "dataplane/port/frame_key.h"
#include "dataplane/wire/packet.h"
#include "drivers/base/secret.h"
#include "drivers/dpdk/flow_slots.h"
#include "drivers/dpdk/rss.h"

namespace sluice::dpdk {

enum class Hugepages : std::uint8_t { kAuto = 1, kYes, kNo };

// Size of the largest IP packet that a port may be set up for; wire::smallest_mtu() is the
// smallest.
inline constexpr std::size_t kPortMtuMax = 65'379;

struct DataPlaneConfig {
  std::string port;           // "pci:0000:3b:00.0", "kernel:mig0", "memif:/run/sluice/memif.sock"
  bool memif_server = false;  // memif only: which side listens
  wire::IpPrefix address;     // the data plane's own, not the kernel's
  // Where packets go for hosts outside of `address`'s network; an address inside of it.
  std::optional<wire::IpAddress> gateway;
  // MAC addresses that need not be asked for on the link.
  std::map<wire::IpAddress, wire::MacAddress> neighbours;
  std::uint16_t udp_port = 7401;  // queue i listens on udp_port + i
  std::size_t mtu = 9000;         // IPv4 packet size; an error if the port cannot do it
  std::uint32_t queues = 1;
  // What all sessions and queues together may send, in bits of Ethernet frames per second; 0: no
  // cap.
  std::uint64_t cap_bits_per_second = 0;
  Hugepages hugepages = Hugepages::kAuto;
  std::size_t memory_bytes = 256UL << 20;  // of the EAL
  std::vector<unsigned>
      cores;  // one per queue; empty: chosen with hwloc near the NIC, on distinct physical cores
  std::string file_prefix;  // tells several agents on one machine apart
};

// What was found and chosen, for the log, `doctor` and the peer.
struct PortInfo {
  wire::MacAddress mac{};
  wire::IpPrefix address;
  std::uint16_t udp_port = 0;
  std::size_t mtu = 0;
  std::uint32_t queues = 0;
  bool queues_are_paired = false;  // memif: queue i reaches only queue i of the peer
  bool memif_server = false;
  std::string steering;  // how a frame comes to its worker's queue; one line
  // Where that is by RSS: who sends here chooses UDP source ports by it.
  std::optional<RssFunction> rss;
  std::string driver;  // "net_memif"
  bool hugepages = false;
  bool zero_copy = false;                  // guest pages leave as external buffers
  std::uint64_t link_bits_per_second = 0;  // 0: unknown
  std::vector<unsigned> cores;
  std::vector<std::string>
      remarks;  // one line each: offloads used or done in software, NUMA placement
};

// Counters of one worker, summed over sessions since start.
struct WorkerFigures {
  std::uint64_t busy_ns = 0;       // loops that did something
  std::uint64_t idle_poll_ns = 0;  // loops that found nothing to do, without the time asleep
  std::uint64_t packets_received = 0;
  std::uint64_t packets_sent = 0;
  std::uint64_t neighbour_answers = 0;  // to who asked for the port's address
  std::uint64_t neighbour_requests_ignored = 0;
  std::uint64_t packets_passed_on = 0;  // to other workers: they came to the wrong queue
  std::vector<std::uint64_t> drops;     // by wire::DropReason
};

class DataPlane {
 public:
  // Only once per process (the EAL's own limit). Errors: port that does not exist, MTU the port
  // cannot carry (both named), no hugepages where they are demanded, no permission. `on_event` is
  // called from one dispatcher thread; it must not block long.
  [[nodiscard]] static Expected<std::unique_ptr<DataPlane>> start(
      const DataPlaneConfig& config, std::function<void(const engine::Event&)> on_event);
  ~DataPlane();
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  [[nodiscard]] const PortInfo& info() const;
  [[nodiscard]] std::uint32_t workers() const;

  // Room on the workers: claimed before a flow is started, released when it has been given back.
  [[nodiscard]] FlowSlots& flow_slots();

  // Gives a command to a worker and wakes it if it sleeps. Any thread. kBusy when the ring stays
  // full for a second.
  [[nodiscard]] Expected<void> submit(std::uint32_t worker, const engine::Command& command);

  // One end's keys of a flow, from the session's secret. Any thread; they may outlive the data
  // plane. kUnsupported: this host cannot encrypt, and why; kNoCapacity: too many flows.
  [[nodiscard]] Expected<std::unique_ptr<port::FlowKeys>> make_flow_keys(const Secret& secret,
                                                                         std::uint64_t session,
                                                                         std::uint16_t flow,
                                                                         bool source) const;

  // The MAC address that packets for `peer` go to: its own on our network, else the gateway's, as
  // configured or as the link says. May take two seconds; not the dispatcher's thread. kInvalid
  // when there is no way to the peer, kUnreachable when the gateway does not answer.
  [[nodiscard]] Expected<wire::MacAddress> next_hop(const wire::Endpoint& peer);

  // Lets the device read this memory directly while sessions send from it, where the port needs to
  // be told. Page-aligned.
  [[nodiscard]] Expected<void> register_memory(void* address, std::size_t bytes);
  void unregister_memory(void* address, std::size_t bytes);

  [[nodiscard]] WorkerFigures figures(std::uint32_t worker) const;

 private:
  struct Impl;
  explicit DataPlane(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::dpdk
