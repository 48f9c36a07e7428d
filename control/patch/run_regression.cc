// What must not be worse after a patch than it was before.
#include <algorithm>
#include <fmt/format.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

template <typename Value>
double median_of(const std::vector<Task>& moves, Value value) {
  std::vector<double> values;
  values.reserve(moves.size());
  for (const Task& move : moves) values.push_back(value(*move.outcome));
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double downtime_ms(const Outcome& outcome) { return outcome.downtime_ms; }
double lost_share(const Outcome& outcome) { return outcome.lost_share; }

}  // namespace

std::string Run::regression(const std::string& host) const {
  const auto ratio = goodput_ratio(host);
  if (ratio && *ratio < plan_.goodput_ratio_min) {
    return fmt::format(
        "its migrations' goodput is {:.2f} of what it was before the patch, the "
        "plan wants {:.2f}",
        *ratio, plan_.goodput_ratio_min);
  }
  const auto before = moves_away(host);
  const auto after = moves_to_patched(host);
  if (before.empty() || after.empty()) return {};
  const double stood_before_ms = median_of(before, downtime_ms);
  const double stood_ms = median_of(after, downtime_ms);
  if (plan_.downtime_ratio_max > 0 && stood_ms > kDowntimeMsMin &&
      stood_ms > stood_before_ms * plan_.downtime_ratio_max) {
    return fmt::format(
        "guests that move to it stand still for {:.1f} ms, before the patch it was "
        "{:.1f} ms, the plan allows {:.1f} times as long",
        stood_ms, stood_before_ms, plan_.downtime_ratio_max);
  }
  const double lost_before = median_of(before, lost_share);
  const double lost = median_of(after, lost_share);
  if (lost > lost_before + plan_.loss_max) {
    return fmt::format(
        "{:.1f} % of the frames of migrations to it are lost, before the patch it "
        "was {:.1f} %, the plan allows {:.1f} % more",
        lost * 100, lost_before * 100, plan_.loss_max * 100);
  }
  return {};
}

std::string Run::steal_regression(const Decision& decision, const std::string& name) const {
  const auto& before = hosts_.at(name).baseline->waited_share;
  const auto& now = decision.host(name)->waited_share;
  if (!before || !now || plan_.steal_max >= 1 || *now <= *before + plan_.steal_max) return {};
  return fmt::format(
      "its guests wait for a core {:.0f} % of the time that they want one, before "
      "the patch it was {:.0f} %, the plan allows {:.0f} % more",
      *now * 100, *before * 100, plan_.steal_max * 100);
}

std::string Run::shut_out_of(const Decision& decision, const std::string& name) const {
  const Baseline& before = *hosts_.at(name).baseline;
  const std::uint32_t level = decision.host(name)->cpu_level;
  // Those of a rolling refill stay where they are.
  if (rolling() || level == 0 || level >= before.cpu_level) return {};
  for (const auto& guest : home_guests(name, decision.facts)) {
    const std::uint32_t needed = decision.facts.guests.at(guest).cpu_level;
    if (needed <= level) continue;
    return fmt::format(
        "its CPU is of level x86-64-v{}, it was v{}: {} was started on v{} and "
        "cannot come home",
        level, before.cpu_level, guest, needed);
  }
  return {};
}

bool Run::paths_good(Decision& decision, const std::string& name, const char* purpose) const {
  if (!plan_.check_paths) return true;
  switch (state_of(name, purpose)) {
    case TaskState::kNone:
      decision.intend({0, ActionKind::kCheckPaths, purpose, name});
      return false;
    case TaskState::kOpen:
      return false;
    case TaskState::kFailed:
      decision.fail(name, latest(name, purpose).outcome->detail);
      return false;
    case TaskState::kOk:
      break;
  }
  return true;
}

}  // namespace sluice::patch
