#include "control/controller/report.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "control/controller/report_stages.h"
#include "control/controller/run_view.h"

namespace sluice::controller {
namespace {

using Json = nlohmann::ordered_json;
using patch::TimeMs;

// What became of a host.
struct HostStory {
  std::optional<TimeMs> drain_began_ms;
  bool drained = false;
  double drain_seconds = 0;  // of the first drain, until it was empty
};

// What the run cost a guest.
struct GuestStory {
  std::uint32_t moves = 0;
  std::uint32_t failed_moves = 0;
  double downtime_ms = 0;  // of all its moves together
  double downtime_ms_max = 0;
  std::optional<TimeMs> down_since_ms;
  double down_seconds = 0;  // shut down, all together
};

struct Story {
  std::map<std::string, HostStory> hosts;
  std::map<std::string, GuestStory> guests;
  std::vector<double> ratios;  // of each completed move: measured ÷ expected
};

std::string time_text(TimeMs at_ms) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(static_cast<std::time_t>(at_ms / 1000)));
}

double wall_seconds(const patch::Run& run) {
  return static_cast<double>(run.ended_ms() - run.begun_ms()) / 1000;
}

// "+8 %"; nothing where there is nothing to compare with.
std::string deviation(double measured, double expected) {
  if (expected <= 0) return {};
  return fmt::format("{:+.0f} %", (measured / expected - 1) * 100);
}

