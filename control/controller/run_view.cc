#include "control/controller/run_view.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace sluice::controller {
namespace {

using Json = nlohmann::ordered_json;

std::string time_text(patch::TimeMs at_ms) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(static_cast<std::time_t>(at_ms / 1000)));
}

const char* state_of(const patch::Task& task) {
  if (task.outcome == nullptr) return "under way";
  return task.outcome->ok ? "done" : "failed";
}

// One line a decision; intents are told by their outcomes.
std::string line_of(const patch::Run& run, const patch::Record& record) {
  const auto reasoned = [](std::string text, const std::string& reason) {
    return reason.empty() ? text : text + ": " + reason;
  };
  if (const auto* step = std::get_if<patch::RunStep>(&record.body))
    return reasoned(fmt::format("run: {}", patch::to_string(step->event)), step->reason);
  if (const auto* step = std::get_if<patch::HostStep>(&record.body))
    return reasoned(fmt::format("{}: {}", step->host, patch::to_string(step->event)), step->reason);
  if (const auto* step = std::get_if<patch::RefillStep>(&record.body))
    return fmt::format("{}: refill to {} %", step->host, run.plan().refill_percent.at(step->step));
  if (const auto* outcome = std::get_if<patch::Outcome>(&record.body)) {
    const auto task = run.task(outcome->id);
    return reasoned(fmt::format("{}: {} {}", task.intent->host, task.intent->purpose,
                                outcome->ok ? "done" : "failed"),
                    outcome->detail.substr(0, outcome->detail.find('\n')));
  }
  return {};
}

// Why a host did not go well, and what was left behind there.
std::string remark_on(const patch::Run& run, const std::string& host, const patch::Facts& facts) {
  const std::string& failure = run.host(host).failure;
  const std::string left = run.left_over(host, facts);
  return failure.empty() || left.empty() ? failure + left : failure + "; " + left;
}

// What keeps a host where it is, if that is nothing that the run itself has begun.
std::string what_keeps(const patch::Run& run, const std::string& name, const patch::Facts& facts) {
  const patch::HostState state = run.host(name).state;
  if (state == patch::HostState::kPending || patch::is_final(state)) return {};
  const auto about = facts.hosts.find(name);
  if (about == facts.hosts.end() || !about->second.reachable) return "its agent does not answer";
  const auto open = run.open_intents();
  const bool acts = std::any_of(open.begin(), open.end(),
                                [&](const auto* intent) { return intent->host == name; });
  const bool moves = state == patch::HostState::kDraining || state == patch::HostState::kRedrain ||
                     state == patch::HostState::kRefill;
  if (acts || !moves) return {};
  std::string others;
  for (const auto* list : {&facts.moves_of_others, &facts.moves_by_hand}) {
    for (const patch::Move& move : *list)
      others += fmt::format("{}{} to {}", others.empty() ? "" : ", ", move.guest, move.to);
  }
  return others.empty() ? "" : "moves beside this run's are under way: " + others;
}

void add_hosts(const patch::Run& run, const patch::Facts& facts, std::string& text) {
  text += "\n| host | end | remark |\n|---|---|---|\n";
  for (const auto& name : run.plan().hosts) {
    const auto& host = run.host(name);
    text += fmt::format("| {} | {} | {} |\n", name, patch::to_string(host.state),
                        remark_on(run, name, facts));
  }
}

void add_moves(const patch::Run& run, std::string& text) {
  text +=
      "\n| guest | from | to | why | downtime ms | seconds | Gb/s | end |\n"
      "|---|---|---|---|---|---|---|---|\n";
  for (std::uint64_t id = 1; id <= run.intents(); ++id) {
    const auto task = run.task(id);
    if (task.intent->kind != patch::ActionKind::kMigrate) continue;
    const patch::Outcome none;
    const auto& end = task.outcome == nullptr ? none : *task.outcome;
    text += fmt::format("| {} | {} | {} | {} | {:.1f} | {:.2f} | {:.2f} | {} |\n",
                        task.intent->guest, task.intent->from, task.intent->to, task.intent->reason,
                        end.downtime_ms, end.seconds, end.goodput_gbps, state_of(task));
  }
}

}  // namespace

