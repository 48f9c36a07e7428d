// What must not be worse after a patch than it was before.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <vector>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

constexpr const char* kPathsBefore = "paths-before";
// Below so many frames a loss or two looks like a bad link.
constexpr double kFramesMin = 10'000;

// The upper one of an even number. `values` holds one or more.
double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Loss {
  double frames = 0;
  double lost = 0;
  [[nodiscard]] double share() const { return frames == 0 ? 0 : lost / frames; }
};

// Of all the moves together, as if their frames carried two pages each.
Loss loss_of(const std::vector<Task>& moves) {
  constexpr double kBitsPerFrame = 8.0 * 2 * 4096;
  Loss loss;
  for (const Task& move : moves) {
    const Outcome& end = *move.outcome;
    const double frames = end.goodput_gbps * 1e9 * end.seconds / kBitsPerFrame;
    loss.frames += frames;
    loss.lost += frames * end.lost_share;
  }
  return loss;
}

}  // namespace

std::vector<Task> Run::moves_away(const std::string& host) const {
  std::vector<Task> moves;
  const std::string prefix = "drain:";
  for (auto at = latest_.lower_bound({host, prefix});
       at != latest_.end() && at->first.first == host && at->first.second.starts_with(prefix);
       ++at) {
    const Task move = task(at->second);
    if (move.outcome != nullptr && move.outcome->ok && move.outcome->goodput_gbps > 0)
      moves.push_back(move);
  }
  return moves;
}

std::vector<Task> Run::moves_to_patched(const std::string& host) const {
  std::vector<Task> moves;
  const Task patched = latest(host, "patch");
  const auto arrivals = arrivals_.find(host);
  if (patched.intent == nullptr || arrivals == arrivals_.end()) return moves;
  for (const auto id : arrivals->second) {
    const Task move = task(id);
    if (id > patched.intent->id && !is_canary(move.intent->guest) && move.outcome != nullptr &&
        move.outcome->ok && move.outcome->goodput_gbps > 0)
      moves.push_back(move);
  }
  return moves;
}

// A guest that went away and came home is compared with itself. Another's move here with those away
// from here, as far as the link that it comes from is as fast.
std::optional<double> Run::goodput_ratio(const std::string& host) const {
  const auto away = moves_away(host);
  if (away.empty()) return std::nullopt;
  std::map<std::string, double> own;
  std::vector<double> all;
  for (const Task& move : away) {
    own[move.intent->guest] = move.outcome->goodput_gbps;
    all.push_back(move.outcome->goodput_gbps);
  }
  const double before = median(all);
  const auto link_of = [&](const std::string& name) {
    const auto found = hosts_.find(name);
    return found == hosts_.end() || !found->second.baseline
               ? 0.0
               : static_cast<double>(found->second.baseline->link_bits_per_second);
  };
  std::vector<double> ratios;
  for (const Task& move : moves_to_patched(host)) {
    const double goodput = move.outcome->goodput_gbps;
    if (const auto itself = own.find(move.intent->guest); itself != own.end()) {
      ratios.push_back(goodput / itself->second);
      continue;
    }
    const double here = link_of(host);
    const double there = link_of(move.intent->from);
    const double scale = here > 0 && there > 0 ? std::min(1.0, there / here) : 1.0;
    ratios.push_back(goodput / (before * scale));
  }
  if (ratios.empty()) return std::nullopt;
  return median(ratios);
}

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
  if (auto slow = downtime_regression(before, after); !slow.empty()) return slow;
  const Loss lost_before = loss_of(before);
  const Loss lost = loss_of(after);
  if (lost.frames >= kFramesMin && lost.share() > lost_before.share() + plan_.loss_max) {
    return fmt::format(
        "{:.1f} % of the frames of migrations to it are lost, before the patch it "
        "was {:.1f} %, the plan allows {:.1f} % more",
        lost.share() * 100, lost_before.share() * 100, plan_.loss_max * 100);
  }
  return {};
}

// A guest that comes back is compared with itself, since guests differ by far; another with those
// that were moved as it was.
std::string Run::downtime_regression(const std::vector<Task>& before,
                                     const std::vector<Task>& after) const {
  if (plan_.downtime_ratio_max <= 0) return {};
  std::map<std::string, double> own;
  std::map<bool, std::vector<double>> alike;  // live or not
  for (const Task& move : before) {
    own[move.intent->guest] = move.outcome->downtime_ms;
    alike[move.intent->live].push_back(move.outcome->downtime_ms);
  }
  std::vector<double> stood_before_ms;
  std::vector<double> stood_ms;
  for (const Task& move : after) {
    const auto itself = own.find(move.intent->guest);
    const auto& others = alike[move.intent->live];
    if (itself == own.end() && others.empty()) continue;
    stood_before_ms.push_back(itself != own.end() ? itself->second : median(others));
    stood_ms.push_back(move.outcome->downtime_ms);
  }
  if (stood_ms.empty()) return {};
  const double now_ms = median(stood_ms);
  const double before_ms = median(stood_before_ms);
  if (now_ms <= kDowntimeMsMin || now_ms <= before_ms * plan_.downtime_ratio_max) return {};
  return fmt::format(
      "guests that move to it stand still for {:.1f} ms, before the patch it was "
      "{:.1f} ms, the plan allows {:.1f} times as long",
      now_ms, before_ms, plan_.downtime_ratio_max);
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
      // What was so before is not this patch's doing.
      if (state_of(name, kPathsBefore) == TaskState::kFailed) return true;
      decision.fail(name, latest(name, purpose).outcome->detail);
      return false;
    case TaskState::kOk:
      break;
  }
  return true;
}

bool Run::paths_known(Decision& decision, const std::string& name) const {
  if (!plan_.check_paths || plan_.drain_only) return true;
  const TaskState state = state_of(name, kPathsBefore);
  if (state == TaskState::kNone) decision.intend({0, ActionKind::kCheckPaths, kPathsBefore, name});
  return state == TaskState::kOk || state == TaskState::kFailed;
}

}  // namespace sluice::patch
