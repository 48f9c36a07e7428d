// This host's reboot: from when its command was started, neither guests nor hooks begin that the
// reboot would end.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <sys/types.h>
#include <thread>

#include "control/agent/config.h"
#include "control/agent/guest_registry.h"
#include "dataplane/base/expected.h"

namespace sluice::agent {

// Any thread.
class Rebooter {
 public:
  using Clock = std::chrono::steady_clock;
  // A command that fails does so at once; whatever else it has to do is not waited for.
  static constexpr std::chrono::seconds kVerdictTime{2};
  // Services take minutes to stop, not this long.
  static constexpr std::chrono::minutes kOverdue{15};

  // Both outlive it.
  Rebooter(const Config& config, GuestRegistry& registry) : config_(config), registry_(registry) {}

  // Runs the reboot command, unless that was done before. kBusy while guests or hooks are here that
  // the reboot would end. kFailed if the command cannot be started or ends with another status than
  // 0: the host then takes guests and hooks as before, as it also does when the command fails after
  // this has returned. One that ended with 0, or by a signal as everything does in a shutdown,
  // leaves the host closed: the reboot is coming.
  [[nodiscard]] Expected<void> begin();

  // What an operator should know of it, if anything.
  [[nodiscard]] std::optional<std::string> remark(Clock::time_point now) const;

  // The right to run a hook, which no reboot ends while it lasts.
  class HookTurn {
   public:
    explicit HookTurn(Rebooter& rebooter);
    ~HookTurn();
    HookTurn(const HookTurn&) = delete;
    HookTurn& operator=(const HookTurn&) = delete;
    [[nodiscard]] bool granted() const { return granted_; }

   private:
    Rebooter& rebooter_;
    bool granted_ = false;
  };

 private:
  [[nodiscard]] Expected<void> start();
  void await_end(pid_t command, const std::stop_token& stop);
  void note_end(std::optional<int> wait_status);

  const Config& config_;
  GuestRegistry& registry_;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  bool rebooting_ = false;
  bool command_ended_ = false;
  Clock::time_point begun_;
  std::string failure_;  // of the last command; empty: it did not fail
  std::uint32_t hooks_running_ = 0;
  std::jthread waiter_;  // last: it uses all of the above
};

}  // namespace sluice::agent