// In a table's cell.
std::string cell(const std::string& text) {
  std::string safe;
  for (const char letter : text) {
    if (letter == '|') safe += '\\';
    safe += letter == '\n' || letter == '\r' ? ' ' : letter;
  }
  return safe;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

const char* state_of(const patch::Task& task) {
  if (task.outcome == nullptr) return "under way";
  return task.outcome->ok ? "done" : "failed";
}

void tell(const patch::Task& task, TimeMs at_ms, Story& story) {
  const patch::Intent& intent = *task.intent;
  const patch::Outcome& outcome = *task.outcome;
  if (intent.kind == patch::ActionKind::kMigrate) {
    GuestStory& guest = story.guests[intent.guest];
    ++(outcome.ok ? guest.moves : guest.failed_moves);
    guest.downtime_ms += outcome.downtime_ms;
    guest.downtime_ms_max = std::max(guest.downtime_ms_max, outcome.downtime_ms);
    if (outcome.ok && outcome.seconds > 0 && intent.expected_seconds > 0)
      story.ratios.push_back(outcome.seconds / intent.expected_seconds);
  } else if (intent.purpose == "shutdown:" + intent.guest && outcome.ok) {
    story.guests[intent.guest].down_since_ms = at_ms;
  } else if ((intent.purpose == "start:" + intent.guest ||
              intent.purpose == "start-elsewhere:" + intent.guest) &&
             outcome.ok) {
    GuestStory& guest = story.guests[intent.guest];
    if (guest.down_since_ms)
      guest.down_seconds += static_cast<double>(at_ms - *guest.down_since_ms) / 1000;
    guest.down_since_ms.reset();
  }
}

Story story_of(const patch::Run& run, const std::vector<patch::Record>& records) {
  Story story;
  for (const auto& record : records) {
    if (const auto* outcome = std::get_if<patch::Outcome>(&record.body)) {
      tell(run.task(outcome->id), record.at_ms, story);
    } else if (const auto* step = std::get_if<patch::HostStep>(&record.body)) {
      HostStory& host = story.hosts[step->host];
      if (step->event == patch::HostEvent::kDrainStarted) host.drain_began_ms = record.at_ms;
      if (step->event == patch::HostEvent::kDrained && host.drain_began_ms && !host.drained) {
        host.drained = true;
        host.drain_seconds = static_cast<double>(record.at_ms - *host.drain_began_ms) / 1000;
      }
    }
  }
  return story;
}

// ---- Markdown ----

// One line a decision, and one for what became of it.
std::string line_of(const patch::Run& run, const patch::Record& record) {
  const auto with = [](const std::string& text, const std::string& more, const char* joint) {
    return more.empty() ? text : text + joint + first_line(more);
  };
  if (const auto* created = std::get_if<patch::Created>(&record.body))
    return with("run: asked for", created->by, " by ");
  if (const auto* step = std::get_if<patch::RunStep>(&record.body)) {
    const auto event =
        with(fmt::format("run: {}", patch::to_string(step->event)), step->by, " by ");
    return with(event, step->reason, ": ");
  }
  if (const auto* step = std::get_if<patch::HostStep>(&record.body)) {
    return with(fmt::format("{}: {}", step->host, patch::to_string(step->event)), step->reason,
                ": ");
  }
  if (const auto* step = std::get_if<patch::RefillStep>(&record.body)) {
    const auto& percent = run.plan().refill_percent;
    return run.unreadable().empty() && step->step < percent.size()
               ? fmt::format("{}: refill to {} %", step->host, percent[step->step])
               : fmt::format("{}: refill, step {}", step->host, step->step + 1);
  }
  if (const auto* mark = std::get_if<patch::MarkStep>(&record.body))
    return fmt::format("{}: {}", mark->host, patch::to_string(mark->mark));
  if (const auto* intent = std::get_if<patch::Intent>(&record.body)) {
    std::string text = fmt::format("{}: {} begins", intent->host, intent->purpose);
    if (intent->kind == patch::ActionKind::kMigrate)
      text += fmt::format(", {} -> {}", intent->from, intent->to);
    if (intent->attempt > 1) text += fmt::format(", attempt {}", intent->attempt);
    return with(text, intent->reason, ": ");
  }
  if (const auto* outcome = std::get_if<patch::Outcome>(&record.body)) {
    const auto task = run.task(outcome->id);
    const bool failed_hook = task.intent->kind == patch::ActionKind::kHook && !outcome->ok;
    return with(fmt::format("{}: {} {}", task.intent->host, task.intent->purpose,
                            outcome->ok ? "done" : "failed"),
                failed_hook ? patch::failure_line(outcome->detail) : outcome->detail, ": ");
  }
  return {};
}

void add_head(const patch::Run& run, std::string& text) {
  text += fmt::format("# {} ({})\n\n{}", run.plan().name, run.id(), patch::to_string(run.state()));
  if (!run.reason().empty()) text += ": " + run.reason();
  if (!run.unreadable().empty()) text += "\n\n" + run.unreadable();
  text += fmt::format("\n\nBegun {} UTC", time_text(run.begun_ms()));
  if (!run.begun_by().empty()) text += " by " + run.begun_by();
  if (run.ended_ms() != 0) {
    text += fmt::format(", ended {} UTC, {:.0f} s", time_text(run.ended_ms()), wall_seconds(run));
  }
  text += "\n";
}

// "4.0 (3.0 to 6.0)"
std::string estimate_text(const patch::Estimate& expected) {
  return fmt::format("{:.1f} ({:.1f} to {:.1f})", expected.seconds, expected.low_seconds,
                     expected.high_seconds);
}

void add_hosts(const patch::Run& run, const patch::Facts& facts, const Story& story,
               std::string& text) {
  text +=
      "\n| host | end | emptied in s | expected | deviation | lower bound | remark |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const auto& name : run.plan().hosts) {
    const auto& host = run.host(name);
    const auto told = story.hosts.find(name);
    const HostStory none;
    const HostStory& drain = told == story.hosts.end() ? none : told->second;
    const auto found = run.estimates().find(name);
    const bool expected = found != run.estimates().end();
    text += fmt::format(
        "| {} | {} | {} | {} | {} | {} | {} |\n", name, patch::to_string(host.state),
        drain.drained ? fmt::format("{:.1f}", drain.drain_seconds) : "",
        expected ? estimate_text(found->second) : "",
        expected && drain.drained ? deviation(drain.drain_seconds, found->second.seconds) : "",
        expected ? fmt::format("{:.1f}", found->second.bound_seconds) : "",
        cell(remark_on(run, name, facts)));
  }
}

