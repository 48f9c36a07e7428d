// What the controller knows of its hosts: every agent is asked twice a second.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/client/agent_client.h"
#include "control/controller/config.h"
#include "control/controller/running_clock.h"
#include "control/patch/run.h"
#include "control/planner/model.h"

namespace sluice::controller {

struct HostView {
  // At the last time of asking. A host that obeys another journal counts as one that does not
  // answer: what it says is known, but not done.
  bool reachable = false;
  // With the question that the rest answers.
  bool told_out_of_service = false;
  // When it last was; before that, when this controller began.
  RunningClock::TimePoint heard;
  v1::HostInfo info;                  // as last heard
  std::vector<v1::GuestInfo> guests;  // without their definitions
  // By guest: what would start it again. Shared, since views are copied often.
  std::shared_ptr<const std::map<std::string, std::string>> definitions =
      std::make_shared<std::map<std::string, std::string>>();
};
using Hosts = std::map<std::string, HostView>;

// Any thread. `credentials` outlive it.
class Inventory {
 public:
  // Every question says which controller asks, so that agents refuse older ones before this one has
  // told them to do anything.
  Inventory(const Config& config, const security::Credentials& credentials,
            const model::ControllerIdentity& self);
  ~Inventory();
  Inventory(const Inventory&) = delete;
  Inventory& operator=(const Inventory&) = delete;

  // Asks every host from now on. Once, when it is known which of them are out of service: agents
  // are told with each question.
  void watch();
  [[nodiscard]] Hosts hosts() const;
  // What is to be told to the host's agent whenever it is asked: why people may bring no guests
  // there; empty: they may.
  void set_out_of_service(const std::string& host, const std::string& why);
  // Since its agent last answered, or since this controller began; for ever if there is no such
  // host.
  [[nodiscard]] RunningClock::Duration silent_for(const std::string& host) const;
  // Asks these hosts now, all at once; what is known afterwards is no older than this call. A host
  // that is silent makes it last some seconds.
  void refresh(const std::vector<std::string>& hosts);
  // By which silence is measured.
  [[nodiscard]] RunningClock& clock() const { return clock_; }

 private:
  struct Entry {
    std::unique_ptr<client::AgentClient> agent;
    HostView view;
    std::string out_of_service;
    std::uint64_t asked = 0;  // which question the view answers; a later one is never overwritten
  };
  void ask(Entry& entry);
  void poll(const std::stop_token& stop, Entry& entry);

  const model::ControllerIdentity self_;
  mutable RunningClock clock_;
  mutable std::mutex mutex_;
  std::condition_variable_any stopping_;
  std::uint64_t questions_ = 0;
  std::map<std::string, Entry> entries_;
  std::vector<std::jthread> pollers_;
};

// For so long a controller that began `since` ago waits for the first word of a host that does not
// answer: one of which nothing is known looks as if it had no guests.
inline constexpr std::chrono::seconds kFirstWordMax{30};
[[nodiscard]] bool may_decide_on(const Hosts& hosts, std::chrono::milliseconds since);

// Where each guest is: on the host where it runs, or is last known to have run. Twins that wait for
// their state and copies that were handed over do not count.
[[nodiscard]] std::map<std::string, v1::GuestInfo> place_guests(const Hosts& hosts);

// What else the host has by its own word, for patch::HostFacts::copies.
[[nodiscard]] std::map<std::string, std::string> copies_on(
    const Hosts& hosts, const std::string& host,
    const std::map<std::string, v1::GuestInfo>& placed);

// The hosts whose paths from and to `host` are worth a check when it comes back: those that answer
// and that it knows. At most eight, from the one after it in the order of names on.
[[nodiscard]] std::vector<std::string> peers_to_check(const Hosts& hosts, const std::string& host);

// For the planner, with the configuration's groups; guests on hosts that it does not know are left
// out. `down`: guests that runs have shut down, where they were.
[[nodiscard]] planner::Cluster make_cluster(const Hosts& hosts, const Config& config,
                                            const std::vector<patch::DownGuest>& down = {});

}  // namespace sluice::controller
