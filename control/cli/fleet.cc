#include "control/cli/fleet.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <future>
#include <optional>

namespace sluice::cli {
namespace {

template <typename Reply>
std::vector<Answer<Reply>> ask_all(const std::vector<std::unique_ptr<AgentClient>>& agents,
                                   Expected<Reply> (AgentClient::*question)()) {
  std::vector<std::future<Expected<Reply>>> pending;
  pending.reserve(agents.size());
  for (const auto& agent : agents)
    pending.push_back(std::async(std::launch::async, question, agent.get()));
  std::vector<Answer<Reply>> answers;
  answers.reserve(agents.size());
  for (std::size_t i = 0; i < agents.size(); ++i)
    answers.push_back({agents[i].get(), pending[i].get()});
  return answers;
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 10;
  const auto shown = static_cast<std::ptrdiff_t>(std::min(names.size(), kMost));
  return fmt::format("{}{}", fmt::join(names.begin(), names.begin() + shown, ", "),
                     names.size() > kMost ? ", ..." : "");
}

// How much a state says that the guest really is there; lower is better.
int distance(const std::string& state) {
  if (state == "incoming") return 2;
  if (state == "handed-over" || state == "forgotten" || state == "silent") return 1;
  return state == "gone" ? 3 : 0;
}

}  // namespace

Fleet::Fleet(const Config& config, const security::Credentials& credentials)
    : config_path_(config.path) {
  for (const HostAddress& host : config.hosts)
    agents_.push_back(std::make_unique<AgentClient>(host, credentials));
  if (!config.controller.empty()) {
    controller_ =
        std::make_unique<ControllerClient>(config.controller_name, config.controller, credentials);
  }
}

Expected<AgentClient*> Fleet::host(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& agent : agents_) {
    if (agent->host() == name) return agent.get();
    names.push_back(agent->host());
  }
  return fail(ErrorKind::kNotFound, fmt::format("there is no host {} in {}; hosts there: {}", name,
                                                config_path_, some_of(names)));
}

std::vector<Answer<v1::HostInfo>> Fleet::hosts() {
  return ask_all(agents_, &AgentClient::get_host);
}

std::vector<Answer<v1::GuestList>> Fleet::guests() {
  return ask_all(agents_, &AgentClient::list_guests);
}

Expected<FoundGuest> Fleet::find(const std::string& guest) {
  std::optional<FoundGuest> found;
  std::vector<std::string> others;
  std::vector<std::string> silent;
  std::optional<Error> refusal;
  for (const auto& [agent, reply] : guests()) {
    if (!reply) {
      silent.push_back(agent->host());
      if (!refusal && reply.error().kind == ErrorKind::kPermission) refusal = reply.error();
      continue;
    }
    for (const v1::GuestInfo& info : reply->guests()) {
      if (info.name() != guest) {
        others.push_back(info.name());
      } else if (!found || distance(info.state()) < distance(found->info.state())) {
        found = FoundGuest{agent, info};
      }
    }
  }
  if (found) return *found;
  if (refusal) {
    return fail(ErrorKind::kPermission,
                fmt::format("{} cannot be found: {}", guest, refusal->message));
  }
  if (silent.size() == agents_.size()) {
    return fail(ErrorKind::kUnreachable,
                fmt::format("no agent answers, so {} cannot be found; start sluiced on: {}", guest,
                            some_of(silent)));
  }
  const std::string there = others.empty() ? "no guests there" : "guests there: " + some_of(others);
  const std::string unasked =
      silent.empty() ? "" : "; not asked, because no agent answers there: " + some_of(silent);
  return fail(ErrorKind::kNotFound,
              fmt::format("no host has a guest {}; {}{}", guest, there, unasked));
}

}  // namespace sluice::cli
