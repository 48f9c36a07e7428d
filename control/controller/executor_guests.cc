// What the executor does to guests that stand still: it starts and ends them.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

#include "control/controller/executor.h"
#include "drivers/guest/definition.h"

namespace sluice::controller {
namespace {

using patch::Intent;
using patch::Outcome;

// It has never answered.
bool is_unknown(const HostView& view) { return view.info.name().empty(); }

// If only as a twin.
bool lists(const HostView& view, const std::string& guest) {
  return std::any_of(view.guests.begin(), view.guests.end(),
                     [&](const v1::GuestInfo& info) { return info.name() == guest; });
}

Expected<std::string> done(const Expected<v1::GuestInfo>& answer) {
  if (!answer) return tl::unexpected<Error>(answer.error());
  return "";
}

// A canary takes its plan's definition under a name of its own.
Expected<std::string> rename(const std::string& definition, const std::string& name) {
  auto parsed = guest::parse_definition(definition, "guest " + name);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  parsed->name = name;
  return guest::to_toml(*parsed);
}

}  // namespace

Outcome Executor::bring_about(
    const Task& task, const std::string& host,
    const std::function<Expected<std::string>(client::AgentClient& agent)>& ask,
    bool (*is_so)(const GuestState& state), const std::stop_token& stop) {
  const auto asked = agent(host);
  if (!asked) return failed(task, asked.error());
  const auto done = insist(
      task,
      [&]() -> Expected<std::string> {
        auto answer = ask(**asked);
        inventory_.refresh({host});
        if (answer) return answer;
        if (is_so(state_at(host, task.intent.guest))) return "it was so already";
        return answer;
      },
      stop);
  if (!done) return failed(task, done.error());
  return {task.intent.id, true, *done};
}

// Somebody may have started it where no controller looked: it must not run twice.
Expected<std::string> Executor::found_elsewhere(const Task& task, const std::string& target) {
  const Intent& intent = task.intent;
  refresh_all();
  std::vector<std::string> doubts;
  for (const auto& [host, view] : inventory_.hosts()) {
    if (host == target) continue;
    const auto state = state_in(view, intent.guest);
    if (runs(state) || state == "moving") return fmt::format("it runs on {} by now", host);
    // Since this controller has looked nobody has; and the host that it was shut down on is the
    // run's to judge, which knows what became of that.
    const bool is_suspect = state ? !is_absent(state)
                                  : lists(view, intent.guest) ||
                                        (is_unknown(view) && task.again && host != intent.host);
    if (is_suspect) doubts.push_back(say(host, state));
  }
  if (doubts.empty()) return "";
  return fail(ErrorKind::kBusy,
              fmt::format("where {} runs is not known: {}", intent.guest, fmt::join(doubts, ", ")));
}

Outcome Executor::start_guest(const Task& task, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  const auto definition = rename(task.definition, intent.guest);
  if (!definition) return failed(task, definition.error());
  const std::string& host = intent.to.empty() ? intent.host : intent.to;
  const auto start = [&](client::AgentClient& agent) -> Expected<std::string> {
    // A canary is this run's own.
    if (!task.of_canary) {
      auto elsewhere = found_elsewhere(task, host);
      if (!elsewhere || !elsewhere->empty()) return elsewhere;
    }
    return done(agent.start_guest(*definition, "guest " + intent.guest));
  };
  return bring_about(task, host, start, runs, stop);
}

Outcome Executor::stop_guest(const Task& task, const std::stop_token& stop) {
  const Intent& intent = task.intent;
  refresh_all();
  const auto hosts = inventory_.hosts();
  const auto placed = place_guests(hosts);
  const auto found = placed.find(intent.guest);
  if (found == placed.end()) {
    const auto where_unknown = [&](const std::string& why) {
      return Outcome{intent.id, false,
                     fmt::format("where {} runs is not known: {}", intent.guest, why)};
    };
    if (const auto own = agent(intent.host); !own) return where_unknown(own.error().message);
    const auto silent = std::find_if(hosts.begin(), hosts.end(), [&](const auto& host) {
      const HostView& view = host.second;
      return !view.reachable && (is_unknown(view) || lists(view, intent.guest));
    });
    if (silent == hosts.end()) return {intent.id, true, "it is not there"};
    return where_unknown(silent->first + " does not answer");
  }
  const std::string& host = found->second.host();
  // Somebody started or moved it while nobody was looking: that is theirs to stop.
  if (host != intent.host && !task.of_canary)
    return {intent.id, false, fmt::format("{} is on {} by now", intent.guest, host)};
  if (found->second.state() == "forgotten") {
    Outcome outcome{intent.id, false,
                    fmt::format("where {} runs is not known: {}", intent.guest,
                                say(host, found->second.state()))};
    outcome.unsettled = !task.of_canary;
    return outcome;
  }
  const auto end = [&](client::AgentClient& agent) { return done(agent.stop_guest(intent.guest)); };
  return bring_about(task, host, end, is_absent, stop);
}

}  // namespace sluice::controller
