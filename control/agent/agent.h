// The agent as a whole: what the services call and what outlives their calls.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/agent/context.h"
#include "control/agent/guest_meter.h"
#include "control/agent/migration.h"
#include "control/agent/migration_source.h"
#include "control/agent/owned_twins.h"
#include "control/agent/settler.h"
#include "control/agent/survivors.h"

namespace sluice::agent {

class Agent {
 public:
  // Finds the guests that survived an earlier agent and settles what it left open. `drivers` and
  // all else outlive it.
  explicit Agent(const Config& config, dpdk::DataPlane& data_plane, EventRouter& router,
                 GuestRegistry& registry, Drivers& drivers, HandoverRecords& handovers,
                 OutcomeRecords& outcomes, const security::Credentials& credentials);
  // As stop().
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  [[nodiscard]] AgentContext& context() { return context_; }

  [[nodiscard]] const GuestMeter& meter() const { return meter_; }

  // Starts a migration; it goes on by itself. kInvalid, kNotFound or kBusy if it cannot be started
  // at all.
  [[nodiscard]] Expected<std::shared_ptr<Migration>> migrate(const v1::MigrateRequest& request,
                                                             bool by_controller);
  // The migration of this guest that is under way; kNotFound if there is none.
  [[nodiscard]] Expected<std::shared_ptr<Migration>> migration_of(const std::string& guest);
  // As Settler::obey().
  [[nodiscard]] Expected<void> obey(const std::string& guest, Order order,
                                    bool destination_is_gone = false) {
    return settler_.obey(guest, order, destination_is_gone);
  }
  // Cancels migrations that may still be cancelled, waits for all of them and refuses new ones.
  // Guests run on.
  void stop();

 private:
  struct Running {
    std::shared_ptr<Migration> migration;
    std::shared_ptr<MigrationSource> source;
    std::thread thread;
  };

  [[nodiscard]] Expected<MigrationRequest> check(const v1::MigrateRequest& request) const;
  void reap_finished();

  DowntimeFloors floors_;
  const StepHolds holds_;
  OwnedTwins owned_twins_;
  Cordon cordon_;
  ProbeTurns probes_sent_;
  ProbeTurns probes_answered_;
  AgentContext context_;
  Settler settler_;
  Survivors survivors_;
  std::mutex mutex_;
  bool stopping_ = false;
  std::map<std::string, Running> migrations_;
  GuestMeter meter_;  // last: guests are known, and its thread ends first
};

}  // namespace sluice::agent
