#include "control/controller/obedience.h"

#include <algorithm>
#include <fmt/format.h>
#include <future>

#include "control/client/agent_client.h"

namespace sluice::controller {
namespace {

std::string name_of_leader(std::uint64_t epoch) { return fmt::format("leader-{}", epoch); }

bool is_own(const std::string& journal, const model::ControllerIdentity& self) {
  return journal.empty() || journal == self.journal ||
         std::find(self.replaced.begin(), self.replaced.end(), journal) != self.replaced.end();
}

std::string describe_stranger(const std::string& name, const v1::HostInfo& info,
                              const model::ControllerIdentity& self, const std::string& file) {
  return fmt::format(
      "{} obeys the controllers of the journal {} (epoch {}), and {} is {}: if those lead, or may "
      "yet, "
      "this one must not (a standby needs their journal), or take {} out of [hosts]; only if they "
      "are "
      "gone for good, take their hosts over by sluice-controller --adopt-agents, then start it "
      "again",
      name, info.controller_journal(), info.controller_epoch(), file, self.journal, name);
}

// Of a host that obeys this journal, or one that it replaces.
Expected<void> check_leader(const std::string& name, const v1::HostInfo& info,
                            const model::ControllerIdentity& self, const std::string& file,
                            store::Journal& journal) {
  const bool replaced =
      !info.controller_journal().empty() && info.controller_journal() != self.journal;
  if (replaced) return {};
  if (info.controller_epoch() > self.epoch) {
    return fail(
        ErrorKind::kPermission,
        fmt::format("{} obeys a controller of epoch {}, and this one has epoch {}: another one "
                    "has taken over, or {} is a copy from a backup, and then it takes its hosts "
                    "by sluice-controller --adopt-agents",
                    name, info.controller_epoch(), self.epoch, file));
  }
  const std::string& leader = info.controller_instance();
  if (leader.empty() || (info.controller_epoch() == self.epoch && leader == self.instance))
    return {};
  const auto kept = journal.kept(name_of_leader(info.controller_epoch()));
  if (!kept) return tl::unexpected<Error>(kept.error());
  if (*kept == leader) return {};
  return fail(
      ErrorKind::kPermission,
      fmt::format("{} obeys a controller of epoch {} that has not led with {}, but with a copy of "
                  "it, or with what it is a copy of: if that one leads, or may yet, this one must "
                  "not; only if it is gone for good, take its hosts over by sluice-controller "
                  "--adopt-agents, then start this one again",
                  name, info.controller_epoch(), file));
}

}  // namespace

std::vector<Expected<v1::HostInfo>> ask_unnamed(const Config& config,
                                                const security::Credentials& credentials) {
  std::vector<std::future<Expected<v1::HostInfo>>> questions;
  questions.reserve(config.hosts.size());
  for (const auto& host : config.hosts) {
    questions.push_back(std::async(std::launch::async, [&host, &credentials] {
      return client::AgentClient(host, credentials).get_host();
    }));
  }
  std::vector<Expected<v1::HostInfo>> answers;
  answers.reserve(questions.size());
  for (auto& question : questions) answers.push_back(question.get());
  return answers;
}

Expected<void> keep_leader(store::Journal& journal, const model::ControllerIdentity& self) {
  const auto kept = journal.keep(name_of_leader(self.epoch), self.instance);
  if (!kept) return tl::unexpected<Error>(kept.error());
  return {};
}

bool is_stranger(const v1::HostInfo& host, const model::ControllerIdentity& self) {
  return !self.journal.empty() && !is_own(host.controller_journal(), self);
}

Expected<std::vector<std::string>> check_obeyed(const std::map<std::string, v1::HostInfo>& hosts,
                                                const model::ControllerIdentity& self,
                                                const std::string& file, store::Journal& journal) {
  std::vector<std::string> strangers;
  for (const auto& [name, info] : hosts) {
    if (is_stranger(info, self)) {
      strangers.push_back(describe_stranger(name, info, self, file));
    } else if (auto led = check_leader(name, info, self, file, journal); !led) {
      return tl::unexpected<Error>(led.error());
    }
  }
  if (2 * strangers.size() > hosts.size()) return fail(ErrorKind::kPermission, strangers.front());
  return strangers;
}

}  // namespace sluice::controller