v1::RunStatus to_status(const patch::Run& run, const patch::Facts& facts,
                        const std::map<std::uint64_t, std::string>& waiting) {
  v1::RunStatus status;
  status.set_run(run.id());
  status.set_name(run.plan().name);
  status.set_state(std::string(patch::to_string(run.state())));
  status.set_reason(run.reason());
  status.set_drain_only(run.plan().drain_only);
  status.set_begun_ms(run.begun_ms());
  status.set_ended_ms(run.ended_ms());
  status.set_failures(run.failures());
  status.set_at_rest(run.at_rest(facts));
  for (const auto& name : run.plan().hosts) {
    const auto& host = run.host(name);
    auto& out = *status.add_hosts();
    out.set_host(name);
    out.set_state(std::string(patch::to_string(host.state)));
    out.set_since_ms(host.entered_ms);
    out.set_failure(remark_on(run, name, facts));
    out.set_waits_for(what_keeps(run, name, facts));
    if (host.baseline)
      out.set_guests_before(static_cast<std::uint32_t>(host.baseline->guests.size()));
    out.set_guests_now(static_cast<std::uint32_t>(
        std::count_if(facts.guests.begin(), facts.guests.end(),
                      [&](const auto& guest) { return guest.second.host == name; })));
  }
  for (std::uint64_t id = 1; id <= run.intents(); ++id) {
    const auto task = run.task(id);
    auto& out = *status.add_tasks();
    out.set_id(id);
    out.set_action(std::string(patch::to_string(task.intent->kind)));
    out.set_purpose(task.intent->purpose);
    out.set_host(task.intent->host);
    out.set_guest(task.intent->guest);
    out.set_from(task.intent->from);
    out.set_to(task.intent->to);
    out.set_state(state_of(task));
    out.set_attempt(task.intent->attempt);
    out.set_reason(task.intent->reason);
    if (task.outcome == nullptr) {
      if (const auto text = waiting.find(id); text != waiting.end()) out.set_detail(text->second);
      continue;
    }
    out.set_detail(task.outcome->detail);
    out.set_seconds(task.outcome->seconds);
    out.set_downtime_ms(task.outcome->downtime_ms);
    out.set_goodput_gbps(task.outcome->goodput_gbps);
  }
  return status;
}

v1::Report to_report(const patch::Run& run, const patch::Facts& facts,
                     const std::vector<patch::Record>& records) {
  std::string text =
      fmt::format("# {} ({})\n\n{}", run.plan().name, run.id(), patch::to_string(run.state()));
  if (!run.reason().empty()) text += ": " + run.reason();
  text += fmt::format("\n\nBegun {} UTC", time_text(run.begun_ms()));
  if (run.ended_ms() != 0) {
    text += fmt::format(", ended {} UTC, {:.0f} s", time_text(run.ended_ms()),
                        static_cast<double>(run.ended_ms() - run.begun_ms()) / 1000);
  }
  text += "\n";
  add_hosts(run, facts, text);
  add_moves(run, text);
  text += "\n## What was decided\n\n";
  Json json = {{"run", run.id()},
               {"name", run.plan().name},
               {"state", patch::to_string(run.state())},
               {"records", Json::array()}};
  for (const auto& record : records) {
    json["records"].push_back(Json::parse(patch::encode(record)));
    const std::string line = line_of(run, record);
    if (!line.empty()) text += fmt::format("- {} {}\n", time_text(record.at_ms), line);
  }
  v1::Report report;
  report.set_markdown(text);
  report.set_json(json.dump());
  return report;
}

}  // namespace sluice::controller
