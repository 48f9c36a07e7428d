#include "control/patch/plan.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>
#include <string_view>

#include "control/model/table_reader.h"

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
  reader.refuse_unknown({"days", "from", "to", "not_before", "not_after"});
  if (reader.table().contains("days")) window.weekdays = 0;
  reader.array("days", false, [&](const toml::node& node) {
    const auto name = node.value_exact<std::string>().value_or("");
    const auto* const day = std::find(kWeekdays.begin(), kWeekdays.end(), name);
    if (day == kWeekdays.end()) {
      reader.complain(node.source(), "window.days must hold mon, tue, wed, thu, fri, sat or sun");
    } else {
      window.weekdays |= static_cast<std::uint8_t>(1U << (day - kWeekdays.begin()));
    }
  });
  reader.parsed("from", window.from_minute, "a time of day as in \"20:00\"", parse_minute);
  reader.parsed("to", window.to_minute, "a time of day as in \"06:00\"", parse_minute);
  read_time(reader, "not_before", window.not_before_ms);
  read_time(reader, "not_after", window.not_after_ms);
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
  reader.refuse_unknown(
      {"silence", "before", "patch", "after", "rollback", "version", "unsilence"});
  read_hook(reader, "silence", plan.silence);
  read_hook(reader, "before", plan.before);
  read_hook(reader, "patch", plan.patch);
  read_hook(reader, "after", plan.after);
  read_hook(reader, "rollback", plan.rollback);
  read_hook(reader, "version", plan.version);
  read_hook(reader, "unsilence", plan.unsilence);
}

void read_hosts(TableReader& reader, Plan& plan) {
  std::set<std::string> seen;
  reader.array("hosts", true, [&](const toml::node& node) {
    const auto name = node.value_exact<std::string>().value_or("");
    if (name.empty()) {
      reader.complain(node.source(), "hosts must hold names of hosts");
    } else if (!seen.insert(name).second) {
      reader.complain(node.source(), fmt::format("hosts names {} twice", name));
    } else {
      plan.hosts.push_back(name);
    }
  });
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
    if (value <= before || value > 100) {
      reader.complain(node.source(), "refill.percent must grow, from above 0 to 100");
    } else {
      plan.refill_percent.push_back(static_cast<std::uint32_t>(value));
    }
  });
  if (!plan.refill_percent.empty() && plan.refill_percent.back() != 100)
    reader.complain(reader.table().source(), "refill.percent must end with 100");
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
    reader.refuse_unknown({"version", "kernel"});
    reader.text("version", plan.expected_version);
    reader.text("kernel", plan.expected_kernel);
  });
  root.subtable("canary", [&](TableReader& reader) {
    reader.refuse_unknown({"definition"});
    reader.text("definition", plan.canary_definition, true);
  });
  root.subtable("refill", [&](TableReader& reader) { read_refill(reader, plan); });
  root.subtable("soak", [&](TableReader& reader) {
    reader.refuse_unknown({"seconds", "goodput_ratio_min"});
    reader.integer("seconds", plan.soak_s, 0, 86'400);
    reader.number("goodput_ratio_min", plan.goodput_ratio_min, 0, 1);
  });
}

void check_agreement(TableReader& root, const Plan& plan) {
  const auto& where = root.table().source();
  if (!plan.drain_only && !plan.patch)
    root.complain(where, "hooks.patch is missing: what is to be done on each host");
  if (!plan.expected_version.empty() && !plan.version)
    root.complain(where, "expect.version needs hooks.version, which prints it");
}

}  // namespace

bool Window::open(TimeMs now_ms) const {
  if (not_before_ms && now_ms < *not_before_ms) return false;
  if (over(now_ms)) return false;
  const auto minute = static_cast<std::uint32_t>(now_ms % kDayMs / kMinuteMs);
  // 1 January 1970 was a Thursday.
  auto weekday = static_cast<std::uint32_t>((now_ms / kDayMs + 3) % 7);
  const bool over_midnight = to_minute <= from_minute;
  if (over_midnight && minute < to_minute) {
    weekday = (weekday + 6) % 7;  // this night began yesterday
  } else if (minute < from_minute || (!over_midnight && minute >= to_minute)) {
    return false;
  }
  return (weekdays >> weekday & 1U) != 0;
}

Expected<Plan> parse_plan(const std::string& toml, const std::string& source) {
  const auto parsed = model::parse_toml(toml, source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  Plan plan;
  std::optional<Error> error;
  TableReader root(*parsed, source, "", error);
  root.refuse_unknown({"name", "hosts", "drain_only", "parallel", "failures", "attempts", "window",
                       "hooks", "reboot", "expect", "canary", "refill", "soak"});
  root.text("name", plan.name, true);
  read_hosts(root, plan);
  root.boolean("drain_only", plan.drain_only);
  root.integer("parallel", plan.parallel, 0, 10'000);
  root.integer("failures", plan.failures_max, 0, 10'000);
  root.integer("attempts", plan.attempts, 1, 100);
  read_stages(root, plan);
  check_agreement(root, plan);
  if (error) return tl::unexpected<Error>(*error);
  return plan;
}

}  // namespace sluice::patch
