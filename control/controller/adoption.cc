#include "control/controller/adoption.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "control/controller/lease_keeper.h"
#include "control/controller/obedience.h"
#include "control/patch/driver.h"

namespace sluice::controller {
namespace {

Expected<void> refuse_runs_that_go_on(store::Journal& journal) {
  const auto runs = journal.runs();
  if (!runs) return tl::unexpected<Error>(runs.error());
  for (const auto& id : *runs) {
    patch::Run run(id);
    if (auto replayed = patch::replay(journal, run); !replayed) return replayed;
    if (patch::is_final(run.state())) continue;
    return fail(ErrorKind::kInvalid,
                fmt::format("run {} ({}) of this journal has not ended: if the journal is the one "
                            "that was led with, start its controller and abort the run first; if "
                            "it is an older copy, what was done for the run since is not known: "
                            "move the copy away and begin with a new journal",
                            id, run.plan().name));
  }
  return {};
}

}  // namespace

Expected<std::vector<std::string>> adopt_agents(const Config& config,
                                                const security::Credentials& credentials,
                                                store::SqliteJournal& journal) {
  if (auto ended = refuse_runs_that_go_on(journal); !ended)
    return tl::unexpected<Error>(ended.error());
  const auto lease = journal.take_lease(config.name, wall_clock_ms(), LeaseTimes{}.length.count());
  if (!lease) return tl::unexpected<Error>(lease.error());
  std::vector<std::string> replaced;
  std::uint64_t epoch = *lease;
  std::vector<std::string> lines;
  const auto answers = ask_unnamed(config, credentials);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const std::string& host = config.hosts[i].name;
    if (!answers[i]) {
      lines.push_back(
          fmt::format("{} was not asked ({}): it obeys this journal too when it is "
                      "back, if it obeyed one that others here name",
                      host, answers[i].error().message));
      continue;
    }
    const std::string& other = answers[i]->controller_journal();
    epoch = std::max(epoch, answers[i]->controller_epoch());
    if (!other.empty()) replaced.push_back(other);
    lines.push_back(fmt::format("{} obeyed {}, epoch {}", host,
                                other.empty() ? "no journal that it knew by name" : other,
                                answers[i]->controller_epoch()));
  }
  const auto id = journal.replace(*lease, epoch, std::move(replaced));
  if (!id) return tl::unexpected<Error>(id.error());
  lines.push_back(
      fmt::format("the journal {} is {} from now on; start its controller, and these "
                  "hosts obey it and no other one",
                  config.journal, *id));
  return lines;
}

}  // namespace sluice::controller
