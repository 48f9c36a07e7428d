#include "drivers/dpdk/port.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <linux/if.h>
#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mempool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dataplane/wire/neighbour.h"
#include "drivers/dpdk/data_plane.h"

namespace sluice::dpdk {
namespace {

constexpr const char* kMemifDevice = "net_memif0";
constexpr const char* kKernelDevice = "net_af_packet0";

// Slots of each ring; log2 for memif. Deep enough for the windows of several flows.
constexpr unsigned kRingSlots = 1024;
constexpr unsigned kRingSlotsLog2 = 10;
constexpr unsigned kPoolCache = 128;
constexpr std::size_t kHeadRoomBytes = 512;  // data room of a buffer for a packet's head
static_assert(kHeadRoomBytes >= port::OutgoingPacket::kHeadBytesMax + RTE_PKTMBUF_HEADROOM);

// AF_PACKET puts its own header, addresses and alignment before a frame: at most 98 bytes
// (include/uapi/linux/if_packet.h).
constexpr std::size_t kPacketRingOverhead = 128;
constexpr std::size_t kFrameAlignment = 1024;
// Four frames a block make blocks of whole pages of frames of whole KiB.
constexpr std::size_t kFramesPerBlock = 4;

// An mbuf's data room, headroom included, is a 16-bit number.
static_assert(kPortMtuMax + RTE_PKTMBUF_HEADROOM + 2 * wire::kEthernetBytes <= 65'535);

// After so many looks at a link that is down a memif client dials again: a handshake takes less.
constexpr std::uint32_t kLooksBeforeRedial = 3;

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::size_t kernel_frame_bytes(std::size_t mtu) {
  return round_up(mtu + wire::kEthernetBytes + kPacketRingOverhead, kFrameAlignment);
}

std::size_t receive_room_bytes(const PortOptions& options) {
  const std::size_t packet = options.name.kind == PortKind::kKernel
                                 ? kernel_frame_bytes(options.mtu)
                                 : round_up(options.mtu + 2 * wire::kEthernetBytes, 64);
  return std::min<std::size_t>(packet + RTE_PKTMBUF_HEADROOM, 65'535);
}

Error failed(const std::string& what, int error) {
  return Error{ErrorKind::kFailed, what + ": " + rte_strerror(error < 0 ? -error : error)};
}

// Asked through a socket, as it answers for this process's network namespace whatever /sys shows.
Expected<void> check_kernel_interface(const std::string& name, std::size_t mtu) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return fail(ErrorKind::kInvalid, "port kernel:" + name + ": not an interface's name");
  }
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  const int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) {
    return tl::unexpected<Error>(failed("socket", errno));
  }
  const bool exists = ioctl(descriptor, SIOCGIFMTU, &request) == 0;
  const auto interface_mtu = static_cast<std::size_t>(request.ifr_mtu);
  const bool up =
      exists && ioctl(descriptor, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
  close(descriptor);
  if (!exists) {
    return fail(
        ErrorKind::kNotFound,
        "port kernel:" + name + ": no such interface in this network namespace (see: ip link)");
  }
  if (interface_mtu < mtu) {
    return fail(ErrorKind::kInvalid, "port kernel:" + name + ": its MTU is " +
                                         std::to_string(interface_mtu) + ", below the " +
                                         std::to_string(mtu) + " asked for; run: ip link set " +
                                         name + " mtu " + std::to_string(mtu));
  }
  if (!up) {
    return fail(
        ErrorKind::kInvalid,
        "port kernel:" + name + ": the interface is down; run: ip link set " + name + " up");
  }
  return {};
}

bool somebody_listens(const sockaddr_un& address) {
  const int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (descriptor < 0) {
    return true;
  }
  const bool connected =
      connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(descriptor);
  return connected;
}

Expected<void> check_memif_socket(const std::string& path, bool server) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.front() != '/' || path.size() >= sizeof(address.sun_path) ||
      path.find_first_of(", ") != std::string::npos) {
    return fail(
        ErrorKind::kInvalid,
        "port memif:" + path + ": expected an absolute path below 108 bytes, without commas");
  }
  const std::string directory = std::filesystem::path(path).parent_path();
  if (access(directory.c_str(), R_OK | W_OK) != 0) {
    return fail(ErrorKind::kNotFound,
                "port memif:" + path + ": " + directory + ": " + std::strerror(errno));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat status {};
  if (!server || lstat(path.c_str(), &status) != 0) {
    return {};
  }
  if (!S_ISSOCK(status.st_mode)) {
    return fail(ErrorKind::kInvalid,
                "port memif:" + path + ": a file that is not a socket is there");
  }
  if (somebody_listens(address)) {
    return fail(ErrorKind::kBusy, "port memif:" + path + ": another process serves this socket");
  }
  unlink(path.c_str());
  return {};
}

std::string device_name(const PortName& name) {
  switch (name.kind) {
    case PortKind::kPci:
      return name.target;
    case PortKind::kKernel:
      return kKernelDevice;
    case PortKind::kMemif:
      return kMemifDevice;
  }
  return {};
}

std::string describe(const PortName& name) {
  const char* kind = name.kind == PortKind::kPci      ? "pci:"
                     : name.kind == PortKind::kKernel ? "kernel:"
                                                      : "memif:";
  return "port " + (kind + name.target);
}

// Runs `work` on the EAL's interrupt thread and waits for its end. That is where the memif driver
// takes a link down when the peer goes; stopping or closing the port on another thread meanwhile
// frees the same rings twice.
void on_interrupt_thread(const std::function<void()>& work) {
  struct Errand {
    const std::function<void()>& work;
    std::promise<void> done;
  } errand{work, {}};
  const auto run = [](void* argument) {
    auto* task = static_cast<Errand*>(argument);
    task->work();
    task->done.set_value();
  };
  if (rte_thread_is_intr() == 1 || rte_eal_alarm_set(1, run, &errand) != 0) {
    work();
    return;
  }
  errand.done.get_future().wait();
}

}  // namespace

