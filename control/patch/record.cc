#include "control/patch/record.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sstream>

#include "control/planner/model.h"

namespace sluice::patch {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, static_cast<std::size_t>(ActionKind::kCount)> kActionNames =
    {"", "migrate", "hook", "reboot", "start-guest", "stop-guest", "check-paths"};
constexpr std::array<std::string_view, static_cast<std::size_t>(Mark::kCount)> kMarkNames = {
    "", "cordon", "uncordon", "quarantine", "mended"};

// Decoding throws std::invalid_argument or Json::exception; decode() turns both into an Error.
[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

// To convert a fraction, or what does not fit in 64 bits, would be undefined. What does not fit in
// `Number` shows when the record is written again.
template <typename Number>
Number whole(const Json& value) {
  if (!value.is_number_integer()) refuse(value.dump() + " is no whole number");
  return value.get<Number>();
}

template <typename Value, std::size_t N>
Value value_of(const std::array<std::string_view, N>& names, const std::string& text) {
  for (std::size_t i = 1; i < N; ++i) {
    if (names.at(i) == text) return static_cast<Value>(i);
  }
  refuse("\"" + text + "\" is not known");
}

Json to_json(const Estimate& estimate) {
  return {{"seconds", estimate.seconds},
          {"low", estimate.low_seconds},
          {"high", estimate.high_seconds},
          {"bound", estimate.bound_seconds}};
}
Json to_json(const Created& created) {
  Json json = {{"type", "created"}, {"plan", created.plan_toml}};
  if (!created.by.empty()) json["by"] = created.by;
  if (!created.resolution.waves.empty()) json["waves"] = created.resolution.waves;
  if (!created.resolution.zone_rule.empty()) json["zone"] = created.resolution.zone_rule;
  for (const auto& [host, estimate] : created.estimates)
    json["estimates"][host] = to_json(estimate);
  if (created.whole) json["whole"] = to_json(*created.whole);
  return json;
}
Json to_json(const RunStep& step) {
  Json json = {{"type", "run"}, {"event", to_string(step.event)}, {"reason", step.reason}};
  if (!step.by.empty()) json["by"] = step.by;
  return json;
}
Json to_json(const HostStep& step) {
  return {{"type", "host"},
          {"host", step.host},
          {"event", to_string(step.event)},
          {"reason", step.reason}};
}
Json to_json(const Baseline& baseline) {
  Json json = {{"type", "baseline"},          {"host", baseline.host},
               {"boot_id", baseline.boot_id}, {"version", baseline.version},
               {"kernel", baseline.kernel},   {"guests", baseline.guests}};
  if (baseline.link_bits_per_second != 0) json["link"] = baseline.link_bits_per_second;
  if (baseline.cpu_level != 0) json["cpu_level"] = baseline.cpu_level;
  if (baseline.waited_share) json["waited_share"] = *baseline.waited_share;
  if (baseline.qemu_series != 0) json["qemu"] = planner::qemu_series_text(baseline.qemu_series);
  return json;
}
Json to_json(const Intent& intent) {
  Json json = {
      {"type", "intent"},          {"id", intent.id},     {"action", to_string(intent.kind)},
      {"purpose", intent.purpose}, {"host", intent.host}, {"attempt", intent.attempt},
      {"reason", intent.reason}};
  if (!intent.guest.empty()) json["guest"] = intent.guest;
  if (intent.kind == ActionKind::kMigrate) {
    json["from"] = intent.from;
    json["to"] = intent.to;
    json["live"] = intent.live;
  }
  if (intent.kind == ActionKind::kStartGuest && !intent.to.empty()) json["to"] = intent.to;
  if (intent.kind == ActionKind::kHook) {
    json["hook"] = {{"name", intent.hook.name},
                    {"on_controller", intent.hook.on_controller},
                    {"timeout_s", intent.hook.timeout_s},
                    {"idempotent", intent.hook.idempotent}};
  }
  if (intent.kind == ActionKind::kReboot || !intent.boot_id.empty())
    json["boot_id"] = intent.boot_id;
  if (!intent.definition.empty()) json["definition"] = intent.definition;
  if (intent.cpu_level != 0) json["cpu_level"] = intent.cpu_level;
  if (intent.cpu_level_from_host) json["cpu_level_from_host"] = true;
  if (intent.expected_seconds != 0) json["expected_s"] = intent.expected_seconds;
  return json;
}
Json to_json(const Outcome& outcome) {
  Json json = {{"type", "outcome"},
               {"id", outcome.id},
               {"ok", outcome.ok},
               {"detail", outcome.detail},
               {"seconds", outcome.seconds},
               {"downtime_ms", outcome.downtime_ms},
               {"goodput_gbps", outcome.goodput_gbps}};
  if (outcome.unsettled) json["unsettled"] = true;
  if (outcome.lost_share != 0) json["lost_share"] = outcome.lost_share;
  if (outcome.not_begun) json["not_begun"] = true;
  if (outcome.unheard) json["unheard"] = true;
  return json;
}
Json to_json(const MarkStep& step) {
  Json json = {{"type", "mark"}, {"host", step.host}, {"mark", to_string(step.mark)}};
  if (!step.by.empty()) json["by"] = step.by;
  return json;
}
Json to_json(const RefillStep& step) {
  return {{"type", "refill"}, {"host", step.host}, {"step", step.step}};
}

RunStep run_step(const Json& json) {
  const auto event = parse_run_event(json.at("event").get<std::string>());
  if (!event) refuse("the run's event is not known");
  return {*event, json.at("reason"), json.value("by", "")};
}

Estimate estimate_of(const Json& json) {
  return {json.at("seconds"), json.at("low"), json.at("high"), json.at("bound")};
}

Created created(const Json& json) {
  Created created;
  created.plan_toml = json.at("plan");
  created.by = json.value("by", "");
  if (json.contains("waves"))
    created.resolution.waves = json["waves"].get<std::vector<std::vector<std::string>>>();
  created.resolution.zone_rule = json.value("zone", "");
  if (json.contains("whole")) created.whole = estimate_of(json["whole"]);
  if (!json.contains("estimates")) return created;
  for (const auto& [host, estimate] : json["estimates"].items())
    created.estimates[host] = estimate_of(estimate);
  return created;
}

HostStep host_step(const Json& json) {
  const auto event = parse_host_event(json.at("event").get<std::string>());
  if (!event) refuse("the host's event is not known");
  return {json.at("host"), *event, json.at("reason")};
}

Baseline baseline_of(const Json& json) {
  Baseline baseline{json.at("host"), json.at("boot_id"), json.at("version"), json.at("kernel"),
                    json.at("guests")};
  if (json.contains("link")) baseline.link_bits_per_second = whole<std::uint64_t>(json.at("link"));
  if (json.contains("cpu_level")) baseline.cpu_level = whole<std::uint32_t>(json.at("cpu_level"));
  if (json.contains("waited_share")) baseline.waited_share = json.at("waited_share").get<double>();
  if (json.contains("qemu")) {
    const auto series = planner::parse_qemu_series(json.at("qemu").get<std::string>());
    if (!series) refuse("the host's QEMU is not known");
    baseline.qemu_series = *series;
  }
  return baseline;
}

Intent intent_of(const Json& json) {
  Intent intent;
  intent.id = whole<std::uint64_t>(json.at("id"));
  intent.kind = value_of<ActionKind>(kActionNames, json.at("action"));
  intent.purpose = json.at("purpose");
  intent.host = json.at("host");
  intent.attempt = whole<std::uint32_t>(json.at("attempt"));
  intent.reason = json.at("reason");
  intent.guest = json.value("guest", "");
  intent.definition = json.value("definition", "");
  if (json.contains("cpu_level")) intent.cpu_level = whole<std::uint32_t>(json.at("cpu_level"));
  intent.cpu_level_from_host = json.value("cpu_level_from_host", false);
  intent.expected_seconds = json.value("expected_s", 0.0);
  if (intent.kind == ActionKind::kMigrate) {
    intent.from = json.at("from");
    intent.to = json.at("to");
    intent.live = json.at("live");
  }
  if (intent.kind == ActionKind::kStartGuest) intent.to = json.value("to", "");
  if (intent.kind == ActionKind::kHook) {
    const Json& hook = json.at("hook");
    intent.hook = {hook.at("name"), hook.at("on_controller"),
                   whole<std::uint32_t>(hook.at("timeout_s")), hook.at("idempotent")};
  }
  intent.boot_id = intent.kind == ActionKind::kReboot ? json.at("boot_id").get<std::string>()
                                                      : json.value("boot_id", "");
  return intent;
}

// Earlier versions wrote what agents said, also where that was no number, for which JSON has null.
void mend(Json& json) {
  for (const char* name : {"seconds", "downtime_ms", "goodput_gbps"}) {
    if (json.contains(name) && json[name].is_null()) json[name] = 0.0;
  }
  if (json.contains("waited_share") && json["waited_share"].is_null()) json.erase("waited_share");
}

void read_body(const Json& json, Record& record) {
  const std::string type = json.at("type");
  if (type == "created") {
    record.body = created(json);
  } else if (type == "run") {
    record.body = run_step(json);
  } else if (type == "host") {
    record.body = host_step(json);
  } else if (type == "baseline") {
    record.body = baseline_of(json);
  } else if (type == "intent") {
    record.body = intent_of(json);
  } else if (type == "outcome") {
    record.body = Outcome{whole<std::uint64_t>(json.at("id")),
                          json.at("ok"),
                          json.at("detail"),
                          json.at("seconds"),
                          json.at("downtime_ms"),
                          json.at("goodput_gbps"),
                          json.value("unsettled", false),
                          json.value("lost_share", 0.0),
                          json.value("not_begun", false),
                          json.value("unheard", false)};
  } else if (type == "mark") {
    record.body = MarkStep{json.at("host"), value_of<Mark>(kMarkNames, json.at("mark")),
                           json.value("by", "")};
  } else if (type == "refill") {
    record.body = RefillStep{json.at("host"), whole<std::uint32_t>(json.at("step"))};
  } else {
    refuse("the type \"" + type + "\" is not known");
  }
}

}  // namespace

std::string failure_line(const std::string& detail) {
  constexpr std::size_t kBytesMax = 400;
  std::vector<std::string> lines;
  std::istringstream text(detail);
  for (std::string line; std::getline(text, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (!line.empty()) lines.push_back(line);
  }
  if (lines.empty()) return "it printed nothing";
  std::string failure = lines.front();
  if (lines.size() > 1) {
    // The hook runner's "exit status 3: " stands before the first line.
    if (failure.starts_with("exit status "))
      failure.erase(std::min(failure.find(':'), failure.size()));
    failure += ": " + lines.back();
  }
  if (failure.ends_with(':')) failure.pop_back();
  if (failure.size() <= kBytesMax) return failure;
  std::size_t end = kBytesMax;
  while ((static_cast<unsigned char>(failure[end]) & 0xc0) == 0x80) --end;
  return failure.substr(0, end) + " …";
}

std::string encode(const Record& record) {
  Json json = std::visit([](const auto& body) { return to_json(body); }, record.body);
  json["at_ms"] = record.at_ms;
  // Hooks print what they like.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Expected<Record> decode(const std::string& text) {
  try {
    Json json = Json::parse(text);
    mend(json);
    Record record;
    record.at_ms = whole<TimeMs>(json.at("at_ms"));
    read_body(json, record);
    // Conversions made something of numbers that are out of range, and nothing of unknown keys.
    if (encode(record) != json.dump()) refuse("it is not what would be written");
    return record;
  } catch (const std::exception& failure) {
    return fail(
        ErrorKind::kInvalid,
        fmt::format("a journal record cannot be read, a later version of Sluice may have written "
                    "it and reads it: {}: {}",
                    failure.what(), text.substr(0, 200)));
  }
}

std::string_view to_string(ActionKind kind) {
  return kActionNames.at(static_cast<std::size_t>(kind));
}

std::string_view to_string(Mark mark) { return kMarkNames.at(static_cast<std::size_t>(mark)); }

}  // namespace sluice::patch
