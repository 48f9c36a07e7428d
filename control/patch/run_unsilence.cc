// The last hook of a host: the monitoring that was silenced looks at it again.
#include <fmt/format.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

constexpr const char* kUnsilence = "unsilence";
// Over four minutes; see next_attempt().
constexpr std::uint32_t kTriesMax = 8;

// A hook is begun at most once, unless it may be run again.
std::uint32_t tries_max(const Task& last) {
  return last.intent->hook.idempotent || last.outcome->not_begun ? kTriesMax : 1;
}

}  // namespace

bool Run::unsilence_is_over(const std::string& name) const {
  if (!plan_.unsilence || !hosts_.at(name).touched) return true;
  const Task last = latest(name, kUnsilence);
  if (last.outcome == nullptr) return false;
  return last.outcome->ok || last.intent->attempt >= tries_max(last);
}

void Run::end_silence(Decision& decision, const std::string& name) const {
  const Attempt attempt = next_attempt(decision.facts, latest(name, kUnsilence), kTriesMax);
  if (unsilence_is_over(name) || attempt.next != Attempt::Next::kBegin) return;
  Intent intent{0, ActionKind::kHook, kUnsilence, name};
  intent.hook = *plan_.unsilence;
  intent.attempt = attempt.number;
  decision.intend(std::move(intent));
}

std::string Run::stays_silenced(const std::string& name) const {
  if (state_of(name, kUnsilence) != TaskState::kFailed || !unsilence_is_over(name)) return {};
  const Task last = latest(name, kUnsilence);
  return fmt::format(
      "hook {} failed for {}{}: {}; do by hand what it was to do", last.intent->hook.name, name,
      last.intent->attempt > 1 ? fmt::format(" in {} attempts", last.intent->attempt) : "",
      failure_line(last.outcome->detail));
}

}  // namespace sluice::patch
