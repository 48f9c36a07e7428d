// Deciding for one host: a function for each of its states.
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "control/patch/run_decide.h"

namespace sluice::patch {
namespace {

constexpr const char* kPatch = "patch";

// A hook's output, without the line ends that commands print.
std::string trimmed(const std::string& text) {
  const auto end = text.find_last_not_of(" \t\r\n");
  return end == std::string::npos ? "" : text.substr(0, end + 1);
}

}  // namespace

void Run::decide_host(Decision& decision, const std::string& name) const {
  const HostRun& host = hosts_.at(name);
  if (state_ == RunState::kAborting && next(host.state, HostEvent::kAbort)) {
    decision.step(name, HostEvent::kAbort, "the run was aborted");
    return;
  }
  switch (host.state) {
    case HostState::kPrecheck:
      return precheck(decision, name);
    case HostState::kCordoned:
      return cordoned(decision, name);
    case HostState::kDraining:
    case HostState::kRedrain:
      return draining(decision, name);
    case HostState::kEmpty:
      return empty(decision, name);
    case HostState::kPatching:
      return patching(decision, name);
    case HostState::kRebooting:
      if (came_back(decision, name, "reboot")) {
        decision.step(name, HostEvent::kCameBack,
                      fmt::format("boot id {} -> {}", latest(name, "reboot").intent->boot_id,
                                  decision.host(name)->boot_id));
      }
      return;
    case HostState::kVerifying:
      return verifying(decision, name);
    case HostState::kCanary:
      return canary(decision, name);
    case HostState::kRefill:
      return refill(decision, name);
    case HostState::kSoak:
      return soak(decision, name);
    case HostState::kUndrain:
      return undrain(decision, name);
    case HostState::kRollback:
      return rollback(decision, name);
    case HostState::kVerifyOld:
      return verify_old(decision, name);
    default:
      return is_final(host.state) ? tidy(decision, name) : void();
  }
}

// Whatever happened: the monitoring is told, the canary ends, and what this run cordoned is given
// back.
void Run::tidy(Decision& decision, const std::string& name) const {
  const HostRun& host = hosts_.at(name);
  end_canary(decision, name);
  if (!decision.records.empty()) return;
  end_silence(decision, name);
  if (!decision.records.empty()) return;
  if (host.state == HostState::kQuarantined && !host.quarantined && !host.mended)
    return decision.add(MarkStep{name, Mark::kQuarantine});
  // Who drains a host wants it to stay empty, unless he thinks better of it.
  const bool keep =
      plan_.drain_only && host.state == HostState::kDone && state_ != RunState::kAborting;
  if (host.cordoned_here && !keep) return decision.add(MarkStep{name, Mark::kUncordon});
  look_after_latecomers(decision, name);
  if (!decision.records.empty()) return;
  start_elsewhere(decision, name);
}

// True when the hook has ended well, or there is none; a failed one fails the host.
bool Run::hook_done(Decision& decision, const std::string& name, const std::optional<Hook>& hook,
                    const char* purpose) const {
  if (!hook) return true;
  switch (state_of(name, purpose)) {
    case TaskState::kNone: {
      Intent intent{0, ActionKind::kHook, purpose, name};
      intent.hook = *hook;
      if (intent.purpose == kPatch) intent.boot_id = decision.host(name)->boot_id;
      decision.intend(std::move(intent));
      return false;
    }
    case TaskState::kOpen:
      return false;
    case TaskState::kFailed:
      decision.fail(name, fmt::format("hook {} failed: {}", hook->name,
                                      failure_line(latest(name, purpose).outcome->detail)));
      return false;
    case TaskState::kOk:
      break;
  }
  return true;
}

// A guest may also come after the precheck, or get its policy then.
bool Run::refuses_to_leave(Decision& decision, const std::string& name) const {
  for (const auto& guest : decision.guests_on(name)) {
    if (decision.facts.guests.at(guest).policy != GuestPolicy::kNever) continue;
    decision.fail(name, fmt::format("{} must never be moved (its policy): give it another policy "
                                    "or leave {} out",
                                    guest, name));
    return true;
  }
  return false;
}

// A few at a time: they run on one machine.
bool Run::guest_hooks_done(Decision& decision, const std::string& name,
                           const std::optional<Hook>& hook, const char* purpose,
                           const std::vector<std::string>& guests) const {
  constexpr std::size_t kAtOnce = 8;
  if (!hook) return true;
  std::size_t under_way = 0;
  std::vector<std::string> to_begin;
  for (const auto& guest : guests) {
    const std::string its_purpose = fmt::format("{}:{}", purpose, guest);
    switch (state_of(name, its_purpose)) {
      case TaskState::kNone:
        to_begin.push_back(guest);
        break;
      case TaskState::kOpen:
        ++under_way;
        break;
      case TaskState::kFailed:
        decision.fail(name, fmt::format("hook {} failed for {}: {}", hook->name, guest,
                                        failure_line(latest(name, its_purpose).outcome->detail)));
        return false;
      case TaskState::kOk:
        break;
    }
  }
  for (std::size_t i = 0; i < to_begin.size() && under_way < kAtOnce; ++i, ++under_way) {
    Intent intent{0, ActionKind::kHook, fmt::format("{}:{}", purpose, to_begin[i]), name,
                  to_begin[i]};
    intent.hook = *hook;
    decision.intend(std::move(intent));
  }
  return under_way == 0;
}

void Run::precheck(Decision& decision, const std::string& name) const {
  if (decision.silent_for(name, kSilenceMsMax))
    return decision.fail(name, "its agent does not answer");
  if (!decision.reachable(name)) return;
  const HostFacts& facts = *decision.host(name);
  if (const auto why = unsettled_at(name); !why.empty()) return decision.fail(name, why);
  if (facts.quarantined) return decision.fail(name, "it is in quarantine");
  const HostRun& host = hosts_.at(name);
  const auto& guests = decision.guests_on(name);
  if (refuses_to_leave(decision, name)) return;
  // Another run's that it will bring home are not this one's to bring here.
  std::vector<std::string> own;
  std::copy_if(
      guests.begin(), guests.end(), std::back_inserter(own),
      [&](const std::string& guest) { return decision.facts.guests_of_others.count(guest) == 0; });
  if (!plan_.drain_only && !hook_done(decision, name, plan_.version, "version-before")) return;
  if (!paths_known(decision, name)) return;
  if (!host.baseline) {
    const Task version = latest(name, "version-before");
    return decision.add(Baseline{name, facts.boot_id,
                                 version.outcome == nullptr ? "" : trimmed(version.outcome->detail),
                                 facts.kernel, own, facts.link_bits_per_second, facts.cpu_level,
                                 facts.waited_share, facts.qemu_series});
  }
  // What an operator cordoned is not this run's to give back.
  if (!host.cordoned_here && facts.cordoned_by.empty())
    return decision.add(MarkStep{name, Mark::kCordon});
  decision.step(name, HostEvent::kReady, fmt::format("{} guests to move", guests.size()));
}

void Run::cordoned(Decision& decision, const std::string& name) const {
  if (!hook_done(decision, name, plan_.silence, "silence")) return;
  if (!hook_done(decision, name, plan_.before, "before")) return;
  if (!guest_hooks_done(decision, name, plan_.guest_before, "guest-before",
                        decision.guests_on(name)))
    return;
  decision.step(name, HostEvent::kDrainStarted);
}

// Also without asking it: it was empty when its patch began, and nothing was sent or started there
// since, nor tried to be.
bool Run::is_known_empty(const Decision& decision, const std::string& name) const {
  const Task patched = latest(name, kPatch);
  if (patched.intent == nullptr || !decision.guests_on(name).empty() ||
      copy_on(decision.facts, name))
    return false;
  return std::none_of(
      intents_.upper_bound(patched.intent->id), intents_.end(), [&](const auto& entry) {
        const Intent& intent = entry.second;
        const bool starts = intent.kind == ActionKind::kStartGuest;
        const std::string& at = starts && intent.to.empty() ? intent.host : intent.to;
        return (starts || intent.kind == ActionKind::kMigrate) && at == name;
      });
}

// Moves are decided for all hosts together (decide_moves); here is seen what became of them.
void Run::draining(Decision& decision, const std::string& name) const {
  const HostRun& host = hosts_.at(name);
  const bool first = host.state == HostState::kDraining;
  if (const auto why = unsettled_at(name); !why.empty()) return decision.fail(name, why);
  if (!decision.reachable(name) && !is_known_empty(decision, name)) {
    // One that has failed may be rebooting still.
    const bool given_up =
        first ? decision.silent_for(name, kSilenceMsMax)
              : decision.facts.elapsed_ms(host.entered_ms) > plan_.reboot_timeout_s * kSecondMs;
    if (given_up)
      decision.fail(name, "its agent stopped answering, so which guests it has is not known");
    return;
  }
  const auto& guests = decision.guests_on(name);
  if (guests.empty()) {
    if (has_open(name) || is_visited(name, decision.facts)) return;
    if (decision.reachable(name) && !decision.host(name)->told_out_of_service) return;
    if (has_copies(decision, name)) return;
    if (!canary_is_over(name)) return end_canary(decision, name);
    const std::string canary = canary_left_on(name, decision.facts);
    if (!canary.empty()) return decision.fail(name, canary + " is on it and could not be stopped");
    return decision.step(name, HostEvent::kDrained);
  }
  if (refuses_to_leave(decision, name)) return;
  for (const auto& guest : guests) {
    const Task moved = latest(name, (first ? "drain:" : "redrain:") + guest);
    if (is_given_up(moved, plan_.attempts)) {
      return decision.fail(name, fmt::format("{} could not be moved in {} attempts: {}", guest,
                                             plan_.attempts, moved.outcome->detail));
    }
    if (decision.facts.guests.at(guest).policy != GuestPolicy::kShutdown) continue;
    if (!shut_down(decision, name, guest)) return;
  }
}

bool Run::has_copies(Decision& decision, const std::string& name) const {
  const auto copy = copy_on(decision.facts, name);
  for (const bool stays : {true, false}) {
    const std::string what = (stays ? "copies that stay on " : "copies on their way off ") + name;
    const TimeMs limit_ms = stays ? kSilenceMsMax : std::max(kSilenceMsMax, reboot_timeout_ms());
    if (!copy || copy->stays != stays) {
      decision.patience.renew(what);
    } else if (decision.patience.is_over(what, decision.facts, limit_ms)) {
      decision.fail(name, copy->text);
    }
  }
  return copy.has_value();
}

// Given back as it was, or as near to that as can be.
void Run::undrain(Decision& decision, const std::string& name) const {
  std::string failure;
  if (has_open(name) || !started_again(decision, name, failure)) return;
  decision.step(name, HostEvent::kGivenBack, failure);
}

void Run::empty(Decision& decision, const std::string& name) const {
  if (const auto why = unsettled_at(name); !why.empty())
    return decision.step(name, HostEvent::kReopened, why);
  if (plan_.drain_only) return decision.step(name, HostEvent::kDrainOnly);
  if (!decision.guests_on(name).empty())
    return decision.step(name, HostEvent::kReopened, "it took guests back from a host that failed");
  if (const auto copy = copy_on(decision.facts, name))
    return decision.step(name, HostEvent::kReopened, copy->text);
  // Its turn may be far away, and it may be rebooting.
  if (decision.silent_for(name, reboot_timeout_ms()))
    return decision.fail(name, "its agent stopped answering");
  // Its agent may have been started again, and know of no cordon; and which of its boots the patch
  // begins in must be known.
  const HostFacts* facts = decision.host(name);
  const bool closed = decision.reachable(name) && facts->told_out_of_service;
  if (closed && !is_visited(name, decision.facts) && may_patch(name))
    decision.step(name, HostEvent::kPatchStarted);
}

void Run::patching(Decision& decision, const std::string& name) const {
  if (state_of(name, kPatch) == TaskState::kNone && !decision.reachable(name)) {
    if (decision.silent_for(name, reboot_timeout_ms()))
      decision.fail(name, "its agent stopped answering");
    return;
  }
  if (!hook_done(decision, name, plan_.patch, kPatch)) return;
  decision.step(name, plan_.reboot ? HostEvent::kPatched : HostEvent::kPatchedLive);
}

// In old journals that is not noted.
const std::string& Run::boot_id_before_patch(const std::string& name) const {
  const Task patched = latest(name, kPatch);
  const bool noted = patched.intent != nullptr && !patched.intent->boot_id.empty();
  return noted ? patched.intent->boot_id : hosts_.at(name).baseline->boot_id;
}

// True when the host answers with another boot id than that with which the run had it rebooted: a
// boot that nobody asked for may have come before the patch, or in its middle. One that was silent
// when it was told, and answers in the same boot, is told again.
bool Run::came_back(Decision& decision, const std::string& name, const char* purpose) const {
  const bool reachable = decision.reachable(name);
  const Task reboot = latest(name, purpose);
  if (reboot.intent != nullptr && reachable &&
      decision.host(name)->boot_id != reboot.intent->boot_id)
    return true;
  const bool unheard = reboot.outcome != nullptr && reboot.outcome->unheard &&
                       reboot.intent->attempt < plan_.attempts;
  const bool may_be_told = (reboot.intent == nullptr || unheard) && reachable;
  if (may_be_told && !is_visited(name, decision.facts)) {
    // Somebody may have started one there, in spite of the cordon.
    const auto& guests = decision.guests_on(name);
    if (!guests.empty()) {
      decision.fail(name, guests.front() + " runs on it, so it is not rebooted");
      return false;
    }
    if (!has_copies(decision, name)) {
      Intent intent{0, ActionKind::kReboot, purpose, name};
      intent.boot_id = decision.host(name)->boot_id;
      if (unheard) intent.attempt = reboot.intent->attempt + 1;
      decision.intend(std::move(intent));
    }
    if (!decision.records.empty()) return false;
  }
  if (reboot.intent == nullptr && reachable) return false;
  if (reboot.intent != nullptr && reboot.outcome == nullptr) return false;
  if (reboot.outcome != nullptr && !reboot.outcome->ok) {
    decision.fail(name, "it could not be rebooted: " + reboot.outcome->detail);
    return false;
  }
  // Since it was told to; before that, since it is awaited.
  const TimeMs since_ms = std::max(hosts_.at(name).entered_ms, reboot.ended_ms);
  if (decision.facts.elapsed_ms(since_ms) > reboot_timeout_ms())
    decision.fail(name, fmt::format("it did not come back within {} s", plan_.reboot_timeout_s));
  return false;
}

void Run::verifying(Decision& decision, const std::string& name) const {
  if (!decision.reachable(name)) {
    if (decision.silent_for(name, reboot_timeout_ms()))
      decision.fail(name, "its agent stopped answering");
    return;
  }
  const std::string& boot_id = decision.host(name)->boot_id;
  if (!plan_.reboot && boot_id != boot_id_before_patch(name)) {
    return decision.fail(name, fmt::format("it was rebooted (boot id {} -> {}), and the plan says "
                                           "that its patch needs no reboot",
                                           boot_id_before_patch(name), boot_id));
  }
  if (!hook_done(decision, name, plan_.after, "after")) return;
  if (!hook_done(decision, name, plan_.version, "version-after")) return;
  const Task printed = latest(name, "version-after");
  const std::string version = printed.outcome == nullptr ? "" : trimmed(printed.outcome->detail);
  const std::string& kernel = decision.host(name)->kernel;
  if (!plan_.expected_version.empty() && version != plan_.expected_version) {
    return decision.fail(name, fmt::format("its version is \"{}\", expected \"{}\"", version,
                                           plan_.expected_version));
  }
  if (!plan_.expected_kernel.empty() && kernel != plan_.expected_kernel) {
    return decision.fail(
        name, fmt::format("its kernel is {}, expected {}", kernel, plan_.expected_kernel));
  }
  if (const std::string trap = shut_out_of(decision, name); !trap.empty())
    return decision.fail(name, trap);
  if (const std::string other = unexpected_qemu(decision, name); !other.empty())
    return decision.fail(name, other);
  if (!paths_good(decision, name, "paths")) return;
  decision.step(name, HostEvent::kVerified,
                version.empty() ? "kernel " + kernel : "version " + version);
}

void Run::rollback(Decision& decision, const std::string& name) const {
  if (!plan_.rollback) return decision.fail(name, "the plan has no rollback hook");
  const bool asks_host =
      !plan_.rollback->on_controller && state_of(name, "rollback") == TaskState::kNone;
  if (asks_host && !decision.reachable(name)) {
    if (decision.facts.elapsed_ms(hosts_.at(name).entered_ms) > reboot_timeout_ms())
      decision.fail(name, "its agent does not answer, so it cannot be rolled back");
    return;
  }
  const auto& guests = decision.guests_on(name);
  if (state_of(name, "rollback") == TaskState::kNone && !guests.empty())
    return decision.fail(name, guests.front() + " runs on it, so it is not rolled back");
  if (!hook_done(decision, name, plan_.rollback, "rollback")) return;
  if (plan_.reboot) {
    const Task rebooted = latest(name, "rollback-reboot");
    if (rebooted.intent == nullptr && !decision.reachable(name)) {
      if (decision.facts.elapsed_ms(latest(name, "rollback").ended_ms) > reboot_timeout_ms())
        decision.fail(name, "its agent does not answer after the rollback");
      return;
    }
    if (!came_back(decision, name, "rollback-reboot")) return;
  }
  decision.step(name, HostEvent::kRolledBack);
}

void Run::verify_old(Decision& decision, const std::string& name) const {
  if (!decision.reachable(name)) {
    if (decision.silent_for(name, reboot_timeout_ms()))
      decision.fail(name, "its agent stopped answering after the rollback");
    return;
  }
  if (!hook_done(decision, name, plan_.version, "version-old")) return;
  const Baseline& before = *hosts_.at(name).baseline;
  const Task printed = latest(name, "version-old");
  const std::string version = printed.outcome == nullptr ? "" : trimmed(printed.outcome->detail);
  if (version != before.version) {
    return decision.fail(
        name, fmt::format("after the rollback its version is \"{}\", it was \"{}\"", version,
                          before.version));
  }
  if (decision.host(name)->kernel != before.kernel) {
    return decision.fail(name, fmt::format("after the rollback its kernel is {}, it was {}",
                                           decision.host(name)->kernel, before.kernel));
  }
  if (before.qemu_series != 0 && decision.host(name)->qemu_series != before.qemu_series) {
    return decision.fail(name, fmt::format("after the rollback its QEMU is {}, it was {}",
                                           qemu_text(decision.host(name)->qemu_series),
                                           qemu_text(before.qemu_series)));
  }
  if (!paths_good(decision, name, "paths-old")) return;
  std::string failure;
  if (!started_again(decision, name, failure)) return;
  if (!failure.empty()) return decision.fail(name, failure);
  decision.step(name, HostEvent::kVerifiedOld, version.empty() ? "" : "version " + version);
}

}  // namespace sluice::patch
