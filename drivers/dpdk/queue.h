// One queue pair of a DPDK port, as a worker uses it; satisfies port::Queue.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/port/port.h"

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

namespace sluice::dpdk {

// What can lie ready for one queue's worker that arrived on others. Their receive pools must be
// larger by as much: a worker that sleeps leaves it there, at no other queue's cost.
inline constexpr unsigned kSteeringRingSlots = 256;

struct QueueConfig {
  std::uint16_t port_id = 0;
  std::uint16_t queue_id = 0;
  std::uint16_t udp_port_first = 0;  // of queue 0; queue i owns udp_port_first + i
  bool over_ipv6 = false;
  bool references_memory = true;  // slices go out as external buffers; else they are copied
  bool port_computes_checksums = false;
  rte_mempool* heads =
      nullptr;  // buffers for packet heads, and for whole packets where slices are copied
  rte_mempool* sealed = nullptr;      // buffers for whole packets that are sealed
  rte_mempool* references = nullptr;  // mbufs without data room, attached to guest memory
  const std::atomic<bool>* started = nullptr;
};

// receive, release and transmit are called by the queue's one worker.
class Queue {
 public:
  explicit Queue(const QueueConfig& config);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Lets all queues of a port pass on packets that the NIC put in the wrong one. Not needed with
  // one queue. False if there is no memory for it.
  [[nodiscard]] static bool steer_among(const std::vector<std::unique_ptr<Queue>>& queues);

  std::size_t receive(std::span<port::ReceivedPacket> out) noexcept;
  void release(std::span<port::ReceivedPacket> packets) noexcept;
  void open(std::span<port::SealedFrame> frames) noexcept;
  std::size_t transmit(std::span<const port::OutgoingPacket> packets) noexcept;
  std::size_t references_outstanding() noexcept;

  // Packets that the driver has taken so far. Any thread.
  [[nodiscard]] std::uint64_t accepted() const { return accepted_.load(std::memory_order_relaxed); }
  // Packets that came here for other queues so far. Any thread.
  [[nodiscard]] std::uint64_t passed_on() const {
    return passed_on_.load(std::memory_order_relaxed);
  }
  // Odd while the worker is inside the driver; see wait_until_outside().
  [[nodiscard]] std::uint64_t turns() const { return turns_.load(std::memory_order_acquire); }
  // Returns when the worker is not inside the driver, or has left it since the call. Any thread.
  void wait_until_outside() const;

 private:
  struct References;
  class InsideDriver;

  std::size_t transmit_plain(std::span<const port::OutgoingPacket> packets) noexcept;
  std::size_t transmit_sealed(std::span<const port::OutgoingPacket> packets) noexcept;
  std::size_t send(std::span<rte_mbuf*> packets) noexcept;
  [[nodiscard]] bool send_waiting() noexcept;
  void drop_waiting() noexcept;
  [[nodiscard]] rte_mbuf* make_packet(const port::OutgoingPacket& packet) noexcept;
  [[nodiscard]] bool attach_slices(rte_mbuf* head, const port::OutgoingPacket& packet) noexcept;
  void add_checksum(rte_mbuf* packet) const noexcept;
  [[nodiscard]] bool keep(rte_mbuf* packet) noexcept;
  std::size_t take(std::span<rte_mbuf*> packets, std::span<port::ReceivedPacket> out,
                   std::size_t count) noexcept;

  QueueConfig config_;
  std::unique_ptr<References> references_;
  // Sealed packets that the driver has not taken yet. They cannot go back to the engine, which
  // would put other content in frames of the same numbers.
  std::array<rte_mbuf*, port::kBurstMax> waiting_{};
  std::size_t waiting_count_ = 0;
  std::atomic<std::uint64_t> accepted_{0};
  std::atomic<std::uint64_t> passed_on_{0};
  std::vector<rte_ring*> steered_;  // by queue; packets that belong there. Empty with one queue
  alignas(64) std::atomic<std::uint64_t> turns_{0};
};

static_assert(port::Queue<Queue&>);

}  // namespace sluice::dpdk
