// What a plan leaves to the controller: hosts that are chosen by labels, and time zones.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

#include "control/patch/plan.h"

namespace sluice::patch {
namespace {

bool matches(const Selector& selector, const Labels& labels) {
  return std::all_of(selector.labels.begin(), selector.labels.end(), [&](const auto& wanted) {
    const auto has = labels.find(wanted.first);
    return has != labels.end() && std::find(wanted.second.begin(), wanted.second.end(),
                                            has->second) != wanted.second.end();
  });
}

// "rack = r1 or r2, role = compute"
std::string text_of(const Selector& selector) {
  std::string text;
  for (const auto& [key, values] : selector.labels)
    text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", key, fmt::join(values, " or "));
  return text;
}

// The first label that no host has as it is wanted, with the values that there are.
std::string what_there_is(const Selector& selector, const std::map<std::string, Labels>& hosts) {
  for (const auto& [key, values] : selector.labels) {
    std::set<std::string> has;
    for (const auto& [host, labels] : hosts) {
      if (const auto label = labels.find(key); label != labels.end()) has.insert(label->second);
    }
    if (has.empty()) return fmt::format("no host has a label {}", key);
    if (std::none_of(values.begin(), values.end(),
                     [&](const auto& value) { return has.count(value) != 0; }))
      return fmt::format("hosts have {} = {}", key, fmt::join(has, " or "));
  }
  return "no host has all of them, or they are left out";
}

}  // namespace

bool natural_less(const std::string& a, const std::string& b) {
  const auto is_digit = [](char letter) { return letter >= '0' && letter <= '9'; };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
      continue;
    }
    const auto number = [&](const std::string& text, std::size_t& at) {
      while (at < text.size() && text[at] == '0') ++at;
      const std::size_t from = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      return text.substr(from, at - from);
    };
    const std::string left = number(a, i);
    const std::string right = number(b, j);
    if (left.size() != right.size()) return left.size() < right.size();
    if (left != right) return left < right;
  }
  if (i == a.size() && j == b.size()) return a < b;
  return i == a.size();
}

Expected<std::vector<std::vector<std::string>>> choose_hosts(
    const Plan& plan, const std::map<std::string, Labels>& hosts) {
  std::vector<std::vector<std::string>> waves;
  if (!plan.selector) return waves;
  const Selector& selector = *plan.selector;
  for (const auto& name : selector.except) {
    if (hosts.count(name) == 0) {
      return fail(ErrorKind::kNotFound,
                  fmt::format("{}: there is no host {} to leave out; `sluice hosts` lists them",
                              plan.name, name));
    }
  }
  const auto order = [](const std::string& a, const std::string& b) { return natural_less(a, b); };
  std::map<std::string, std::vector<std::string>, decltype(order)> by_value(order);
  for (const auto& [name, labels] : hosts) {
    const auto& except = selector.except;
    if (!matches(selector, labels) || std::find(except.begin(), except.end(), name) != except.end())
      continue;
    const auto value = labels.find(selector.wave_by);
    if (!selector.wave_by.empty() && value == labels.end()) {
      return fail(
          ErrorKind::kNotFound,
          fmt::format("{}: {} has no label {}, by which waves are made; give it one in "
                      "[labels] of the controller's configuration, or leave it out by except",
                      plan.name, name, selector.wave_by));
    }
    by_value[value == labels.end() ? "" : value->second].push_back(name);
  }
  for (auto& [value, names] : by_value) {
    std::sort(names.begin(), names.end(), natural_less);
    waves.push_back(std::move(names));
  }
  if (waves.empty()) {
    return fail(ErrorKind::kNotFound,
                fmt::format("{}: no host has the labels {}: {}; [labels] of the controller's "
                            "configuration gives them",
                            plan.name, text_of(selector), what_there_is(selector, hosts)));
  }
  return waves;
}

Expected<void> resolve(Plan& plan, const Resolution& resolution) {
  if (plan.selector && resolution.waves.empty())
    return fail(ErrorKind::kInvalid, plan.name + ": nobody chose hosts by their labels");
  if (plan.selector) {
    plan.hosts.clear();
    plan.waves.clear();
    for (const auto& wave : resolution.waves) {
      plan.hosts.insert(plan.hosts.end(), wave.begin(), wave.end());
      plan.waves.push_back(wave.size());
    }
  }
  if (plan.window.zone_name == kUtc) return {};
  const auto zone = TimeZone::parse(resolution.zone_rule);
  if (!zone) {
    return fail(ErrorKind::kInvalid,
                fmt::format("{}: window.timezone = \"{}\": its rule \"{}\" cannot be read",
                            plan.name, plan.window.zone_name, resolution.zone_rule));
  }
  plan.window.zone = *zone;
  return {};
}

}  // namespace sluice::patch
