// All hosts of the configuration, asked at once, and the controller.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/cli/config.h"
#include "control/client/agent_client.h"
#include "control/client/controller_client.h"
#include "control/security/credentials.h"

namespace sluice::cli {

using client::AgentClient;
using client::ControllerClient;

template <typename Reply>
struct Answer {
  AgentClient* agent;  // never nullptr, owned by the fleet
  Expected<Reply> reply;
};

struct FoundGuest {
  AgentClient* agent;
  v1::GuestInfo info;
};

class Fleet {
 public:
  // `credentials` outlive it.
  Fleet(const Config& config, const security::Credentials& credentials);

  // kNotFound names the hosts that there are.
  [[nodiscard]] Expected<AgentClient*> host(const std::string& name);

  // nullptr: the configuration names none.
  [[nodiscard]] ControllerClient* controller() { return controller_.get(); }
  [[nodiscard]] const std::string& config_path() const { return config_path_; }

  // One answer a host, in the order of their names. A host that is silent delays the others by
  // nothing.
  [[nodiscard]] std::vector<Answer<v1::HostInfo>> hosts();
  [[nodiscard]] std::vector<Answer<v1::GuestList>> guests();

  // Where a guest is: if a migration shows it on two hosts, its source until it runs at the
  // destination. kNotFound names the guests that there are and the hosts that did not answer.
  [[nodiscard]] Expected<FoundGuest> find(const std::string& guest);

 private:
  std::string config_path_;
  std::vector<std::unique_ptr<AgentClient>> agents_;
  std::unique_ptr<ControllerClient> controller_;
};

}  // namespace sluice::cli