Expected<PortName> parse_port(std::string_view text) {
  constexpr std::pair<std::string_view, PortKind> kKinds[] = {
      {"pci:", PortKind::kPci}, {"kernel:", PortKind::kKernel}, {"memif:", PortKind::kMemif}};
  for (const auto& [prefix, kind] : kKinds) {
    if (text.starts_with(prefix) && text.size() > prefix.size()) {
      return PortName{kind, std::string(text.substr(prefix.size()))};
    }
  }
  return fail(ErrorKind::kInvalid, "port '" + std::string(text) +
                                       "': expected pci:ADDRESS, kernel:INTERFACE or memif:SOCKET");
}

Expected<void> check_port(const PortOptions& options) {
  const std::size_t smallest = wire::smallest_mtu(options.address);
  if (options.mtu < smallest || options.mtu > kPortMtuMax) {
    return fail(ErrorKind::kInvalid, "mtu " + std::to_string(options.mtu) + ": expected " +
                                         std::to_string(smallest) + " to " +
                                         std::to_string(kPortMtuMax));
  }
  switch (options.name.kind) {
    case PortKind::kKernel:
      return check_kernel_interface(options.name.target, options.mtu);
    case PortKind::kMemif:
      return check_memif_socket(options.name.target, options.memif_server);
    case PortKind::kPci:
      if (access(("/sys/bus/pci/devices/" + options.name.target).c_str(), F_OK) != 0) {
        return fail(ErrorKind::kNotFound,
                    describe(options.name) + ": no such device (see: dpdk-devbind.py --status)");
      }
      return {};
  }
  return {};
}

