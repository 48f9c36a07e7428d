// Two hosts, a network, and the sessions between them, on virtual time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/engine/worker.h"
#include "drivers/sim/network.h"
#include "tests/protocol/arena.h"
#include "tests/sim/options.h"
#include "tests/sim/session.h"

namespace sluice::sim {

inline constexpr std::size_t kSessionsMax = 2;

// Source and destination memory of each session; all zero between two runs.
struct Memories {
  std::array<std::array<protocol::Arena, 2>, kSessionsMax> session;
};

// What many runs have exercised.
struct Totals {
  std::uint64_t runs = 0;
  std::uint64_t mild_runs = 0;  // Options::mild()
  std::uint64_t sessions = 0;
  std::uint64_t steps = 0;
  TimeNs virtual_ns = 0;
  std::uint64_t guest_writes = 0;
  std::uint64_t corrupted_frames_believed = 0;
  // Sessions that believed such a frame, by how they ended. Committed: newer contents came after
  // it.
  std::array<std::uint64_t, static_cast<std::size_t>(Outcome::kCount)> corrupted_outcomes{};
  std::uint64_t stale_pages = 0;
  std::uint64_t smaller_frames = 0;  // flows that fell back to them
  std::array<std::uint64_t, static_cast<std::size_t>(Outcome::kCount)> outcomes{};
  FateCounters fates{};
  std::array<std::uint64_t, static_cast<std::size_t>(wire::DropReason::kCount)> drops{};
  protocol::SenderCounters sender;

  void print(std::ostream& out) const;
};

class Simulation {
 public:
  // `trace` may be null. The state of every page is checked after every so many steps of a worker
  // (1 and more), and whenever a session enters a phase; what costs less is checked after each.
  Simulation(std::uint64_t seed, const Options& options, Memories& memories, std::ostream* trace,
             std::uint64_t steps_per_check);

  // Runs to the end of all sessions. Empty, or what went wrong.
  [[nodiscard]] std::string run();
  void add_to(Totals& totals) const;

 private:
  struct Host {
    Host(const HostOptions& host_options, Path& in, Path& out, std::size_t number,
         std::uint64_t seed, std::function<void()> before_read);

    HostOptions options;
    engine::LinkCap cap;
    Port port;
    engine::CommandRing commands;
    engine::EventRing events;
    engine::WorkerProbe probe;
    std::unique_ptr<engine::Worker<Port&>> worker;
    TimeNs next_step_ns = 0;
    TimeNs idle_ns = 0;  // how long it waits after a step that found nothing to do
  };

  [[nodiscard]] TimeNs next_time() const;
  [[nodiscard]] TimeNs wakes_at(std::size_t host) const;
  void advance(TimeNs now);
  void step(std::size_t host, TimeNs now);
  void handle_events(std::size_t host);
  void check(bool thoroughly);
  void packet_seen(std::size_t path, TimeNs now, Fate fate, const Packet& packet);
  static void frame_arrives(Session& session, std::span<const std::byte> bytes,
                            const wire::FlowKey& key, bool corrupted);
  void write_inconveniently(std::size_t host);
  [[nodiscard]] bool done() const;
  [[nodiscard]] std::string judge_end() const;
  void trace_line(TimeNs now, const std::string& text) const;

  Options options_;
  Random random_;
  std::ostream* trace_;
  const std::uint64_t steps_per_check_;
  std::array<Path, 2> paths_;  // [i]: from host i to the other
  std::array<std::unique_ptr<Host>, 2> hosts_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::uint64_t steps_ = 0;
  std::string violation_;
};

}  // namespace sluice::sim
