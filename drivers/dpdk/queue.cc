#include "drivers/dpdk/queue.h"

#include <algorithm>
#include <cstring>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <sched.h>
#include <string>

#include "dataplane/wire/packet.h"
#include "drivers/dpdk/crypto.h"

namespace sluice::dpdk {
namespace {

// Offset of the UDP destination port behind an IP header without options, which is what a flow's
// peer sends.
constexpr std::size_t udp_destination_offset(bool over_ipv6) {
  return wire::kEthernetBytes + (over_ipv6 ? wire::kIpv6Bytes : wire::kIpv4Bytes) + 2;
}

// Copies all of a packet behind each other.
void append(rte_mbuf* to, const port::OutgoingPacket& packet) {
  std::memcpy(rte_pktmbuf_append(to, packet.head_bytes), packet.head.data(), packet.head_bytes);
  for (std::size_t i = 0; i < packet.slices; ++i) {
    const std::span<const std::byte> slice = packet.slice[i];
    std::memcpy(rte_pktmbuf_append(to, static_cast<std::uint16_t>(slice.size())), slice.data(),
                slice.size());
  }
}

void nothing_to_free(void* /*address*/, void* /*opaque*/) {}

}  // namespace

// Counts the references that mbufs hold on guest memory. One for all slices: nothing has to be
// freed, only counted. The first reference is our own, so that the count never drops to 0.
struct Queue::References {
  rte_mbuf_ext_shared_info info{};
};

// Marks the time that the worker spends inside the driver: what the driver uses meanwhile must not
// go away.
class Queue::InsideDriver {
 public:
  explicit InsideDriver(std::atomic<std::uint64_t>& turns) : turns_(turns) {
    // Ordered before the driver's own loads, so that whoever takes something away sees either this
    // mark or sees us not using it: exchange is a full barrier on x86-64.
    turns_.exchange(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
  }
  ~InsideDriver() {
    turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  InsideDriver(const InsideDriver&) = delete;
  InsideDriver& operator=(const InsideDriver&) = delete;

 private:
  std::atomic<std::uint64_t>& turns_;
};

Queue::Queue(const QueueConfig& config)
    : config_(config), references_(std::make_unique<References>()) {
  references_->info.free_cb = nothing_to_free;
  rte_mbuf_ext_refcnt_set(&references_->info, 1);
}

Queue::~Queue() {
  drop_waiting();
  if (!steered_.empty()) {
    rte_ring_free(steered_[config_.queue_id]);
  }
}

bool Queue::steer_among(const std::vector<std::unique_ptr<Queue>>& queues) {
  std::vector<rte_ring*> rings;
  for (const auto& queue : queues) {
    const std::string name = "steer-" + std::to_string(queue->config_.queue_id);
    rings.push_back(
        rte_ring_create(name.c_str(), kSteeringRingSlots, SOCKET_ID_ANY, RING_F_SC_DEQ));
  }
  for (const auto& queue : queues) {
    queue->steered_ = rings;
  }
  return std::find(rings.begin(), rings.end(), nullptr) == rings.end();
}

void Queue::wait_until_outside() const {
  // What the caller withdrew before is withdrawn before we look.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint64_t before = turns_.load(std::memory_order_seq_cst);
  while (before % 2 == 1 && turns() == before) {
    sched_yield();
  }
}

// True if the packet is for this queue's worker. Else it is on its way to the right one, or is
// dropped there.
bool Queue::keep(rte_mbuf* packet) noexcept {
  const std::size_t port_at = udp_destination_offset(config_.over_ipv6);
  std::uint16_t port = 0;
  if (rte_pktmbuf_data_len(packet) < port_at + sizeof(port)) {
    return true;
  }
  std::memcpy(&port, rte_pktmbuf_mtod_offset(packet, const void*, port_at), sizeof(port));
  const std::size_t owner =
      static_cast<std::uint16_t>(rte_be_to_cpu_16(port) - config_.udp_port_first);
  if (owner == config_.queue_id || owner >= steered_.size()) {
    return true;
  }
  passed_on_.store(passed_on_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (rte_ring_enqueue(steered_[owner], packet) != 0) {
    rte_pktmbuf_free(packet);
  }
  return false;
}

std::size_t Queue::take(std::span<rte_mbuf*> packets, std::span<port::ReceivedPacket> out,
                        std::size_t count) noexcept {
  for (rte_mbuf* packet : packets) {
    if (packet->nb_segs != 1) {  // larger than the MTU that was asked for
      rte_pktmbuf_free(packet);
      continue;
    }
    out[count++] = {{rte_pktmbuf_mtod(packet, std::byte*), rte_pktmbuf_data_len(packet)}, packet};
  }
  return count;
}

std::size_t Queue::receive(std::span<port::ReceivedPacket> out) noexcept {
  std::array<rte_mbuf*, port::kBurstMax> packets;
  const std::size_t limit = std::min(out.size(), packets.size());
  std::size_t count = 0;
  if (!steered_.empty()) {
    const unsigned passed_on =
        rte_ring_dequeue_burst(steered_[config_.queue_id], reinterpret_cast<void**>(packets.data()),
                               static_cast<unsigned>(limit), nullptr);
    count = take({packets.data(), passed_on}, out, count);
  }
  std::size_t received = 0;
  {
    const InsideDriver inside(turns_);
    if (config_.started->load(std::memory_order_acquire)) {
      (void)send_waiting();
      received = rte_eth_rx_burst(config_.port_id, config_.queue_id, packets.data(),
                                  static_cast<std::uint16_t>(limit - count));
    }
  }
  if (!steered_.empty()) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < received; ++i) {
      if (keep(packets[i])) {
        packets[kept++] = packets[i];
      }
    }
    received = kept;
  }
  return take({packets.data(), received}, out, count);
}

void Queue::release(std::span<port::ReceivedPacket> packets) noexcept {
  for (const port::ReceivedPacket& packet : packets) {
    rte_pktmbuf_free(static_cast<rte_mbuf*>(packet.handle));
  }
}

void Queue::open(std::span<port::SealedFrame> frames) noexcept { process_frames(frames); }

// Chains one mbuf a slice behind the head, each pointing to guest memory.
bool Queue::attach_slices(rte_mbuf* head, const port::OutgoingPacket& packet) noexcept {
  rte_mbuf* last = head;
  for (std::size_t i = 0; i < packet.slices; ++i) {
    const std::span<const std::byte> slice = packet.slice[i];
    rte_mbuf* segment = rte_pktmbuf_alloc(config_.references);
    if (segment == nullptr) {
      return false;
    }
    void* address = const_cast<std::byte*>(slice.data());
    const auto bytes = static_cast<std::uint16_t>(slice.size());
    rte_mbuf_ext_refcnt_update(&references_->info, 1);
    // The I/O address is the virtual one: the EAL runs with --iova-mode=va, or the port copies.
    rte_pktmbuf_attach_extbuf(segment, address, reinterpret_cast<rte_iova_t>(address), bytes,
                              &references_->info);
    segment->data_len = bytes;
    segment->pkt_len = bytes;
    last->next = segment;
    last = segment;
    head->nb_segs = static_cast<std::uint16_t>(head->nb_segs + 1);
    head->pkt_len += bytes;
  }
  return true;
}

rte_mbuf* Queue::make_packet(const port::OutgoingPacket& packet) noexcept {
  rte_mbuf* head = rte_pktmbuf_alloc(config_.heads);
  if (head == nullptr) {
    return nullptr;
  }
  if (!config_.references_memory) {
    append(head, packet);
    return head;
  }
  std::memcpy(rte_pktmbuf_append(head, packet.head_bytes), packet.head.data(), packet.head_bytes);
  if (!attach_slices(head, packet)) {
    rte_pktmbuf_free(head);
    return nullptr;
  }
  return head;
}

// Last of all, when the packet's bytes are what leaves.
void Queue::add_checksum(rte_mbuf* packet) const noexcept {
  if (config_.port_computes_checksums) {
    packet->ol_flags |= RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
    packet->l2_len = wire::kEthernetBytes;
    packet->l3_len = wire::kIpv6Bytes;
    return;
  }
  std::array<std::span<const std::byte>, wire::kRecordsMax> rest;
  std::size_t pieces = 0;
  for (const rte_mbuf* segment = packet->next; segment != nullptr; segment = segment->next) {
    rest[pieces++] = {rte_pktmbuf_mtod(segment, const std::byte*), rte_pktmbuf_data_len(segment)};
  }
  wire::finish_checksum({rte_pktmbuf_mtod(packet, std::byte*), rte_pktmbuf_data_len(packet)},
                        {rest.data(), pieces});
}

// Runs of packets that are sealed or are not: each kind has its own way of being refused.
std::size_t Queue::transmit(std::span<const port::OutgoingPacket> packets) noexcept {
  const InsideDriver inside(turns_);
  if (!config_.started->load(std::memory_order_acquire)) {
    drop_waiting();
    return 0;
  }
  std::size_t accepted = 0;
  while (accepted < packets.size() && send_waiting()) {
    const auto rest =
        packets.subspan(accepted, std::min(packets.size() - accepted, port::kBurstMax));
    const bool sealed = rest.front().key != nullptr;
    const auto end = std::find_if(
        rest.begin(), rest.end(),
        [&](const port::OutgoingPacket& packet) { return (packet.key != nullptr) != sealed; });
    const auto run = rest.first(static_cast<std::size_t>(end - rest.begin()));
    const std::size_t taken = sealed ? transmit_sealed(run) : transmit_plain(run);
    accepted += taken;
    if (taken < run.size()) {
      break;
    }
  }
  return accepted;
}

std::size_t Queue::transmit_plain(std::span<const port::OutgoingPacket> packets) noexcept {
  std::array<rte_mbuf*, port::kBurstMax> burst;
  std::size_t made = 0;
  while (made < packets.size() && made < burst.size()) {
    rte_mbuf* packet = make_packet(packets[made]);
    if (packet == nullptr) {
      break;
    }
    if (config_.over_ipv6 && wire::needs_checksum(packets[made].head)) {
      add_checksum(packet);
    }
    burst[made++] = packet;
  }
  const std::size_t sent = send({burst.data(), made});
  if (sent < made) {
    rte_pktmbuf_free_bulk(burst.data() + sent, static_cast<unsigned>(made - sent));
  }
  return sent;
}

// Guest memory is copied and encrypted in the copy. What cannot be encrypted is not sent: it counts
// as lost on the way.
std::size_t Queue::transmit_sealed(std::span<const port::OutgoingPacket> packets) noexcept {
  std::array<rte_mbuf*, port::kBurstMax> burst;
  std::array<port::SealedFrame, port::kBurstMax> frames;
  const std::size_t prefix_bytes =
      config_.over_ipv6 ? wire::kPacketPrefixBytesMax : wire::kPacketPrefixBytes;
  std::size_t made = 0;
  for (; made < packets.size(); ++made) {
    rte_mbuf* copy = rte_pktmbuf_alloc(config_.sealed);
    if (copy == nullptr) {
      break;
    }
    append(copy, packets[made]);
    rte_pktmbuf_append(copy, wire::kTagBytes);
    const std::span<std::byte> whole(rte_pktmbuf_mtod(copy, std::byte*),
                                     rte_pktmbuf_data_len(copy));
    frames[made] = {whole.subspan(prefix_bytes), packets[made].key};
    burst[made] = copy;
  }
  process_frames({frames.data(), made});
  for (std::size_t i = 0; i < made; ++i) {
    if (frames[i].authentic) {
      if (config_.over_ipv6) {
        add_checksum(burst[i]);
      }
      waiting_[waiting_count_++] = burst[i];
    } else {
      rte_pktmbuf_free(burst[i]);
    }
  }
  (void)send_waiting();
  return made;
}

std::size_t Queue::send(std::span<rte_mbuf*> packets) noexcept {
  const std::size_t sent = rte_eth_tx_burst(config_.port_id, config_.queue_id, packets.data(),
                                            static_cast<std::uint16_t>(packets.size()));
  accepted_.store(accepted_.load(std::memory_order_relaxed) + sent, std::memory_order_relaxed);
  return sent;
}

// True when none waits any more.
bool Queue::send_waiting() noexcept {
  if (waiting_count_ == 0) {
    return true;
  }
  const std::size_t sent = send({waiting_.data(), waiting_count_});
  std::copy(waiting_.begin() + static_cast<std::ptrdiff_t>(sent),
            waiting_.begin() + static_cast<std::ptrdiff_t>(waiting_count_), waiting_.begin());
  waiting_count_ -= sent;
  return waiting_count_ == 0;
}

void Queue::drop_waiting() noexcept {
  rte_pktmbuf_free_bulk(waiting_.data(), static_cast<unsigned>(waiting_count_));
  waiting_count_ = 0;
}

std::size_t Queue::references_outstanding() noexcept {
  if (rte_mbuf_ext_refcnt_read(&references_->info) > 1 &&
      config_.started->load(std::memory_order_acquire)) {
    const InsideDriver inside(turns_);
    rte_eth_tx_done_cleanup(config_.port_id, config_.queue_id, 0);
  }
  return rte_mbuf_ext_refcnt_read(&references_->info) - 1U;
}

}  // namespace sluice::dpdk
