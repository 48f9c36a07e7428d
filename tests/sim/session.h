// The control side of one simulated session: what an agent does with the workers at both ends.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/engine/commands.h"
#include "dataplane/engine/flow.h"
#include "tests/sim/guest.h"
#include "tests/sim/options.h"

namespace sluice::sim {

enum class Outcome : std::uint8_t {
  kRunning = 1,
  kCommitted,
  kMismatch,  // digests differ: cancelled
  kNoPath,    // no frame of any size was answered
  kPeerSilent,
  kTrackerFailed,
  kUnseenWrite,
  kOperator,
  kCount  // number of values, not an outcome
};
[[nodiscard]] const char* to_string(Outcome outcome);

// Host 0 or 1's address.
[[nodiscard]] wire::Endpoint endpoint(std::size_t host);

class Session {
 public:
  // Commands go to rings[0] and rings[1], the two hosts' workers.
  Session(std::uint64_t id, const SessionOptions& options, protocol::Arena& source,
          protocol::Arena& destination, std::uint64_t seed,
          std::array<engine::CommandRing*, 2> rings);

  void begin();
  // An event of this session from a host's worker.
  void on_event(std::size_t host, const engine::Event& event);
  // What happens by itself at some time.
  void on_time(TimeNs now);

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] bool done() const { return phase_ == Phase::kDone; }
  [[nodiscard]] Outcome outcome() const { return outcome_; }
  [[nodiscard]] std::size_t source_host() const { return options_.forward ? 0 : 1; }
  [[nodiscard]] std::size_t mtu_agreed() const { return options_.mtu; }
  // For traces.
  [[nodiscard]] const char* phase() const;
  // Empty unless something happened that must not.
  [[nodiscard]] const std::string& violation() const { return violation_; }
  // Of the senders; slow.
  [[nodiscard]] bool invariants_hold() const;
  [[nodiscard]] const std::vector<std::unique_ptr<engine::SendFlow>>& senders() const {
    return senders_;
  }
  [[nodiscard]] const std::vector<std::unique_ptr<engine::ReceiveFlow>>& receivers() const {
    return receivers_;
  }

  Guest guest;

 private:
  enum class Phase : std::uint8_t {
    kCreated = 1,
    kProbing,
    kIterating,
    kFinalPass,
    kState,
    kFolding,
    kStopping,
    kDone
  };

  [[nodiscard]] std::unique_ptr<port::FlowKeys> make_keys(std::uint16_t flow) const;
  void submit(std::size_t host, engine::Command command, std::uint16_t flow);
  void submit_to_senders(engine::Command command);
  void submit_to_all(engine::CommandKind kind);
  void enter(Phase phase, std::size_t events);
  [[nodiscard]] bool expected(engine::EventKind kind) const;
  void run_iteration();
  void next_phase();
  void compare_digests();
  void end(Outcome outcome);

  std::uint64_t id_;
  SessionOptions options_;
  std::array<engine::CommandRing*, 2> rings_;
  std::vector<std::unique_ptr<engine::SendFlow>> senders_;
  std::vector<std::unique_ptr<engine::ReceiveFlow>> receivers_;
  Phase phase_ = Phase::kCreated;
  std::size_t events_awaited_ = 0;
  int iterations_done_ = 0;
  Outcome outcome_ = Outcome::kRunning;
  std::string violation_;
};

}  // namespace sluice::sim
