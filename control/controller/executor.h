// Does what a run's intents say: asks agents, runs the controller's own hooks. An action is a
// thread that ends with one outcome.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "control/controller/config.h"
#include "control/controller/inventory.h"
#include "control/hooks/hook_runner.h"
#include "control/patch/driver.h"

namespace sluice::controller {

class Executor final : public patch::Actions {
 public:
  // Told from an action's own thread, after the places of the guests it moved are known.
  using OnEnd = std::function<void(const std::string& run, const patch::Outcome& outcome)>;
  // An agent has refused this epoch: another controller has taken over.
  using OnSuperseded = std::function<void(const std::string& message)>;

  Executor(const Config& config, const security::Credentials& credentials, std::uint64_t epoch,
           Inventory& inventory, OnEnd on_end, OnSuperseded on_superseded);
  // Lets go of what is under way: agents go on with it.
  ~Executor() override;

  void begin(const patch::Run& run, const patch::Intent& intent, bool again) override;

 private:
  struct Task {
    std::string run;
    patch::Intent intent;
    bool again = false;
    std::string definition;  // kStartGuest
  };
  [[nodiscard]] patch::Outcome perform(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome migrate(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome settle(const Task& task, const std::string& why,
                                      const std::stop_token& stop);
  [[nodiscard]] patch::Outcome run_hook(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome reboot(const Task& task);
  [[nodiscard]] patch::Outcome start_guest(const Task& task);
  [[nodiscard]] patch::Outcome stop_guest(const Task& task);
  [[nodiscard]] client::AgentClient& agent(const std::string& host) { return *agents_.at(host); }
  // Where the guest runs, asked now; empty: nowhere that is known.
  [[nodiscard]] std::string locate(const std::string& guest, bool* moving);
  [[nodiscard]] patch::Outcome failed(const Task& task, const Error& error) const;

  Inventory& inventory_;
  const OnEnd on_end_;
  const OnSuperseded on_superseded_;
  hooks::HookRunner hooks_;
  std::map<std::string, std::unique_ptr<client::AgentClient>> agents_;
  std::mutex mutex_;
  struct Action {
    std::unique_ptr<std::atomic<bool>> ended;
    std::jthread thread;
  };
  std::vector<Action> actions_;  // last: they use all of the above
};

}  // namespace sluice::controller