void add_stages(const std::vector<StageSum>& stages, std::string& text) {
  text +=
      "\nSums over the hosts that have gone through each stage.\n\n"
      "| stage | hosts | measured in s | expected | deviation | lower bound |\n"
      "|---|---|---|---|---|---|\n";
  std::vector<StageSum> rows = stages;
  rows.push_back(sum_of_expected(stages));
  for (const StageSum& row : rows) {
    text += fmt::format("| {} | {} | {:.1f} | {} | {} | {} |\n", row.name, row.hosts,
                        row.measured_seconds, row.expected ? estimate_text(*row.expected) : "",
                        row.expected ? deviation(row.measured_seconds, row.expected->seconds) : "",
                        row.expected ? fmt::format("{:.1f}", row.expected->bound_seconds) : "");
  }
}

void add_whole(const patch::Run& run, std::string& text) {
  if (!run.whole()) return;
  text += "\nFrom its beginning to its end";
  if (run.ended_ms() != 0) text += fmt::format(" {:.1f} s", wall_seconds(run));
  text += fmt::format(", expected {} s, lower bound {:.1f} s", estimate_text(*run.whole()),
                      run.whole()->bound_seconds);
  if (run.ended_ms() != 0) text += ": " + deviation(wall_seconds(run), run.whole()->seconds);
  text += ".\n";
}

void add_guests(const Story& story, std::string& text) {
  text +=
      "\n| guest | moves | failed moves | downtime ms in all | longest | shut down for s |\n"
      "|---|---|---|---|---|---|\n";
  for (const auto& [name, guest] : story.guests) {
    text += fmt::format(
        "| {} | {} | {} | {:.1f} | {:.1f} | {} |\n", name, guest.moves, guest.failed_moves,
        guest.downtime_ms, guest.downtime_ms_max,
        guest.down_since_ms
            ? fmt::format("since {} UTC", time_text(*guest.down_since_ms))
            : (guest.down_seconds > 0 ? fmt::format("{:.0f}", guest.down_seconds) : ""));
  }
}

void add_moves(const patch::Run& run, std::string& text) {
  text +=
      "\n| guest | from | to | why | downtime ms | seconds | expected | deviation | Gb/s | end |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n";
  for (std::uint64_t id = 1; id <= run.intents(); ++id) {
    const auto task = run.task(id);
    if (task.intent->kind != patch::ActionKind::kMigrate) continue;
    const patch::Outcome none;
    const auto& end = task.outcome == nullptr ? none : *task.outcome;
    const double expected = task.intent->expected_seconds;
    text += fmt::format(
        "| {} | {} | {} | {} | {:.1f} | {:.2f} | {} | {} | {:.2f} | {} |\n", task.intent->guest,
        task.intent->from, task.intent->to, cell(task.intent->reason), end.downtime_ms, end.seconds,
        expected > 0 ? fmt::format("{:.2f}", expected) : "",
        end.ok ? deviation(end.seconds, expected) : "", end.goodput_gbps, state_of(task));
  }
}

// Of the absolute deviations of the moves, those that half and nine of ten stay below.
struct Spread {
  double median = 0;
  double p90 = 0;
};

std::optional<Spread> spread_of(const std::vector<double>& ratios) {
  if (ratios.empty()) return std::nullopt;
  std::vector<double> errors;
  errors.reserve(ratios.size());
  for (const double ratio : ratios) errors.push_back(std::abs(ratio - 1));
  std::sort(errors.begin(), errors.end());
  const auto at = [&](double share) {
    const auto index =
        static_cast<std::size_t>(std::ceil(share * static_cast<double>(errors.size())) - 1);
    return errors[std::min(index, errors.size() - 1)];
  };
  return Spread{at(0.5), at(0.9)};
}

void add_spread(const Story& story, std::string& text) {
  const auto spread = spread_of(story.ratios);
  if (!spread) return;
  text += fmt::format(
      "\n{} moves against what was expected of them: half were within {:.0f} %, nine of ten within "
      "{:.0f} %.\n",
      story.ratios.size(), spread->median * 100, spread->p90 * 100);
}

// ---- JSON ----