std::string virtual_device(const PortOptions& options) {
  const std::string& target = options.name.target;
  if (options.name.kind == PortKind::kMemif) {
    // One buffer holds a whole packet: the driver (22.11) leaves a stale "continued" mark on
    // descriptors that it uses again for a shorter one.
    return std::string(kMemifDevice) + ",role=" + (options.memif_server ? "server" : "client") +
           ",socket=" + target + ",socket-abstract=no,bsize=" +
           std::to_string(round_up(options.mtu + wire::kEthernetBytes, 64)) +
           ",rsize=" + std::to_string(kRingSlotsLog2);
  }
  if (options.name.kind == PortKind::kKernel) {
    const std::size_t frame_bytes = kernel_frame_bytes(options.mtu);
    return std::string(kKernelDevice) + ",iface=" + target +
           ",qpairs=" + std::to_string(options.queues) + ",framesz=" + std::to_string(frame_bytes) +
           ",blocksz=" + std::to_string(kFramesPerBlock * frame_bytes) +
           ",framecnt=" + std::to_string(kRingSlots);
  }
  return {};
}

Expected<std::unique_ptr<Port>> Port::open(const PortOptions& options) {
  std::uint16_t port_id = 0;
  if (rte_eth_dev_get_port_by_name(device_name(options.name).c_str(), &port_id) != 0) {
    return fail(
        ErrorKind::kNotFound,
        describe(options.name) +
            ": DPDK has no driver for it or could not open it; its reason is on standard error");
  }
  std::unique_ptr<Port> port(new Port(options, port_id));
  if (auto ready = port->set_up(); !ready) {
    ready.error().message = describe(options.name) + ": " + ready.error().message;
    return tl::unexpected<Error>(std::move(ready.error()));
  }
  return port;
}

Port::~Port() {
  steering_.reset();
  on_interrupt_thread([this] {
    if (started_.exchange(false)) {
      rte_eth_dev_stop(port_id_);
    }
    rte_eth_dev_close(port_id_);
  });
}

Expected<void> Port::set_up() {
  if (auto configured = configure(); !configured) {
    return configured;
  }
  for (std::uint32_t i = 0; i < options_.queues; ++i) {
    if (auto ready = set_up_queue(i); !ready) {
      return ready;
    }
  }
  if (passes_packets_on() && !Queue::steer_among(queues_)) {
    return fail(ErrorKind::kNoCapacity,
                "no room for the rings between queues; raise the data plane's memory");
  }
  const int result = rte_eth_dev_start(port_id_);
  started_.store(result == 0, std::memory_order_release);
  // A memif client whose server is not there yet is dialled again by supervise().
  if (result != 0 && options_.name.kind != PortKind::kMemif) {
    return tl::unexpected<Error>(failed("start", result));
  }
  if (options_.name.kind == PortKind::kKernel) {
    auto rings = KernelRings::open(options_.name.target, options_.queues,
                                   kernel_frame_bytes(options_.mtu), kRingSlots);
    if (!rings) {
      return tl::unexpected<Error>(std::move(rings.error()));
    }
    kernel_rings_ = std::move(*rings);
  }
  if (auto joined = receive_solicitations(); !joined) {
    return joined;
  }
  choose_steering();
  remarks_.emplace_back("steering: " + steering_line_);
  return {};
}

// A memif link has no filter.
Expected<void> Port::receive_solicitations() {
  if (!options_.address.is_v6() || options_.name.kind == PortKind::kMemif) {
    return {};
  }
  const wire::MacAddress group = wire::solicitation_group(options_.address);
  return options_.name.kind == PortKind::kKernel ? solicitations_.join(options_.name.target, group)
                                                 : join_group(port_id_, group);
}

void Port::choose_steering() {
  if (options_.queues == 1) {
    steering_line_ = "one queue";
  } else if (queues_are_paired()) {
    steering_line_ = "queue pairs of the memif link";
  } else {
    steering_ = std::make_unique<Steering>(
        SteeredPort{port_id_, options_.queues, options_.udp_port, options_.address.is_v6()});
    steering_line_ = describe(steering_->method());
    remarks_.insert(remarks_.end(), steering_->remarks().begin(), steering_->remarks().end());
  }
}

