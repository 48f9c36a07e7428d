// A simulated network on virtual time: two directions, each with its own faults, and the ports at
// their ends. Everything that happens follows from a seed. One thread.
//
//   worker -> Port: transmit ring -> line rate -> Path: faults, bottleneck, delay -> receive ring
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/base/units.h"
#include "dataplane/port/port.h"
#include "drivers/sim/cipher.h"

namespace sluice::sim {

struct Interval {
  TimeNs from_ns = 0;
  TimeNs until_ns = 0;

  [[nodiscard]] bool contains(TimeNs now) const { return from_ns <= now && now < until_ns; }
};

inline constexpr TimeNs kNeverNs = UINT64_MAX;

// One direction of the network. Probabilities are per packet, times from the simulation's start.
struct PathOptions {
  double loss = 0;
  double ack_loss = 0;  // in addition, of acks only
  // Gilbert's model: a burst begins with one probability, ends with the other, and loses all.
  double burst_begin = 0;
  double burst_end = 1;
  double duplication = 0;
  double reordering = 0;  // held back for up to reorder_ns
  double corruption = 0;  // one to three bits flipped, anywhere in the packet
  double forged_acks =
      0;  // per ack in the clear: followed by a well-formed one of frames never sent
  TimeNs reorder_ns = kMillisecondNs;
  TimeNs delay_ns = 10 * kMicrosecondNs;
  TimeNs jitter_ns = 0;
  std::uint64_t bits_per_second = 0;  // of a bottleneck with a queue; 0: there is none
  std::size_t queue_bytes = 1 << 20;
  TimeNs mtu_shrinks_at_ns = kNeverNs;  // larger packets vanish from then on, for good
  std::size_t mtu_shrunk = 1500;
  std::vector<Interval> partitions;
  // From then on only what is declared permanent still happens: mtu_shrinks_at_ns, partitions,
  // delay_ns and the bottleneck.
  TimeNs heals_at_ns = kNeverNs;
};

// What became of packets; also the index of the counters.
enum class Fate : std::uint8_t {
  kSent = 1,
  kLost,
  kPartitioned,
  kTooLarge,
  kQueueFull,
  kDuplicated,
  kReordered,
  kCorrupted,
  kForged,
  kReceived,
  kReceiveRingFull,
  kCount  // number of values, not a fate
};
[[nodiscard]] const char* to_string(Fate fate);
using FateCounters = std::array<std::uint64_t, static_cast<std::size_t>(Fate::kCount)>;

struct Packet {
  std::vector<std::byte> bytes;
  TimeNs arrival_ns = 0;
  std::uint64_t serial = 0;  // first of two that arrive at once
  bool corrupted = false;
};

// One line about a packet, for traces: frame type, flow, numbers, records.
[[nodiscard]] std::string describe(std::span<const std::byte> packet);

// A line with a queue before it, whose tail is cut off. Several paths may lead through one; packets
// are offered in the order of time.
class Bottleneck {
 public:
  Bottleneck(std::uint64_t bits_per_second, std::size_t queue_bytes)
      : bits_per_second_(bits_per_second), queue_bytes_(queue_bytes) {}

  // When the packet has left the line; nothing if the queue is full.
  [[nodiscard]] std::optional<TimeNs> pass(std::size_t bytes, TimeNs now);

  // Told how long each packet waits, if set.
  std::function<void(TimeNs wait_ns)> on_wait;

 private:
  std::uint64_t bits_per_second_;
  std::size_t queue_bytes_;
  TimeNs free_ns_ = 0;
};

class Path {
 public:
  using Listener = std::function<void(TimeNs, Fate, const Packet&)>;

  // `listener` may be empty.
  Path(PathOptions options, std::uint64_t seed, Listener listener);

  // Instead of the path's own bottleneck; before anything is sent.
  void lead_through(std::shared_ptr<Bottleneck> bottleneck) { bottleneck_ = std::move(bottleneck); }
  void send(std::vector<std::byte> bytes, TimeNs now);
  // When the next packet arrives at the other end; kNeverNs when none is under way.
  [[nodiscard]] TimeNs next_arrival_ns() const;
  // The next packet that has arrived by `now`.
  [[nodiscard]] std::optional<Packet> take(TimeNs now);
  void note(TimeNs now, Fate fate, const Packet& packet);
  [[nodiscard]] const FateCounters& counters() const { return counters_; }

 private:
  [[nodiscard]] bool vanishes(const Packet& packet, TimeNs now);
  [[nodiscard]] bool lost_at_random(bool ack);
  void corrupt(Packet& packet, TimeNs now);
  void forge_ack(const std::vector<std::byte>& genuine, TimeNs now);
  // Through bottleneck and delay.
  void carry(Packet packet, TimeNs now, bool faults);

  PathOptions options_;
  Random random_;
  Listener listener_;
  std::vector<Packet> under_way_;           // a heap, the next arrival first
  std::shared_ptr<Bottleneck> bottleneck_;  // null: there is none
  bool in_burst_ = false;
  std::uint64_t next_serial_ = 0;
  FateCounters counters_{};
};

struct PortOptions {
  std::size_t transmit_ring = 256;  // packets
  std::size_t receive_ring = 512;   // packets; what arrives beyond is lost
  // Probability that a packet and the rest of its burst are refused, and until when.
  double refusal = 0;
  TimeNs refuses_until_ns = kNeverNs;
  std::uint64_t bits_per_second = 0;  // line rate; 0: packets leave at once
};

// A port::Queue whose device reads the slices late, when a packet leaves, as one that sends without
// copying does.
class Port {
 public:
  // `before_read` is called whenever the device is about to read guest memory.
  Port(const PortOptions& options, Path& in, Path& out, std::uint64_t seed,
       std::function<void()> before_read);

  std::size_t receive(std::span<port::ReceivedPacket> out) noexcept;
  void release(std::span<port::ReceivedPacket> packets) noexcept;
  std::size_t transmit(std::span<const port::OutgoingPacket> packets) noexcept;
  void open(std::span<port::SealedFrame> frames) noexcept { sim::open(frames); }
  std::size_t references_outstanding() noexcept { return references_; }

  // Puts on the path what leaves by `now`.
  void advance(TimeNs now);
  [[nodiscard]] TimeNs next_departure_ns() const;
  // Whether a key has sealed two packets under one number.
  [[nodiscard]] bool nonce_reused() const { return nonce_reused_; }

 private:
  [[nodiscard]] bool refuses(TimeNs now);

  struct Waiting {
    port::OutgoingPacket packet;
    std::vector<std::byte> sealed;  // copied and sealed at once; empty: the packet has no key
    TimeNs departure_ns = 0;
  };

  PortOptions options_;
  Path& in_;
  Path& out_;
  Random random_;
  std::function<void()> before_read_;
  std::deque<Waiting> transmit_ring_;
  std::deque<Packet> receive_ring_;
  std::deque<Packet> held_;  // between receive() and release()
  std::size_t references_ = 0;
  TimeNs line_free_ns_ = 0;
  SealedOnce sealed_once_;
  bool nonce_reused_ = false;
};

static_assert(port::Queue<Port&>);

}  // namespace sluice::sim
