// Guests that were being handed over and of which it is not clear, or not yet done, on which host
// they go on.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>

#include "control/agent/context.h"
#include "control/agent/migration_source.h"
#include "control/agent/retries.h"

namespace sluice::agent {

// An operator's word on a guest whose records are lost.
enum class Order : std::uint8_t { kResume = 1, kEnd };

// Goes on asking destinations about handovers whose outcome is unknown, until one of both hosts is
// known to own the guest or an operator has decided, and does what follows until it is done. Any
// thread.
class Settler {
 public:
  explicit Settler(AgentContext& agent);

  void add(MigrationSource::Unsettled unsettled);
  // kNotFound if no such guest waits for an operator. After any other error the guest waits on.
  // `destination_is_gone` is an operator's word on a guest whose outcome is unknown: its
  // destination never comes back. Refused unless that is out of reach just now.
  [[nodiscard]] Expected<void> obey(const std::string& guest, Order order,
                                    bool destination_is_gone = false);

 private:
  // True when it is settled.
  [[nodiscard]] bool settle(MigrationSource::Unsettled& unsettled);
  // Where its destination is now, by this agent's configuration.
  [[nodiscard]] HandoverRecord located(HandoverRecord record) const;
  [[nodiscard]] bool is_forgotten(const std::string& guest);
  // Under mutex_.
  [[nodiscard]] std::list<MigrationSource::Unsettled>::iterator find_forgotten(
      const std::string& guest);
  // From then on the guest waits for an operator.
  [[nodiscard]] Expected<void> forget(const std::string& guest);
  // Once for each reason.
  static void complain(MigrationSource::Unsettled& unsettled, const Error& error);
  // Both give the claim back once it is done; until then they can be called again.
  [[nodiscard]] Expected<void> take_back(MigrationSource::Unsettled& unsettled);
  [[nodiscard]] Expected<void> end(MigrationSource::Unsettled& unsettled);

  AgentContext& agent_;
  std::mutex mutex_;
  std::list<MigrationSource::Unsettled> forgotten_;
  Retries<MigrationSource::Unsettled> open_;  // last: its thread uses all of the above
};

}  // namespace sluice::agent