Expected<void> Port::configure() {
  rte_eth_dev_info info{};
  if (const int result = rte_eth_dev_info_get(port_id_, &info); result != 0) {
    return tl::unexpected<Error>(failed("device information", result));
  }
  const std::uint32_t queues_max = std::min(info.max_rx_queues, info.max_tx_queues);
  if (options_.queues == 0 || options_.queues > queues_max) {
    return fail(ErrorKind::kInvalid, std::to_string(options_.queues) +
                                         " queues: this port has 1 to " +
                                         std::to_string(queues_max));
  }
  rte_eth_conf config{};
  if (options_.name.kind == PortKind::kPci) {
    if (options_.mtu > info.max_mtu) {
      return fail(ErrorKind::kInvalid, "mtu " + std::to_string(options_.mtu) +
                                           ": the device carries at most " +
                                           std::to_string(info.max_mtu));
    }
    reads_memory_itself_ = true;
    references_memory_ = rte_eal_iova_mode() == RTE_IOVA_VA &&
                         (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
    config.rxmode.mtu = static_cast<std::uint32_t>(options_.mtu);
    config.txmode.offloads =
        info.tx_offload_capa & (RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE);
    if (references_memory_) {
      config.txmode.offloads &=
          ~RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;  // it assumes mbufs of one pool without references
    }
  }
  if (options_.queues > 1) {
    ask_for_rss(info, config);
  }
  if (options_.address.is_v6()) {
    computes_checksums_ = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0 &&
                          options_.name.kind == PortKind::kPci;
    if (computes_checksums_) {
      config.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    }
    remarks_.emplace_back(computes_checksums_ ? "UDP checksums of IPv6: by the port"
                                              : "UDP checksums of IPv6: in software");
  }
  remarks_.emplace_back(references_memory_ ? "guest pages: handed to the port as external buffers"
                                           : "guest pages: copied into packet buffers");
  const auto queues = static_cast<std::uint16_t>(options_.queues);
  if (const int result = rte_eth_dev_configure(port_id_, queues, queues, &config); result != 0) {
    return tl::unexpected<Error>(failed("configure", result));
  }
  return {};
}

Expected<void> Port::set_up_queue(std::uint32_t index) {
  const int node = rte_eth_dev_socket_id(port_id_);
  const std::string suffix = "-" + std::to_string(index);
  const bool rings_hold_buffers = options_.name.kind == PortKind::kPci;
  // Virtual ports take receive buffers one burst at a time: a small pool stays in the cache.
  const unsigned passed_on = passes_packets_on() ? (options_.queues - 1) * kSteeringRingSlots : 0;
  const unsigned receive_buffers =
      (rings_hold_buffers ? 2 * kRingSlots : 4 * kPoolCache) + passed_on;
  const unsigned packets = rings_hold_buffers ? 2 * kRingSlots : 4 * kPoolCache;
  const std::size_t head_room = references_memory_ ? kHeadRoomBytes : receive_room_bytes(options_);
  rte_mempool* receive =
      rte_pktmbuf_pool_create(("receive" + suffix).c_str(), receive_buffers, kPoolCache, 0,
                              static_cast<std::uint16_t>(receive_room_bytes(options_)), node);
  rte_mempool* heads = rte_pktmbuf_pool_create(("heads" + suffix).c_str(), packets, kPoolCache, 0,
                                               static_cast<std::uint16_t>(head_room), node);
  rte_mempool* references = rte_pktmbuf_pool_create(
      ("references" + suffix).c_str(), packets * wire::kRecordsMax, 2 * kPoolCache, 0, 0, node);
  rte_mempool* sealed = heads;
  if (references_memory_) {
    sealed = rte_pktmbuf_pool_create(
        ("sealed" + suffix).c_str(), rings_hold_buffers ? 2 * kRingSlots : 2 * kPoolCache,
        kPoolCache, 0, static_cast<std::uint16_t>(receive_room_bytes(options_)), node);
  }
  if (receive == nullptr || heads == nullptr || sealed == nullptr || references == nullptr) {
    return fail(ErrorKind::kNoCapacity, "no room for packet buffers of " +
                                            std::to_string(receive_room_bytes(options_)) +
                                            " bytes; raise the data plane's memory");
  }
  std::uint16_t receive_slots = kRingSlots;
  std::uint16_t transmit_slots = kRingSlots;
  rte_eth_dev_adjust_nb_rx_tx_desc(port_id_, &receive_slots, &transmit_slots);
  const auto id = static_cast<std::uint16_t>(index);
  const auto socket = static_cast<unsigned>(node);
  if (const int result =
          rte_eth_rx_queue_setup(port_id_, id, receive_slots, socket, nullptr, receive);
      result != 0) {
    return tl::unexpected<Error>(failed("receive queue", result));
  }
  if (const int result = rte_eth_tx_queue_setup(port_id_, id, transmit_slots, socket, nullptr);
      result != 0) {
    return tl::unexpected<Error>(failed("transmit queue", result));
  }
  queues_.push_back(std::make_unique<Queue>(
      QueueConfig{port_id_, id, options_.udp_port, options_.address.is_v6(), references_memory_,
                  computes_checksums_, heads, sealed, references, &started_}));
  return {};
}

wire::MacAddress Port::mac() const {
  rte_ether_addr address{};
  wire::MacAddress mac{};
  if (rte_eth_macaddr_get(port_id_, &address) == 0) {
    std::copy_n(address.addr_bytes, mac.size(), mac.begin());
  }
  return mac;
}

std::string Port::driver() const {
  rte_eth_dev_info info{};
  return rte_eth_dev_info_get(port_id_, &info) == 0 && info.driver_name != nullptr
             ? info.driver_name
             : "";
}

int Port::numa_node() const { return rte_eth_dev_socket_id(port_id_); }

// memif and AF_PACKET report a constant.
std::uint64_t Port::link_bits_per_second() const {
  rte_eth_link link{};
  if (options_.name.kind != PortKind::kPci || rte_eth_link_get_nowait(port_id_, &link) != 0 ||
      link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN) {
    return 0;
  }
  return link.link_speed * 1'000'000UL;
}

bool Port::link_is_up() const {
  rte_eth_link link{};
  return rte_eth_link_get_nowait(port_id_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

void Port::supervise_rings() {
  std::vector<std::uint64_t> accepted;
  for (const auto& queue : queues_) {
    accepted.push_back(queue->accepted());
  }
  kernel_rings_->supervise(accepted);
}

void Port::supervise() {
  if (kernel_rings_) {
    supervise_rings();
  }
  if (options_.name.kind != PortKind::kMemif || options_.memif_server) {
    return;
  }
  if (started_.load()) {
    looks_at_dead_link_ = link_is_up() ? 0 : looks_at_dead_link_ + 1;
    if (looks_at_dead_link_ < kLooksBeforeRedial) {
      return;
    }
    started_.store(false);
    wait_until_workers_outside();
    on_interrupt_thread([this] { rte_eth_dev_stop(port_id_); });
  }
  looks_at_dead_link_ = 0;
  started_.store(rte_eth_dev_start(port_id_) == 0, std::memory_order_release);
}

void Port::wait_until_workers_outside() const {
  for (const auto& queue : queues_) {
    queue->wait_until_outside();
  }
}

Expected<void> Port::register_memory(void* address, std::size_t bytes) {
  if (!reads_memory_itself_ || !references_memory_) {
    return {};
  }
  if (rte_extmem_register(address, bytes, nullptr, 0,
                          static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) != 0) {
    return tl::unexpected<Error>(failed("guest memory cannot be registered with DPDK", rte_errno));
  }
  rte_eth_dev_info info{};
  rte_eth_dev_info_get(port_id_, &info);
  if (rte_dev_dma_map(info.device, address, reinterpret_cast<std::uint64_t>(address), bytes) != 0) {
    const int error = rte_errno;
    rte_extmem_unregister(address, bytes);
    return tl::unexpected<Error>(failed(
        "guest memory cannot be mapped for the device (is vfio-pci with an IOMMU in use?)", error));
  }
  return {};
}

void Port::unregister_memory(void* address, std::size_t bytes) {
  if (!reads_memory_itself_ || !references_memory_) {
    return;
  }
  rte_eth_dev_info info{};
  rte_eth_dev_info_get(port_id_, &info);
  rte_dev_dma_unmap(info.device, address, reinterpret_cast<std::uint64_t>(address), bytes);
  rte_extmem_unregister(address, bytes);
}

}  // namespace sluice::dpdk