void add_estimate(const patch::Estimate& expected, Json& entry) {
  entry["estimate_s"] = expected.seconds;
  entry["estimate_low_s"] = expected.low_seconds;
  entry["estimate_high_s"] = expected.high_seconds;
  entry["bound_s"] = expected.bound_seconds;
}

Json json_of_hosts(const patch::Run& run, const patch::Facts& facts, const Story& story) {
  Json hosts = Json::array();
  for (const auto& name : run.plan().hosts) {
    const auto& host = run.host(name);
    Json entry = {{"host", name},
                  {"state", patch::to_string(host.state)},
                  {"failure", remark_on(run, name, facts)}};
    if (const auto told = story.hosts.find(name); told != story.hosts.end() && told->second.drained)
      entry["drain_s"] = told->second.drain_seconds;
    if (const auto found = run.estimates().find(name); found != run.estimates().end())
      add_estimate(found->second, entry);
    hosts.push_back(std::move(entry));
  }
  return hosts;
}

Json json_of_stages(const std::vector<StageSum>& stages) {
  Json document = Json::array();
  for (const StageSum& stage : stages) {
    Json entry = {
        {"stage", stage.name}, {"hosts", stage.hosts}, {"measured_s", stage.measured_seconds}};
    if (stage.expected) add_estimate(*stage.expected, entry);
    document.push_back(std::move(entry));
  }
  return document;
}

Json json_of_guests(const Story& story) {
  Json guests = Json::array();
  for (const auto& [name, guest] : story.guests) {
    Json entry = {{"guest", name},
                  {"moves", guest.moves},
                  {"failed_moves", guest.failed_moves},
                  {"downtime_ms", guest.downtime_ms},
                  {"downtime_ms_max", guest.downtime_ms_max},
                  {"down_s", guest.down_seconds}};
    if (guest.down_since_ms) entry["down_since_ms"] = *guest.down_since_ms;
    guests.push_back(std::move(entry));
  }
  return guests;
}

Json json_of(const patch::Run& run, const patch::Facts& facts,
             const std::vector<patch::Record>& records, const Story& story) {
  Json json = {{"run", run.id()},
               {"name", run.plan().name},
               {"state", patch::to_string(run.state())},
               {"reason", run.reason()},
               {"begun_by", run.begun_by()},
               {"begun_ms", run.begun_ms()},
               {"ended_ms", run.ended_ms()},
               {"hosts", json_of_hosts(run, facts, story)},
               {"guests", json_of_guests(story)}};
  if (const auto spread = spread_of(story.ratios)) {
    json["deviation"] = {
        {"moves", story.ratios.size()}, {"median", spread->median}, {"p90", spread->p90}};
  }
  if (run.whole()) {
    Json whole = Json::object();
    if (run.ended_ms() != 0) whole["measured_s"] = wall_seconds(run);
    add_estimate(*run.whole(), whole);
    json["whole"] = std::move(whole);
  }
  json["stages"] = json_of_stages(stages_of(run, records));
  json["records"] = Json::array();
  for (const auto& record : records) json["records"].push_back(Json::parse(patch::encode(record)));
  return json;
}

}  // namespace

v1::Report make_report(const patch::Run& run, const patch::Facts& facts,
                       const std::vector<patch::Record>& records) {
  const Story story = story_of(run, records);
  std::string text;
  add_head(run, text);
  const auto stages = stages_of(run, records);
  if (!stages.empty() || run.whole()) text += "\n## The whole run\n";
  add_whole(run, text);
  if (!stages.empty()) add_stages(stages, text);
  text += "\n## Hosts\n";
  add_hosts(run, facts, story, text);
  text += "\n## Guests\n";
  add_guests(story, text);
  text += "\n## Moves\n";
  add_moves(run, text);
  add_spread(story, text);
  text += "\n## What was decided\n\n";
  for (const auto& record : records) {
    const std::string line = line_of(run, record);
    if (!line.empty()) text += fmt::format("- {} {}\n", time_text(record.at_ms), line);
  }
  v1::Report report;
  report.set_markdown(text);
  report.set_json(json_of(run, facts, records, story).dump());
  return report;
}

}  // namespace sluice::controller
