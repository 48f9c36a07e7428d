// One worker: one queue pair, one thread, and the flows that are steered to it. The loop itself is
// in event_loop.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/base/units.h"
#include "dataplane/congestion/pacer.h"
#include "dataplane/engine/commands.h"
#include "dataplane/engine/flow.h"
#include "dataplane/engine/link_cap.h"
#include "dataplane/engine/neighbours.h"
#include "dataplane/engine/probe.h"
#include "dataplane/port/dirty_source.h"
#include "dataplane/port/port.h"
#include "dataplane/protocol/sender.h"
#include "dataplane/wire/packet.h"

namespace sluice::engine {

enum class Activity : std::uint8_t { kIdle = 1, kBusy };

// Data frames made and handed to the port at once. Their pages are read for hashing first and by
// the port afterwards: few enough that they are still in the core's second-level cache then.
inline constexpr std::size_t kTransmitBurst = 16;
static_assert(kTransmitBurst <= port::kBurstMax);

// Below this many pending pages a flow scans the next chunk of its shard: more than the window can
// hold, so that the link does not run dry while the kernel scans.
inline constexpr std::uint64_t kHarvestLowWaterPages = 4096;

// Sealed frames opened at once, and then decoded and applied: few enough that their content is
// still in the core's second-level cache.
inline constexpr std::size_t kOpenBurst = 8;
static_assert(kOpenBurst <= port::kBurstMax);

// The audit's share of a worker's time: while packets come and go, one page hashed again for so
// many of them (of frames with two pages a sixteenth of what is hashed anyway); in a step that
// found nothing to do, so many pages, which takes less than the gap between two jumbo frames at 10
// Gb/s. That time still counts as idle, and the worker rests after it as after any idle step.
inline constexpr std::size_t kPacketsPerAuditedPage = 8;
inline constexpr std::size_t kIdleAuditedPages = 4;

// Runs of dirty pages that one scan returns at most; a chunk with more is scanned in several calls.
inline constexpr std::size_t kHarvestRunsMax = 2048;

// Consecutive empty receive bursts after which a receiver counts as idle and acknowledges what it
// has. Acknowledging at the first would send an ack for every few frames whenever the receiver is a
// little faster than the sender.
inline constexpr std::uint32_t kIdleReceives = 16;

// What PROBE frames are padded with, as often as needed: the device may read it while it is sent,
// as it does guest memory. A whole page, so that it can be made known to the device.
alignas(kPageBytes) inline std::array<std::byte, kPageBytes> probe_padding{};
static_assert(wire::kRecordsMax * kPageBytes > UINT16_MAX, "a packet's slices hold any padding");

// A worker that was not run for so long stood still: the operating system or the machine had
// something else to do. Rests between steps are far shorter (idle.h).
inline constexpr TimeNs kStandstillNs = 100 * kMillisecondNs;

// A busy worker looks at its commands once in so many steps; an idle one in every step.
inline constexpr std::uint32_t kBusyStepsPerCommandPoll = 32;

// Everything is called from the worker's thread. The queue, cap, rings and probe outlive the
// worker. Never allocates after construction. Large (it holds its buffers): keep it on the heap.
template <port::Queue Q>
class Worker {
 public:
  // CLOCK_MONOTONIC in nanoseconds, to time scans and to date events; a test's own clock.
  using Clock = TimeNs (*)() noexcept;

  // `local` is where this worker's flows are addressed to; `cap` is shared by the port's workers.
  Worker(Q& queue, const wire::Endpoint& local, LinkCap& cap, CommandRing& commands,
         EventRing& events, WorkerProbe& probe, Clock clock)
      : queue_(queue),
        local_(local),
        cap_(cap),
        commands_(commands),
        events_(events),
        probe_(probe),
        clock_(clock),
        neighbours_(local) {}
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // One turn of the loop at time `now`.
  [[nodiscard]] Activity step(TimeNs now);

  // False: nothing will happen before the next command, so the thread may block.
  [[nodiscard]] bool has_flows() const { return senders_count_ + receivers_count_ > 0; }
  // How many events were put in the ring so far: whoever runs the worker wakes their reader when it
  // has grown.
  [[nodiscard]] std::uint64_t events_emitted() const { return events_emitted_; }

 private:
  struct SendSlot {
    SendFlow* flow = nullptr;
    // Since when the peer's silence counts: it has nothing to acknowledge between phases, nor while
    // only pages are looked at that are zero on both sides.
    TimeNs silence_began_ns = 0;
    bool stopping = false;
  };

  // A data frame between decoding and applying, both within one burst. No flow: there is none.
  struct DecodedData {
    ReceiveFlow* flow = nullptr;
    wire::DataFrame frame;
  };

  // A frame's type and the flow it is for: a receiver's or a sender's, as the type says.
  struct Arrival {
    wire::FrameType type{};
    ReceiveFlow* receiver = nullptr;
    SendFlow* sender = nullptr;

    [[nodiscard]] const port::FlowKeys* keys() const {
      return (receiver != nullptr ? receiver->keys : sender->keys).get();
    }
  };

  // ---- stages, in the loop's order ----
  void excuse_standstill(TimeNs now);
  bool receive_burst(TimeNs now);
  void acknowledge(TimeNs now, bool received);
  void reap_losses(TimeNs now);
  bool probe_paths(TimeNs now);
  bool harvest_dirty_pages();
  bool transmit_burst(TimeNs now);
  void audit_pages(bool busy);
  void finish_phases();
  bool release_stopped_flows();
  bool run_commands(TimeNs now);

