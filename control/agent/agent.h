// The agent as a whole: what the services call and what outlives their calls.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "control/agent/context.h"
#include "control/agent/migration.h"
#include "control/agent/migration_source.h"

namespace sluice::agent {

// An operator's word on a guest that its destination has forgotten.
enum class Order : std::uint8_t { kResume = 1, kEnd };

// Goes on asking destinations about handovers whose outcome is unknown, until one of both hosts is
// known to own the guest or an operator has decided. Any thread.
class Settler {
 public:
  explicit Settler(AgentContext& agent);

  void add(MigrationSource::Unsettled unsettled);
  // kNotFound if no such guest waits for an operator.
  [[nodiscard]] Expected<void> obey(const std::string& guest, Order order);

 private:
  void loop(const std::stop_token& stop);
  // True when it is settled.
  [[nodiscard]] bool settle(MigrationSource::Unsettled& unsettled);
  [[nodiscard]] Expected<void> take_back(MigrationSource::Unsettled& unsettled);
  [[nodiscard]] Expected<void> end(MigrationSource::Unsettled& unsettled);

  AgentContext& agent_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<MigrationSource::Unsettled> open_;
  std::vector<MigrationSource::Unsettled> forgotten_;
  std::jthread thread_;  // last: it uses all of the above
};

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

  // Starts a migration; it goes on by itself. kInvalid, kNotFound or kBusy if it cannot be started
  // at all.
  [[nodiscard]] Expected<std::shared_ptr<Migration>> migrate(const v1::MigrateRequest& request);
  // The migration of this guest that is under way; kNotFound if there is none.
  [[nodiscard]] Expected<std::shared_ptr<Migration>> migration_of(const std::string& guest);
  // kNotFound if no such guest waits for an operator.
  [[nodiscard]] Expected<void> obey(const std::string& guest, Order order) {
    return settler_.obey(guest, order);
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
  void rediscover();
  void restore(std::unique_ptr<guest::Guest> guest);
  void reap_finished();

  DowntimeFloors floors_;
  const StepHolds holds_;
  AgentContext context_;
  Settler settler_;
  std::mutex mutex_;
  bool stopping_ = false;
  std::map<std::string, Running> migrations_;
};

}  // namespace sluice::agent
