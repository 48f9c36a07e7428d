// Whether a plan may be run now, and why not.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "control/patch/run_decide.h"
#include "dataplane/base/nearest.h"

namespace sluice::patch {

void add_down(MoveQuery& query, std::map<std::string, Down> down) {
  query.down = std::move(down);
  query.down.insert(query.facts->down_of_others.begin(), query.facts->down_of_others.end());
  std::erase_if(query.down,
                [&](const auto& guest) { return query.facts->guests.count(guest.first); });
  for (const auto& [guest, about] : query.down) query.resting.insert(guest);
}

MoveQuery query_to_empty(const Plan& plan, const Facts& facts, const std::string& host) {
  MoveQuery query;
  query.facts = &facts;
  query.emptying = {host};
  query.qemu_meant = plan.expected_qemu;
  query.under_way = facts.moves_of_others;
  query.under_way_unwatched = facts.moves_by_hand;
  for (const auto& [other, about] : facts.hosts) {
    if (about.quarantined || !about.reachable || !about.cordoned_by.empty())
      query.closed.insert(other);
  }
  for (const auto& [guest, about] : facts.guests) {
    if (!is_moved(about.policy) || plan.shut_down_guests) query.resting.insert(guest);
  }
  query.resting.insert(facts.canaries_of_others.begin(), facts.canaries_of_others.end());
  add_down(query, {});
  return query;
}

namespace {

// What a drain shuts down is started elsewhere, and needs a place there like what moves.
Expected<void> admit_places(const Plan& plan, const Facts& facts, const Mover& mover,
                            const std::string& host) {
  MoveQuery query = query_to_empty(plan, facts, host);
  const auto is_down = [&](const std::string& guest) {
    const auto about = facts.guests.find(guest);
    return plan.drain_only && about != facts.guests.end() && about->second.host == host &&
           about->second.policy != GuestPolicy::kNever;
  };
  std::erase_if(query.resting, is_down);
  const auto answer = mover.propose(query);
  if (answer.stuck.empty()) return {};
  const auto& [guest, why] = *answer.stuck.begin();
  const bool stops =
      plan.shut_down_guests || facts.guests.at(guest).policy == GuestPolicy::kShutdown;
  return fail(ErrorKind::kNoCapacity,
              fmt::format("{}: {} cannot be emptied: {}{}", plan.name, host, why,
                          stops ? fmt::format(" (it would be shut down, and stay so; if it may, "
                                              "`sluice guest stop {}` first)",
                                              guest)
                                : ""));
}

// Its canary goes out to another host and back.
Expected<void> admit_canary(const Plan& plan, const Facts& facts, const std::string& host) {
  const bool has_partner =
      std::any_of(facts.hosts.begin(), facts.hosts.end(), [&](const auto& other) {
        const HostFacts& about = other.second;
        const bool is_ours =
            std::find(plan.hosts.begin(), plan.hosts.end(), other.first) != plan.hosts.end();
        return other.first != host && !about.quarantined &&
               (is_ours || about.cordoned_by.empty() || about.returns_to_others);
      });
  if (plan.drain_only || plan.canary_definition.empty() || has_partner) return {};
  return fail(ErrorKind::kNoCapacity,
              fmt::format("{}: there is no host in service but {} that its canary could go to: "
                          "leave [canary] out, or uncordon another host",
                          plan.name, host));
}

}  // namespace

Expected<void> admit(const Plan& plan, const Facts& facts, const Mover& mover) {
  if (!plan.window.opens_ms(facts.wall_ms())) {
    const auto& last_ms = plan.window.not_after_ms;
    const bool closed = last_ms && *last_ms < facts.wall_ms();
    return fail(ErrorKind::kInvalid,
                fmt::format("{}: the window {}; change window.not_after", plan.name,
                            closed ? "has closed already, " + time_text(plan.window, *last_ms)
                                   : std::string("does not open any more before its end")));
  }
  const auto check_hook = [&](const std::optional<Hook>& hook,
                              const std::string& host) -> Expected<void> {
    if (!hook) return {};
    const bool on_controller = hook->on_controller;
    const auto& offered = on_controller ? facts.controller_hooks : facts.hosts.at(host).hooks;
    if (offered.count(hook->name) != 0) return {};
    const auto meant = nearest(hook->name, offered);
    return fail(
        ErrorKind::kNotFound,
        fmt::format("{}: there is no hook {} on {}{}; it has: {}", plan.name, hook->name,
                    on_controller ? "the controller" : host,
                    meant.empty() ? "" : fmt::format(", did you mean {}?", meant),
                    offered.empty() ? "none" : fmt::format("{}", fmt::join(offered, ", "))));
  };
  for (const auto& name : plan.hosts) {
    const auto host = facts.hosts.find(name);
    if (host == facts.hosts.end()) {
      std::vector<std::string_view> known;
      for (const auto& [other, about] : facts.hosts) known.push_back(other);
      const auto meant = nearest(name, known);
      return fail(ErrorKind::kNotFound,
                  fmt::format("{}: there is no host {}{}; `sluice hosts` lists them", plan.name,
                              name, meant.empty() ? "" : fmt::format(", did you mean {}?", meant)));
    }
    if (!host->second.reachable) {
      // Not kUnreachable: to who asks, that would be this controller.
      return fail(ErrorKind::kFailed,
                  fmt::format("{}: the agent of {} does not answer", plan.name, name));
    }
    if (host->second.quarantined) {
      return fail(ErrorKind::kInvalid,
                  fmt::format("{}: {} is in quarantine; look at it and `sluice uncordon {}`, or "
                              "leave it out",
                              plan.name, name, name));
    }
    for (const auto* hook :
         {&plan.silence, &plan.before, &plan.guest_before, &plan.patch, &plan.after,
          &plan.canary_check, &plan.guest_after, &plan.rollback, &plan.version, &plan.unsilence}) {
      if (auto checked = check_hook(*hook, name); !checked) return checked;
    }
    for (const auto& [guest, about] : facts.guests) {
      if (about.host == name && about.policy == GuestPolicy::kNever) {
        return fail(ErrorKind::kInvalid,
                    fmt::format("{}: {} on {} must never be moved (its policy); give it another "
                                "policy or leave {} out",
                                plan.name, guest, name, name));
      }
    }
    if (auto canary = admit_canary(plan, facts, name); !canary) return canary;
    if (auto placed = admit_places(plan, facts, mover, name); !placed) return placed;
  }
  return admit_qemu(plan, facts);
}

}  // namespace sluice::patch
