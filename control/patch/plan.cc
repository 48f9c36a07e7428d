#include "control/patch/plan.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>
#include <string_view>

#include "control/model/table_reader.h"
#include "control/planner/model.h"

namespace sluice::patch {
namespace {

using model::TableReader;

constexpr TimeMs kMinuteMs = 60'000;
constexpr TimeMs kDayMs = 1440 * kMinuteMs;
constexpr std::array<std::string_view, 7> kWeekdays = {"mon", "tue", "wed", "thu",
                                                       "fri", "sat", "sun"};

// "20:30" as minutes of the day; "24:00" is its end.
std::optional<std::uint32_t> parse_minute(std::string_view text) {
  const auto digit = [&](std::size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  if (text.size() != 5 || text[2] != ':' || !digit(0) || !digit(1) || !digit(3) || !digit(4))
    return std::nullopt;
  const auto value = [&](std::size_t i) { return static_cast<std::uint32_t>(text[i] - '0'); };
  const std::uint32_t hour = value(0) * 10 + value(1);
  const std::uint32_t minute = value(3) * 10 + value(4);
  if (minute > 59 || hour * 60 + minute > 1440) return std::nullopt;
  return hour * 60 + minute;
}

void read_time(TableReader& reader, std::string_view key, std::optional<TimeMs>& out) {
  const toml::node* node = reader.table().get(key);
  if (node == nullptr) return;
  const auto value = node->value_exact<toml::date_time>();
  if (!value || !value->offset) {
    reader.complain(node->source(), fmt::format("{} must be a date and time with its offset, such "
                                                "as 2026-11-22T20:00:00Z",
                                                key));
    return;
  }
  const std::chrono::year_month_day date{std::chrono::year{value->date.year},
                                         std::chrono::month{value->date.month},
                                         std::chrono::day{value->date.day}};
  const auto days = std::chrono::sys_days{date}.time_since_epoch().count();
  out = days * kDayMs +
        (value->time.hour * 60 + value->time.minute - value->offset->minutes) * kMinuteMs +
        value->time.second * 1000;
}

void read_window(TableReader& reader, Window& window) {
  reader.refuse_unknown({"days", "from", "to", "timezone", "not_before", "not_after"});
  if (reader.table().contains("days")) window.weekdays = 0;
  reader.array("days", reader.table().contains("days"), [&](const toml::node& node) {
    const auto name = node.value_exact<std::string>().value_or("");
    const auto* const day = std::find(kWeekdays.begin(), kWeekdays.end(), name);
    if (day == kWeekdays.end()) {
      reader.complain(node.source(), "window.days must hold mon, tue, wed, thu, fri, sat or sun");
    } else {
      window.weekdays |= static_cast<std::uint8_t>(1U << (day - kWeekdays.begin()));
    }
  });
  reader.text("timezone", window.zone_name);
  reader.parsed("from", window.from_minute, "a time of day as in \"20:00\"", parse_minute);
  reader.parsed("to", window.to_minute, "a time of day as in \"06:00\"", parse_minute);
  read_time(reader, "not_before", window.not_before_ms);
  read_time(reader, "not_after", window.not_after_ms);
  if (window.not_before_ms && window.not_after_ms && *window.not_before_ms > *window.not_after_ms)
    reader.refuse(reader.table().source(), "window.not_after is before window.not_before");
}

void read_hook(TableReader& hooks, std::string_view key, std::optional<Hook>& out) {
  const toml::node* node = hooks.table().get(key);
  if (node == nullptr) return;
  Hook hook;
  if (const auto name = node->value_exact<std::string>()) {
    hook.name = *name;
  } else {
    hooks.subtable(key, [&](TableReader& reader) {
      reader.refuse_unknown({"name", "on", "timeout_s", "idempotent"});
      reader.text("name", hook.name, true);
      reader.parsed("on", hook.on_controller, "\"host\" or \"controller\"",
                    [](std::string_view text) -> std::optional<bool> {
                      if (text == "host") return false;
                      if (text == "controller") return true;
                      return std::nullopt;
                    });
      reader.integer("timeout_s", hook.timeout_s, 1, 86'400);
      reader.boolean("idempotent", hook.idempotent);
    });
  }
  // It becomes a file's name.
  if (hook.name.empty() || hook.name.front() == '.' || hook.name.find('/') != std::string::npos) {
    hooks.complain(
        node->source(),
        fmt::format("hooks.{} must name a file in the hook directory, not \"{}\"", key, hook.name));
  }
  out = hook;
}

void read_hooks(TableReader& reader, Plan& plan) {
  reader.refuse_unknown({"silence", "before", "guest_before", "patch", "after", "canary_check",
                         "guest_after", "rollback", "version", "unsilence"});
  read_hook(reader, "silence", plan.silence);
  read_hook(reader, "before", plan.before);
  read_hook(reader, "guest_before", plan.guest_before);
  read_hook(reader, "patch", plan.patch);
  read_hook(reader, "after", plan.after);
  read_hook(reader, "canary_check", plan.canary_check);
  read_hook(reader, "guest_after", plan.guest_after);
  read_hook(reader, "rollback", plan.rollback);
  read_hook(reader, "version", plan.version);
  read_hook(reader, "unsilence", plan.unsilence);
}

// The hosts that stand in the list `node`; each only once in the plan.
void read_names(TableReader& reader, std::string_view key, const toml::node& node,
                std::set<std::string>& seen, std::vector<std::string>& out) {
  const auto name = node.value_exact<std::string>().value_or("");
  if (name.empty()) {
    reader.complain(node.source(), fmt::format("{} must hold names of hosts", key));
  } else if (!seen.insert(name).second) {
    reader.complain(node.source(), fmt::format("{} names {} twice", key, name));
  } else {
    out.push_back(name);
  }
}

void read_waves(TableReader& reader, Plan& plan) {
  std::set<std::string> seen;
  reader.array("waves", true, [&](const toml::node& wave) {
    const auto* names = wave.as_array();
    if (names == nullptr || names->empty()) {
      return reader.complain(wave.source(),
                             "waves must hold lists of hosts: [[\"h1\"], [\"h2\", \"h3\"]]");
    }
    const std::size_t before = plan.hosts.size();
    for (const auto& name : *names) read_names(reader, "waves", name, seen, plan.hosts);
    plan.waves.push_back(plan.hosts.size() - before);
  });
}

void read_labels(TableReader& reader, Selector& selector) {
  const auto take = [&](const std::string& key, const toml::node& value) {
    const auto text = value.value_exact<std::string>().value_or("");
    if (text.empty()) {
      reader.complain(value.source(),
                      fmt::format("labels.{} must be a text, or a list of texts", key));
    }
    selector.labels[key].push_back(text);
  };
  for (const auto& [name, node] : reader.table()) {
    const std::string key(name.str());
    if (node.is_array()) {
      reader.array(key, true, [&](const toml::node& value) { take(key, value); });
    } else {
      take(key, node);
    }
  }
  if (selector.labels.empty())
    reader.complain(reader.table().source(), "labels must name at least one label");
}

// Hosts by name, in waves or by labels: one of them.
void read_hosts(TableReader& reader, Plan& plan) {
  const toml::table& table = reader.table();
  const int ways = static_cast<int>(table.contains("hosts")) +
                   static_cast<int>(table.contains("waves")) +
                   static_cast<int>(table.contains("labels"));
  if (ways != 1) {
    return reader.complain(table.source(), ways == 0
                                               ? "hosts, waves or labels is missing: which hosts"
                                               : "hosts, waves and labels exclude each other");
  }
  std::set<std::string> seen;
  if (table.contains("hosts")) {
    reader.array("hosts", true, [&](const toml::node& node) {
      read_names(reader, "hosts", node, seen, plan.hosts);
    });
  } else if (table.contains("waves")) {
    read_waves(reader, plan);
  } else {
    plan.selector.emplace();
    reader.subtable("labels", [&](TableReader& labels) { read_labels(labels, *plan.selector); });
    reader.array("except", false, [&](const toml::node& node) {
      read_names(reader, "except", node, seen, plan.selector->except);
    });
    reader.text("wave_by", plan.selector->wave_by);
  }
  for (const char* key : {"except", "wave_by"}) {
    if (!plan.selector && table.contains(key)) {
      reader.refuse(table.get(key)->source(),
                    fmt::format("{} goes with labels; leave hosts out of the list", key));
    }
  }
}

std::optional<Placement> parse_placement(std::string_view text) {
  if (text == "home") return Placement::kHome;
  if (text == "rolling") return Placement::kRolling;
  return std::nullopt;
}

void read_refill(TableReader& reader, Plan& plan) {
  reader.refuse_unknown({"placement", "percent", "gate_s"});
  reader.parsed("placement", plan.placement, "\"home\" or \"rolling\"", parse_placement);
  reader.integer("gate_s", plan.gate_s, 0, 86'400);
  if (!reader.table().contains("percent")) return;
  plan.refill_percent.clear();
  reader.array("percent", true, [&](const toml::node& node) {
    const auto value = node.value_exact<std::int64_t>().value_or(0);
    const auto before = plan.refill_percent.empty() ? 0 : plan.refill_percent.back();
    const char* const expected = "refill.percent must grow, from above 0 to 100";
    if (value <= 0 || value > 100) return reader.complain(node.source(), expected);
    if (value <= before) reader.refuse(node.source(), expected);
    plan.refill_percent.push_back(static_cast<std::uint32_t>(value));
  });
  if (!plan.refill_percent.empty() && plan.refill_percent.back() != 100)
    reader.refuse(reader.table().source(), "refill.percent must end with 100");
}

void read_stages(TableReader& root, Plan& plan) {
  root.subtable("window", [&](TableReader& reader) { read_window(reader, plan.window); });
  root.subtable("hooks", [&](TableReader& reader) { read_hooks(reader, plan); });
  root.subtable("reboot", [&](TableReader& reader) {
    reader.refuse_unknown({"needed", "timeout_s"});
    reader.boolean("needed", plan.reboot);
    reader.integer("timeout_s", plan.reboot_timeout_s, 1, 86'400);
  });
  root.subtable("expect", [&](TableReader& reader) {
    reader.refuse_unknown({"version", "kernel", "qemu", "paths", "patch_s"});
    reader.text("version", plan.expected_version);
    reader.text("kernel", plan.expected_kernel);
    reader.parsed("qemu", plan.expected_qemu, "a version of QEMU such as \"8.2\"",
                  planner::parse_qemu_series);
    reader.boolean("paths", plan.check_paths);
    reader.integer("patch_s", plan.expected_patch_s, 1, 86'400);
  });
  root.subtable("canary", [&](TableReader& reader) {
    reader.refuse_unknown({"definition"});
    reader.text("definition", plan.canary_definition, true);
  });
  root.subtable("refill", [&](TableReader& reader) { read_refill(reader, plan); });
  root.subtable("soak", [&](TableReader& reader) {
    reader.refuse_unknown(
        {"seconds", "goodput_ratio_min", "downtime_ratio_max", "loss_max", "steal_max"});
    reader.integer("seconds", plan.soak_s, 0, 86'400);
    reader.number("goodput_ratio_min", plan.goodput_ratio_min, 0, 1);
    reader.number("downtime_ratio_max", plan.downtime_ratio_max, 0, 1000);
    reader.number("loss_max", plan.loss_max, 0, 1);
    reader.number("steal_max", plan.steal_max, 0, 1);
  });
}

// Of values that can be read each by itself. Always refuse(): see parse_admitted_plan().
void check_agreement(TableReader& root, const Plan& plan) {
  const auto& where = root.table().source();
  if (!plan.drain_only && !plan.patch)
    root.refuse(where, "hooks.patch is missing: what is to be done on each host");
  if (!plan.expected_version.empty() && !plan.version)
    root.refuse(where, "expect.version needs hooks.version, which prints it");
  if (plan.canary_check && plan.canary_definition.empty())
    root.refuse(where, "hooks.canary_check needs canary.guest_file, the guest that it looks at");
  if (plan.shut_down_guests && plan.placement == Placement::kRolling) {
    root.refuse(where,
                "shut_down_guests goes with refill.placement = \"home\": guests start again where "
                "they were shut down");
  }
}

Expected<Plan> parse(const std::string& toml, const std::string& source, model::Refusals refusals) {
  const auto parsed = model::parse_toml(toml, source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  Plan plan;
  std::optional<Error> error;
  TableReader root(*parsed, source, "", error, refusals);
  root.refuse_unknown({"name", "hosts", "waves", "labels", "except", "wave_by", "drain_only",
                       "parallel", "failures", "attempts", "shut_down_guests", "window", "hooks",
                       "reboot", "expect", "canary", "refill", "soak"});
  root.text("name", plan.name, true);
  read_hosts(root, plan);
  root.boolean("drain_only", plan.drain_only);
  root.integer("parallel", plan.parallel, 0, 10'000);
  root.integer("failures", plan.failures_max, 0, 10'000);
  root.integer("attempts", plan.attempts, 1, 100);
  root.boolean("shut_down_guests", plan.shut_down_guests);
  read_stages(root, plan);
  check_agreement(root, plan);
  if (error) return tl::unexpected<Error>(*error);
  return plan;
}

}  // namespace

Expected<Plan> parse_plan(const std::string& toml, const std::string& source) {
  return parse(toml, source, model::Refusals::kApply);
}

Expected<Plan> parse_admitted_plan(const std::string& toml, const std::string& source) {
  return parse(toml, source, model::Refusals::kWaive);
}

}  // namespace sluice::patch
