// Does what a run's intents say: asks agents, runs the controller's own hooks. An action is a
// thread that ends with one outcome.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "control/controller/config.h"
#include "control/controller/inventory.h"
#include "control/hooks/hook_runner.h"
#include "control/patch/driver.h"

namespace sluice::controller {

// How long nobody may say what became of an action before the run goes on without knowing.
inline constexpr std::chrono::milliseconds kSilenceMax{60'000};

class Executor final : public patch::Actions {
 public:
  // Told from an action's own thread, after the places of the guests it moved are known.
  using OnEnd = std::function<void(const std::string& run, const patch::Outcome& outcome)>;
  // An agent has refused this controller: it obeys another one.
  using OnSuperseded = std::function<void(const std::string& message)>;

  // `self` says whose runs these are, since every journal begins with a run r1.
  Executor(const Config& config, const security::Credentials& credentials,
           const model::ControllerIdentity& self, Inventory& inventory, OnEnd on_end,
           OnSuperseded on_superseded, std::chrono::milliseconds silence_max = kSilenceMax);
  // Lets go of what is under way: agents go on with it.
  ~Executor() override;

  void begin(const patch::Run& run, const patch::Intent& intent, bool again) override;

  // What actions of this run that are under way wait for, by their intent, where it is not just
  // their end. Any thread.
  [[nodiscard]] std::map<std::uint64_t, std::string> waiting(const std::string& run) const;

 private:
  struct Task {
    std::string run;
    patch::Intent intent;
    bool again = false;
    std::string definition;                          // kStartGuest
    std::map<std::string, std::string> environment;  // kHook
    bool of_canary = false;                          // its guest is this run's own, wherever it is
  };
  [[nodiscard]] patch::Outcome perform(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome migrate(const Task& task, const std::stop_token& stop);
  // Begins the migration (false: only watches it) and follows it to its end. `progress`: it was
  // heard of.
  [[nodiscard]] client::AgentClient::Summary follow(const patch::Intent& intent, bool begin,
                                                    const std::stop_token& stop, bool* progress);
  // Nothing: where the guest is must be found out.
  [[nodiscard]] std::optional<patch::Outcome> outcome_of(const patch::Intent& intent,
                                                         const v1::MigrateSummary& summary);
  [[nodiscard]] patch::Outcome settle(const Task& task, const std::string& why,
                                      const std::stop_token& stop);
  // What both hosts of a move say now; nothing if that does not settle it, with `words` for people.
  [[nodiscard]] std::optional<patch::Outcome> settled(const patch::Intent& intent,
                                                      const std::string& why, std::string* words,
                                                      bool* moving);
  [[nodiscard]] patch::Outcome run_hook(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome reboot(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome check_paths(const Task& task, const std::stop_token& stop);
  // Why frames do not arrive as they should; empty: they do; nothing: one of the two hosts cannot
  // say.
  [[nodiscard]] std::optional<std::string> path_fault(const std::string& from,
                                                      const std::string& to,
                                                      const std::stop_token& stop);
  using GuestState = std::optional<std::string>;  // see state_at()
  [[nodiscard]] static bool runs(const GuestState& state);
  [[nodiscard]] static bool is_absent(const GuestState& state);
  // Asks an agent until it has done what it is asked for, or refuses, or was busy or silent for
  // silence_max_. It may be busy at an earlier controller's word, and an answer may have been lost.
  [[nodiscard]] Expected<std::string> insist(const Task& task,
                                             const std::function<Expected<std::string>()>& ask,
                                             const std::stop_token& stop);
  // What became of a guest that is to be started on `target`: that it runs elsewhere, for people,
  // or nothing. kBusy while another host may have it.
  [[nodiscard]] Expected<std::string> found_elsewhere(const Task& task, const std::string& target);
  // As insist(), of something that `host` does to the guest, unless that is so already.
  [[nodiscard]] patch::Outcome bring_about(
      const Task& task, const std::string& host,
      const std::function<Expected<std::string>(client::AgentClient& agent)>& ask,
      bool (*is_so)(const GuestState& state), const std::stop_token& stop);
  [[nodiscard]] patch::Outcome start_guest(const Task& task, const std::stop_token& stop);
  [[nodiscard]] patch::Outcome stop_guest(const Task& task, const std::stop_token& stop);
  // kNotFound, with the remedy, for a host that the configuration does not name (any more).
  [[nodiscard]] Expected<client::AgentClient*> agent(const std::string& host) const;
  // What the host says of the guest when it is asked now: its state, empty if it does not have it.
  // Nothing: it does not answer.
  [[nodiscard]] GuestState state_at(const std::string& host, const std::string& guest) const;
  // The same for people.
  [[nodiscard]] std::string say(const std::string& host, const GuestState& state) const;
  // The same of what it has said.
  [[nodiscard]] static GuestState state_in(const HostView& view, const std::string& guest);
  // Asks every host.
  void refresh_all();
  void note(const Task& task, const std::string& waits_for);
  [[nodiscard]] patch::Outcome failed(const Task& task, const Error& error) const;

  const std::string journal_id_;
  Inventory& inventory_;
  const OnEnd on_end_;
  const OnSuperseded on_superseded_;
  const std::chrono::milliseconds silence_max_;
  hooks::HookRunner hooks_;
  std::map<std::string, std::unique_ptr<client::AgentClient>> agents_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::uint64_t>, std::string> waiting_;  // by run and intent
  struct Action {
    std::unique_ptr<std::atomic<bool>> ended;
    std::jthread thread;
  };
  std::vector<Action> actions_;  // last: they use all of the above
};

}  // namespace sluice::controller