  // ---- receiving ----
  void handle_packet(std::span<std::byte> packet, TimeNs now);
  void handle_other_packet(std::span<const std::byte> packet, TimeNs now);
  [[nodiscard]] Arrival find_flow(const wire::FlowKey& key);
  void put_aside(std::span<std::byte> frame, const wire::FlowKey& key, const Arrival& arrival,
                 TimeNs now);
  [[nodiscard]] std::optional<wire::DropReason> seen_before(const wire::FlowKey& key,
                                                            const Arrival& arrival) const;
  void open_sealed(TimeNs now);
  [[nodiscard]] static bool first_of_its_number(std::span<const std::byte> frame,
                                                const Arrival& arrival);
  void handle_frame(std::span<const std::byte> frame, const Arrival& arrival, TimeNs now);
  void handle_data(std::span<const std::byte> frame, ReceiveFlow& flow);
  void apply_decoded();
  void handle_ack(std::span<const std::byte> frame, SendFlow& flow, TimeNs now);
  void handle_probe(std::span<const std::byte> frame, ReceiveFlow& flow);
  void handle_probe_reply(std::span<const std::byte> frame, SendFlow& flow, TimeNs now);
  void drop(wire::DropReason reason) {
    add_relaxed(probe_.drops[static_cast<std::size_t>(reason)], 1);
  }

  // ---- sending ----
  [[nodiscard]] static bool may_send(const SendSlot& slot) {
    return slot.flow->phase != SendFlow::Phase::kIdle && !slot.flow->failed && !slot.stopping;
  }
  struct Filled {
    std::size_t frames = 0;  // in burst_
    bool looked = false;     // pages were looked at that need not be sent
  };
  Filled fill_burst(TimeNs now);
  // This worker's part of the cap, in bits per second; 0: there is none.
  [[nodiscard]] std::uint64_t share_of_cap();
  // False: the port is full.
  bool send_probe(const SendFlow& flow, const protocol::PathProber::Probe& probe, TimeNs now);
  void end_path_search(SendSlot& slot, std::size_t mtu, TimeNs now);
  // Sends what `single_` holds: head bytes behind the packet's headers, `body_bytes` in slices.
  bool transmit_single(const wire::PacketTemplate& headers, const port::FlowKeys* keys,
                       std::size_t frame_bytes, std::size_t body_bytes);
  void pack_frame(const SendFlow& flow, port::OutgoingPacket& out);
  bool harvest_chunk(SendFlow& flow);
  [[nodiscard]] static TimeNs silent_since(const SendSlot& slot) {
    return std::max(slot.flow->sender.last_heard_ns(), slot.silence_began_ns);
  }
  void fail_flow(SendFlow& flow, EventKind kind, std::uint64_t value);

  // ---- commands ----
  void run_command(const Command& command, TimeNs now);
  void start_sending(const Command& command);
  void start_receiving(const Command& command);
  void run_send_command(const Command& command, SendSlot& slot, TimeNs now);
  void ask_neighbour(const Command& command);
  void fold(const Command& command);
  void stop(const Command& command);
  void emit(EventKind kind, std::uint64_t session, std::uint16_t flow, std::uint64_t value);

  // ---- flows and probes ----
  [[nodiscard]] SendSlot* find_sender(std::uint64_t session, std::uint16_t flow);
  [[nodiscard]] ReceiveFlow* find_receiver(std::uint64_t session, std::uint16_t flow);
  [[nodiscard]] bool any_stopping() const;
  void publish_probes();

  Q& queue_;
  wire::Endpoint local_;
  LinkCap& cap_;
  CommandRing& commands_;
  EventRing& events_;
  WorkerProbe& probe_;
  Clock clock_;
  Neighbours neighbours_;

  std::array<SendSlot, kFlowsMax> senders_{};
  std::array<ReceiveFlow*, kFlowsMax> receivers_{};
  std::size_t senders_count_ = 0;
  std::size_t receivers_count_ = 0;

  std::size_t next_sender_ = 0;  // whose turn it is to fill the next frame
  std::size_t packets_since_audit_ = 0;
  std::size_t audits_ = 0;  // whose turn it is to be audited
  std::size_t burst_limit_ =
      kTransmitBurst;  // shrinks while the port refuses packets: what it refuses was hashed in vain
  congestion::Pacer pacer_;
  std::uint32_t flows_counted_ = 0;  // in cap_.sending_flows
  // When the port was looked at before: what it has now arrived after that.
  TimeNs polled_before_ns_ = 0;
  std::uint32_t empty_receives_ = 0;
  std::uint32_t busy_steps_ = 0;
  std::uint64_t events_emitted_ = 0;

  std::array<port::ReceivedPacket, port::kBurstMax> received_{};
  std::array<port::OutgoingPacket, kTransmitBurst> burst_{};
  std::array<SendFlow*, kTransmitBurst> burst_owner_{};
  std::array<congestion::Pacer, kTransmitBurst> pacer_before_{};  // each frame, to take it back
  protocol::OutgoingFrame frame_{};
  port::OutgoingPacket single_{};  // an ack, a probe, a reply to one, who has an address
  // Frames of this burst that wait for being opened, and whose they are.
  std::array<port::SealedFrame, kOpenBurst> sealed_{};
  std::array<Arrival, kOpenBurst> sealed_arrival_{};
  std::size_t sealed_count_ = 0;
  std::array<DecodedData, 2> decoded_{};
  std::size_t waiting_ = 0;  // index of the data frame to apply next; the other is decoded into
  wire::AckFrame ack_frame_{};
  std::array<port::PageRun, kHarvestRunsMax> runs_{};
};

}  // namespace sluice::engine
