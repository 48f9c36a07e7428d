#include "tests/patch/simulated_cluster.h"

#include <algorithm>
#include <fmt/format.h>

namespace sluice::patch::sim {
namespace {

constexpr TimeMs kSecondMs = 1000;

std::string boot_id(const std::string& host, const SimHost& about) {
  return fmt::format("{}-boot-{}", host, about.boot);
}

}  // namespace

Facts Cluster::facts() const {
  Facts facts;
  facts.now_ms = now_ms_;
  facts.wall_ahead_ms = wall_ahead_ms;
  facts.watching_since_ms = watching_since_ms_;
  facts.controller_hooks = {"silence", "unsilence", "component"};
  for (const auto& [name, host] : hosts) {
    HostFacts& out = facts.hosts[name];
    out.reachable = answers(name);
    const TimeMs heard_ms = std::max(host.down_since_ms, watching_since_ms_);
    out.silent_ms = out.reachable ? 0 : now_ms_ - heard_ms;
    out.boot_id = boot_id(name, host);
    const bool other_kernel = (host.patched && faults_.other_kernel_after_patch == name) ||
                              (host.was_patched && faults_.other_kernel_for_good == name);
    out.kernel = other_kernel ? "6.2" : "6.1";
    out.cordoned_by = host.cordoned_by;
    out.quarantined = host.quarantined;
    out.told_out_of_service = host.quarantined || !host.cordoned_by.empty();
    out.cpu_level = cpu_level_of(name);
    out.qemu_series = qemu_of(host);
    out.waited_share = host.patched && faults_.busy_after_patch == name ? 0.45 : 0.1;
    out.hooks = {"patch", "version", "rollback", "before", "after"};
    out.copies = host.copies;
  }
  for (const auto& [name, guest] : guests) {
    if (guest.host.empty()) continue;  // nobody knows
    if (unseen_.count(name) != 0 && !answers(guest.host)) continue;
    if (const auto move = moved_by_hand_.find(name); move != moved_by_hand_.end())
      facts.moves_by_hand.push_back({name, guest.host, move->second, ""});
    facts.guests[name] = {guest.host, guest.policy, "definition of " + name, guest.cpu_level,
                          guest.cpu_level_from_host};
  }
  for (const auto& [name, guest] : last_seen_) {
    if (!facts.hosts.at(guest.host).reachable)
      facts.guests.try_emplace(name, GuestFacts{guest.host, guest.policy, "definition of " + name});
  }
  return facts;
}

void Cluster::note_marks(const Run& run) {
  for (const auto& name : run.plan().hosts) {
    const HostRun& marks = run.host(name);
    hosts.at(name).cordoned_by = marks.cordoned_here ? run.id() : "";
    hosts.at(name).quarantined = marks.quarantined;
  }
}

void Cluster::listen(Listener listener) {
  listener_ = std::move(listener);
  watching_since_ms_ = now_ms_;
}

void Cluster::after(TimeMs delay_ms, std::function<void()> happen) {
  pending_.push_back({now_ms_ + delay_ms, order_++, std::move(happen)});
}

bool Cluster::advance(TimeMs limit_ms) {
  const auto next =
      std::min_element(pending_.begin(), pending_.end(), [](const auto& a, const auto& b) {
        return std::pair(a.at_ms, a.order) < std::pair(b.at_ms, b.order);
      });
  // A controller also looks around without being told anything.
  const TimeMs tick_ms = now_ms_ + kSecondMs;
  if (next == pending_.end() || next->at_ms > tick_ms) {
    now_ms_ = tick_ms;
    return now_ms_ <= limit_ms;
  }
  now_ms_ = next->at_ms;
  const auto happen = std::move(next->happen);
  pending_.erase(next);
  happen();
  return now_ms_ <= limit_ms;
}

void Cluster::tell(Outcome outcome) {
  if (listener_) listener_(outcome);
}

bool Cluster::begin(std::uint64_t epoch, const Run& run, const Intent& intent, bool again) {
  SimHost& host = hosts.at(intent.host);
  if (epoch < host.epoch) return false;
  host.epoch = epoch;
  const std::string key = fmt::format("{}/{}", run.id(), intent.id);
  const auto known = begun_.find(key);
  if (known != begun_.end()) {
    if (!again) violations.push_back(key + " was begun twice");
    if (known->second) after(1, [this, outcome = *known->second] { tell(outcome); });
    return true;  // under way: whoever listens when it ends hears of it
  }
  begun_[key] = std::nullopt;
  switch (intent.kind) {
    case ActionKind::kMigrate:
      migrate(intent, key);
      break;
    case ActionKind::kHook:
      hook_environments[intent.purpose + "@" + intent.host] = run.hook_environment(intent);
      run_hook(intent, key);
      break;
    case ActionKind::kReboot:
      reboot(intent, key);
      break;
    case ActionKind::kCheckPaths:
      after(kSecondMs, [this, intent, key] {
        const SimHost& about = hosts.at(intent.host);
        const bool narrow = faults_.narrow_always == intent.host ||
                            (about.patched && faults_.narrow_after_patch == intent.host) ||
                            (about.was_patched && faults_.narrow_for_good == intent.host);
        begun_[key] = Outcome{intent.id, !narrow,
                              narrow ? "configured 9000, largest frame that reaches h1 is 1500: "
                                       "check the switch ports"
                                     : "full frames reach 3 hosts"};
        tell(*begun_[key]);
      });
      break;
    case ActionKind::kStartGuest:
    case ActionKind::kStopGuest:
      if (intent.kind == ActionKind::kStopGuest && intent.guest == faults_.unheard_stop_of) {
        stop_unheard(intent, key);
        break;
      }
      if (intent.kind == ActionKind::kStartGuest && intent.guest == faults_.unheard_start_of) {
        start_unheard(intent, key);
        break;
      }
      if (intent.kind == ActionKind::kStartGuest && stopped.count(intent.guest) != 0) {
        incoming_[intent.guest] = intent.to.empty() ? intent.host : intent.to;
        // An agent does not start what it has no memory for.
        if (free_gib(incoming_[intent.guest]) < 0) incoming_.erase(intent.guest);
      }
      after(kSecondMs + unanswered_ms(intent), [this, intent, key,
                                                definition = run.definition_of(intent)] {
        Outcome outcome{intent.id, true, "", 1};
        const std::string& at = intent.to.empty() ? intent.host : intent.to;
        const bool stops = intent.kind == ActionKind::kStopGuest;
        auto& failures = (stops ? faults_.stop_failures : faults_.start_failures)[intent.guest];
        const bool was_stopped = stopped.count(intent.guest) != 0;
        const bool has_room = !was_stopped || incoming_.erase(intent.guest) != 0;
        if (stops && intent.guest == faults_.waits_for_operator) {
          outcome.ok = false;
          outcome.unsettled = true;
          outcome.detail = intent.guest + " waits for an operator";
        } else if (failures > 0 || (!stops && (!answers(at) || !has_room))) {
          failures -= std::min(failures, 1U);
          outcome.ok = false;
          outcome.detail = "QEMU does not answer";
        } else if (stops) {
          if (guests.count(intent.guest) != 0) stopped[intent.guest] = guests.at(intent.guest);
          guests.erase(intent.guest);
        } else if (guests.count(intent.guest) != 0) {
          violations.push_back(intent.guest + " was started a second time");
        } else if (definition.empty()) {
          violations.push_back("nobody knows what " + intent.guest + " was");
        } else if (faults_.bad_canary_on == intent.host) {
          outcome.ok = false;
          outcome.detail = "the guest does not start";
        } else {
          note_start(intent.guest, at);
          check_room(at);
        }
        begun_[key] = outcome;
        tell(outcome);
      });
      break;
    default:
      break;
  }
  return true;
}

bool Cluster::answers(const std::string& host) const {
  return hosts.at(host).up && now_ms_ >= hosts.at(host).deaf_until_ms;
}

// An agent that is to start a guest is asked for as long as that.
TimeMs Cluster::unanswered_ms(const Intent& intent) const {
  const SimHost& host = hosts.at(intent.to.empty() ? intent.host : intent.to);
  if (intent.kind != ActionKind::kStartGuest || !host.up) return 0;
  return std::clamp<TimeMs>(host.deaf_until_ms - now_ms_, 0, kSilenceMs);
}

void Cluster::migrate(const Intent& intent, const std::string& key) {
  const auto guest = guests.find(intent.guest);
  Outcome refused{intent.id, false, "the guest is not there"};
  const std::uint32_t target = qemu_of(hosts.at(intent.to));
  if (guest != guests.end() && target != 0 && target < guest->second.qemu_series)
    violations.push_back(intent.guest + " is sent to an older QEMU on " + intent.to);
  if (guest != guests.end()) check_cpu(intent.guest, guest->second.cpu_level, intent.to);
  const bool possible = guest != guests.end() && guest->second.host == intent.from &&
                        moving_.count(intent.guest) == 0 && hosts.at(intent.to).up;
  if (!possible) {
    begun_[key] = refused;
    after(1, [this, refused] { tell(refused); });
    return;
  }
  attempts_ms[intent.guest].push_back(now_ms_);
  moving_[intent.guest] = key;
  incoming_[intent.guest] = intent.to;
  check_room(intent.to);
  if (intent.purpose == faults_.lost_on) return lose(intent, key);
  const TimeMs duration_ms = durations_.migration_ms
                                 ? durations_.migration_ms(intent)
                                 : static_cast<TimeMs>(guest->second.memory_gib) * 4 * kSecondMs;
  after(duration_ms, [this, intent, key, duration_ms] {
    moving_.erase(intent.guest);
    incoming_.erase(intent.guest);
    Outcome outcome{intent.id, true, "", static_cast<double>(duration_ms) / 1000, 10, 8};
    const bool slow = hosts.at(intent.to).patched && faults_.slow_after_patch == intent.to;
    if (slow) outcome.goodput_gbps /= 2;
    const bool patched = hosts.at(intent.to).patched;
    if (patched && faults_.stands_long_after_patch == intent.to) outcome.downtime_ms *= 10;
    if (patched && faults_.lossy_after_patch == intent.to) outcome.lost_share = 0.05;
    auto& failures = faults_.migration_failures[intent.guest];
    const bool returns =
        intent.host == intent.to && faults_.moves_back_failures.count(intent.guest) != 0;
    if (failures > 0 || returns) {
      failures -= std::min(failures, 1U);
      outcome.ok = false;
      outcome.detail = "the link went quiet";
    } else {
      SimGuest& moved = guests.at(intent.guest);
      moved.host = intent.to;
      if (moved.qemu_series != 0) moved.qemu_series = qemu_of(hosts.at(intent.to));
      ++migrations[intent.guest];
      moves.push_back(
          {intent.guest, intent.from, intent.to, hosts.at(intent.from).patched, patched});
      if (faults_.silent_after_first_move_from == intent.from) silence(intent.from);
    }
    begun_[key] = outcome;
    tell(outcome);
  });
}

void Cluster::deafen(const std::string& host, TimeMs duration_ms) {
  hosts.at(host).down_since_ms = now_ms_;
  hosts.at(host).deaf_until_ms = now_ms_ + duration_ms;
}

void Cluster::move_by_hand(const std::string& guest, const std::string& to, TimeMs duration_ms) {
  moved_by_hand_[guest] = to;
  moving_[guest] = "by hand";
  incoming_[guest] = to;
  check_room(to);
  after(duration_ms, [this, guest, to] {
    moved_by_hand_.erase(guest);
    moving_.erase(guest);
    incoming_.erase(guest);
    guests.at(guest).host = to;
  });
}

std::uint32_t Cluster::qemu_of(const SimHost& host) const {
  return host.patched && faults_.qemu_of_patch != 0 ? faults_.qemu_of_patch : host.qemu_series;
}

void Cluster::silence(const std::string& host) {
  hosts.at(host).up = false;
  hosts.at(host).down_since_ms = now_ms_;
}

void Cluster::lose(const Intent& intent, const std::string& key) {
  silence(intent.host == intent.to ? intent.from : intent.to);
  guests.at(intent.guest).host.clear();
  after(kSilenceMs, [this, intent, key] {
    moving_.erase(intent.guest);
    Outcome outcome{intent.id, false, "where " + intent.guest + " runs is not known"};
    outcome.unsettled = true;
    begun_[key] = outcome;
    tell(outcome);
  });
}

void Cluster::stop_unheard(const Intent& intent, const std::string& key) {
  faults_.unheard_stop_of.clear();
  const auto guest = guests.find(intent.guest);
  stopped[intent.guest] = guest->second;
  last_seen_[intent.guest] = guest->second;
  guests.erase(guest);
  SimHost& host = hosts.at(intent.host);
  host.down_since_ms = now_ms_;
  host.deaf_until_ms = now_ms_ + faults_.unheard_ms;
  after(kSilenceMs, [this, intent, key] {
    begun_[key] = Outcome{intent.id, false, "deadline exceeded"};
    tell(*begun_[key]);
  });
}

void Cluster::start_unheard(const Intent& intent, const std::string& key) {
  faults_.unheard_start_of.clear();
  guests[intent.guest] = stopped.at(intent.guest);
  guests.at(intent.guest).host = intent.host;
  stopped.erase(intent.guest);
  unseen_.insert(intent.guest);
  deafen(intent.host, faults_.unheard_ms);
  after(kSilenceMs, [this, intent, key] {
    begun_[key] = Outcome{intent.id, false, "deadline exceeded"};
    tell(*begun_[key]);
  });
}

Outcome Cluster::hook_result(const Intent& intent) {
  SimHost& host = hosts.at(intent.host);
  Outcome outcome{intent.id, true, ""};
  const std::string& hook = intent.hook.name;
  if (hook == "version") {
    outcome.detail = host.version + "\n";
  } else if (hook == "patch") {
    outcome.ok = faults_.patch_hook_fails_on != intent.host;
    if (!outcome.ok) {
      outcome.detail =
          "exit status 1: unpacking\n" + std::string(60'000, '.') + "\nno space left\n";
    }
    host.old_version = host.version;
    if (outcome.ok && faults_.bad_version_on != intent.host) host.version = "2";
    if (faults_.patch_reboots == intent.host) ++host.boot;
  } else if (hook == "component") {
    outcome.ok = faults_.component_fails_for != intent.guest;
    if (!outcome.ok) outcome.detail = "no such package";
    const auto guest = guests.find(intent.guest);
    if (guest == guests.end() || guest->second.host != intent.host)
      violations.push_back(intent.purpose + " ran while the guest was not on " + intent.host);
  } else if (hook == "unsilence" && faults_.unsilence_failures > 0) {
    --faults_.unsilence_failures;
    outcome.ok = false;
    outcome.detail = "exit status 7: the monitoring\ndoes not answer\n";
    outcome.not_begun = faults_.unsilence_not_begun;
  } else if (hook == "rollback") {
    for (const auto& [name, guest] : guests) {
      // People may start one while the hook runs.
      if (guest.host == intent.host && started_by_hand.count(name) == 0)
        violations.push_back(name + " was on a host that was rolled back");
    }
    outcome.ok = faults_.rollback_fails_on != intent.host;
    const bool undone = outcome.ok && faults_.rollback_undoes_nothing_on != intent.host;
    if (undone && !host.old_version.empty()) host.version = host.old_version;
  }
  return outcome;
}

void Cluster::run_hook(const Intent& intent, const std::string& key) {
  if (!intent.hook.on_controller && !hosts.at(intent.host).up) {
    after(5 * kSecondMs, [this, intent, key] {
      begun_[key] = Outcome{intent.id, false, "the agent does not answer"};
      tell(*begun_[key]);
    });
    return;
  }
  ++hook_runs[intent.purpose + "@" + intent.host];
  for (const auto& [name, to] : moved_by_hand_) {
    if (intent.purpose == "patch" && to == intent.host)
      violations.push_back(name + " was on its way to a host that was patched");
  }
  for (const auto& [name, state] : hosts.at(intent.host).copies) {
    if (intent.purpose == "patch")
      violations.push_back(name + " had a copy on a host that was patched");
  }
  const auto known = durations_.hook_ms.find(intent.hook.name);
  after(known != durations_.hook_ms.end() ? known->second : 2 * kSecondMs, [this, intent, key] {
    begun_[key] = hook_result(intent);
    tell(*begun_[key]);
  });
}

void Cluster::reboot(const Intent& intent, const std::string& key) {
  SimHost& host = hosts.at(intent.host);
  if (faults_.unheard_reboot_of == intent.host) {
    faults_.unheard_reboot_of.clear();
    deafen(intent.host, faults_.unheard_ms);
    after(kSilenceMs, [this, intent, key] {
      Outcome outcome{intent.id, true, "its agent does not answer"};
      outcome.unheard = true;
      begun_[key] = outcome;
      tell(outcome);
    });
    return;
  }
  if (boot_id(intent.host, host) == intent.boot_id && host.up) {
    for (const auto& [name, guest] : guests) {
      if (guest.host == intent.host) violations.push_back(name + " was on a host that rebooted");
    }
    for (const auto& [name, state] : host.copies)
      violations.push_back(name + " had a copy on a host that rebooted");
    ++reboots[intent.host];
    silence(intent.host);
    if (faults_.never_returns != intent.host) {
      after(kRebootMs, [this, name = intent.host] {
        SimHost& returned = hosts.at(name);
        returned.up = true;
        ++returned.boot;
        returned.patched = returned.version == "2";
        returned.was_patched = returned.was_patched || returned.patched;
      });
    }
  }
  begun_[key] = Outcome{intent.id, true, ""};
  after(1, [this, outcome = *begun_[key]] { tell(outcome); });
}

std::uint32_t Cluster::cpu_level_of(const std::string& host) const {
  const SimHost& about = hosts.at(host);
  return about.patched && faults_.older_cpu_after_patch == host ? 3 : about.cpu_level;
}

void Cluster::check_cpu(const std::string& guest, std::uint32_t needed, const std::string& host) {
  if (cpu_level_of(host) < needed) violations.push_back(guest + " lacks the CPU of " + host);
}

// One of its host's level takes that of the host where it starts.
void Cluster::note_start(const std::string& guest, const std::string& host) {
  SimGuest started{host, 1};
  if (const auto before = stopped.find(guest); before != stopped.end()) {
    started = before->second;
    check_cpu(guest, started.cpu_level, host);
    if (started.cpu_level_from_host && cpu_level_of(host) > cpu_level_of(started.host))
      violations.push_back(guest + " has no way back from " + host);
    if (started.cpu_level_from_host) started.cpu_level = cpu_level_of(host);
    stopped.erase(before);
  }
  started.host = host;
  started.qemu_series = qemu_of(hosts.at(host));
  guests[guest] = started;
}

std::int64_t Cluster::free_gib(const std::string& host) const {
  std::uint64_t used = 0;
  for (const auto* known : {&guests, &stopped}) {
    for (const auto& [name, guest] : *known) {
      const auto incoming = incoming_.find(name);
      const bool comes = incoming != incoming_.end() && incoming->second == host;
      if (comes || (known == &guests && guest.host == host)) used += guest.memory_gib;
    }
  }
  return static_cast<std::int64_t>(hosts.at(host).memory_gib) - static_cast<std::int64_t>(used);
}

// Double occupancy: a guest that moves holds memory at both ends.
void Cluster::check_room(const std::string& host) {
  if (free_gib(host) < 0) violations.push_back(host + " has no room");
  for (planner::GroupId group = 0; group < groups.size(); ++group) {
    const auto here = std::count_if(groups_of.begin(), groups_of.end(), [&](const auto& member) {
      const auto& [name, of] = member;
      const auto guest = guests.find(name);
      const auto incoming = incoming_.find(name);
      const bool is_here = (guest != guests.end() && guest->second.host == host) ||
                           (incoming != incoming_.end() && incoming->second == host);
      return is_here && std::find(of.begin(), of.end(), group) != of.end();
    });
    if (groups[group].rule == planner::Rule::kApartHosts && here > groups[group].limit)
      violations.push_back(host + " has too many of group " + groups[group].name);
  }
}

PlannedMover make_mover(const Cluster& cluster) {
  constexpr std::uint64_t kGib = 1ULL << 30;
  constexpr std::uint64_t kLinkBytesPerSecond = kGib / 4;
  const Facts facts = cluster.facts();
  planner::Cluster view;
  for (const auto& [name, host] : cluster.hosts) {
    planner::Host out;
    out.name = name;
    out.memory_bytes = host.memory_gib * kGib;
    out.cores = 64;
    out.qemu_series = facts.hosts.at(name).qemu_series;
    out.cpu_level = facts.hosts.at(name).cpu_level;
    for (auto* link : {&out.transmit, &out.receive}) {
      *link = static_cast<planner::LinkId>(view.links.size());
      view.links.push_back({name + (link == &out.transmit ? " out" : " in"), kLinkBytesPerSecond});
    }
    view.hosts.push_back(out);
  }
  view.groups = cluster.groups;
  auto guests = cluster.stopped;
  guests.insert(cluster.guests.begin(), cluster.guests.end());
  for (const auto& [name, guest] : guests) {
    planner::Guest out;
    if (const auto groups = cluster.groups_of.find(name); groups != cluster.groups_of.end())
      out.groups = groups->second;
    out.name = name;
    out.host = 0;  // the facts know better
    out.memory_bytes = guest.memory_gib * kGib;
    out.populated_bytes = out.memory_bytes;
    out.cores = 1;
    out.qemu_series = guest.qemu_series;
    out.cpu_level = guest.cpu_level;
    out.cpu_level_from_host = guest.cpu_level_from_host;
    view.guests.push_back(out);
  }
  return {view, [](const planner::Guest& guest, std::uint64_t bytes_per_second) {
            const bool restarts = guest.policy == planner::Policy::kShutdown;
            const std::uint64_t ms =
                restarts ? kSecondMs : guest.populated_bytes * 1000 / bytes_per_second;
            return std::max<std::uint64_t>(1, ms);
          }};
}

}  // namespace sluice::patch::sim
