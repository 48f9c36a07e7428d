// What every migration of an agent shares. All of it outlives them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "control/agent/config.h"
#include "control/agent/cordon.h"
#include "control/agent/event_router.h"
#include "control/agent/guest_registry.h"
#include "control/agent/owned_twins.h"
#include "control/agent/probe_turns.h"
#include "control/agent/records.h"
#include "control/agent/step_holds.h"
#include "control/security/credentials.h"
#include "dataplane/base/units.h"
#include "drivers/dpdk/data_plane.h"
#include "drivers/guest/guest.h"

namespace sluice::agent {

// What a switchover costs whatever the memory does, by guest driver: a constant to begin with, then
// what was measured. Any thread.
class DowntimeFloors {
 public:
  struct Floor {
    TimeNs fixed_ns = 0;         // stopping, state, resuming
    TimeNs proof_ns = 0;         // of hashes kept while streaming
    TimeNs stop_latency_ns = 0;  // the guest still runs after it was asked to stop
  };
  [[nodiscard]] Floor of(const std::string& driver) const;
  void measured(const std::string& driver, TimeNs fixed_ns, TimeNs proof_ns);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Floor> floors_ = {
      {"memory", {3 * kMillisecondNs, 1 * kMillisecondNs, 0}},
      {"qemu", {12 * kMillisecondNs, 1 * kMillisecondNs, 8 * kMillisecondNs}},
  };
};

using Drivers = std::map<std::string, std::unique_ptr<guest::Driver>>;

struct AgentContext {
  const Config& config;
  dpdk::DataPlane& data_plane;
  EventRouter& router;
  GuestRegistry& registry;
  Drivers& drivers;
  HandoverRecords& handovers;
  OutcomeRecords& outcomes;
  DowntimeFloors& floors;
  const StepHolds& holds;
  OwnedTwins& owned_twins;
  Cordon& cordon;
  ProbeTurns& probes_sent;
  ProbeTurns& probes_answered;
  const security::Credentials& credentials;
};

}  // namespace sluice::agent
