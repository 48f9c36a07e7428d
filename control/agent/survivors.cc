#include "control/agent/survivors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <spdlog/spdlog.h>
#include <utility>

namespace sluice::agent {
namespace {

// The session in which a guest was committed to this host and did not run yet.
std::optional<std::uint64_t> session_of(const OutcomeRecords& outcomes, const std::string& guest) {
  std::optional<std::uint64_t> session;
  for (const auto& twin : outcomes.owned_but_not_running()) {
    if (twin.guest == guest) session = twin.session;
  }
  return session;
}

}  // namespace

Survivors::Survivors(AgentContext& agent, Settler& settler)
    : agent_(agent),
      settler_(settler),
      silent_([this](Silent& silent) { return ask_again(silent); }) {
  for (const auto& complaint : agent_.handovers.read_all().unreadable)
    spdlog::error("{}", complaint);
  for (const auto& complaint : agent_.outcomes.unreadable()) spdlog::error("{}", complaint);
  for (auto& [name, driver] : agent_.drivers) find(*driver);
  drop_records_of_the_gone();
}

void Survivors::find(guest::Driver& driver) {
  auto found = driver.rediscover();
  for (auto& guest : found.guests) {
    const std::string name = guest->description().definition.name;
    spdlog::info("guest {} found, pid {}", name, guest->pid());
    auto claim = agent_.registry.add(std::move(guest)).and_then([&] {
      return agent_.registry.claim(name, ClaimPurpose::kInspect);
    });
    if (claim) {
      settle(std::move(*claim));
    } else {
      spdlog::error("guest {}: {}", name, claim.error().message);
    }
  }
  for (const auto& silent : found.silent) {
    spdlog::error(
        "guest {} may run, but does not answer: {}; it is listed as \"silent\" and asked again "
        "until it answers or has gone",
        silent.name, silent.reason);
    if (auto added = agent_.registry.add_silent(silent); !added) {
      spdlog::error("guest {}: {}", silent.name, added.error().message);
      continue;
    }
    silent_.add({&driver, silent.name, silent.reason});
  }
}

bool Survivors::ask_again(Silent& silent) {
  auto found = silent.driver->find_again(silent.name);
  if (found) {
    spdlog::warn("guest {} answers again, pid {}", silent.name, (*found)->pid());
    settle(agent_.registry.end_silence(std::move(*found)));
    return true;
  }
  if (found.error().kind == ErrorKind::kNotFound) {
    spdlog::error("guest {}, which did not answer, has gone", silent.name);
    // Before anybody can bring another guest of this name.
    drop_records_of(silent.name);
    agent_.registry.forget_silent(silent.name);
    return true;
  }
  if (silent.reason != found.error().message) {
    silent.reason = found.error().message;
    spdlog::error("guest {} still does not answer: {}", silent.name, silent.reason);
  }
  return false;
}

void Survivors::settle(GuestClaim claim) {
  const std::string name = claim.name();
  const guest::Phase phase = claim.guest().phase();
  if (phase == guest::Phase::kIncoming) return settle_twin(std::move(claim));
  // It runs here, or has done so.
  conclude(name);
  if (phase == guest::Phase::kHandedOver) return settle_handed_over(std::move(claim));
  // Its copy was let run since: it is not the one that was handed over, and must not be ended for
  // it.
  forget_handovers(name);
}

Ownership Survivors::ownership_of(const guest::Guest& twin) const {
  if (twin.kept_for() != 0) {
    const Ownership outcome = agent_.outcomes.outcome(twin.kept_for());
    const auto committed = agent_.outcomes.owned_but_not_running();
    const bool known = std::any_of(committed.begin(), committed.end(), [&](const OwnedTwin& owned) {
      return owned.session == twin.kept_for();
    });
    // Undecided as its record cannot be read now: it may have been committed, or not.
    return outcome == Ownership::kUndecided && !known ? Ownership::kLost : outcome;
  }
  // An earlier version's agent kept it: only its name is known.
  if (session_of(agent_.outcomes, twin.description().definition.name)) return Ownership::kUndecided;
  return agent_.outcomes.unreadable().empty() ? Ownership::kNever : Ownership::kLost;
}

void Survivors::settle_twin(GuestClaim claim) {
  const std::string name = claim.name();
  const std::uint64_t kept_for = claim.guest().kept_for();
  switch (ownership_of(claim.guest())) {
    case Ownership::kUndecided:
    case Ownership::kOwned:
      spdlog::warn("guest {} was committed to this host before the agent ended: it is resumed",
                   name);
      claim.set_purpose(ClaimPurpose::kIncoming, agent_.config.host);
      agent_.owned_twins.take(
          std::move(claim),
          kept_for != 0 ? kept_for : session_of(agent_.outcomes, name).value_or(0));
      break;
    case Ownership::kLost:
      spdlog::error("guest {} may have been committed to this host: it waits for an operator",
                    name);
      leave_to_operator(std::move(claim));
      break;
    case Ownership::kNever:
      spdlog::warn("guest {} waited for a commit that cannot come any more: its twin is ended",
                   name);
      // An earlier visit of the guest is over.
      conclude(name);
      if (auto ended = claim.destroy(); !ended)
        spdlog::error("guest {}: {}", name, ended.error().message);
      break;
  }
}

void Survivors::conclude(const std::string& guest) {
  if (auto concluded = agent_.outcomes.conclude(guest); !concluded)
    spdlog::error("guest {}: {}", guest, concluded.error().message);
}

void Survivors::settle_handed_over(GuestClaim claim) {
  const std::string name = claim.name();
  const auto handovers = agent_.handovers.read_all();
  const auto record = std::find_if(handovers.records.begin(), handovers.records.end(),
                                   [&](const auto& on_file) { return on_file.guest == name; });
  if (record != handovers.records.end()) {
    spdlog::warn("guest {} was being handed over to {} when the agent ended: asking {}", name,
                 record->to, record->to);
    claim.set_purpose(ClaimPurpose::kMove, record->to);
    settler_.add({std::move(claim), *record, std::nullopt});
  } else if (!handovers.unreadable.empty()) {
    spdlog::error("guest {} may have been handed over: it waits for an operator", name);
    leave_to_operator(std::move(claim));
  } else {
    // Without a record it was never committed.
    claim.set_purpose(ClaimPurpose::kMove, agent_.config.host);
    settler_.add(
        {std::move(claim), {0, name, agent_.config.host, "", 0}, OutcomeAnswer::kNeverOwned});
  }
}

void Survivors::leave_to_operator(GuestClaim claim) {
  const std::string name = claim.name();
  claim.set_purpose(ClaimPurpose::kForgotten, agent_.config.host);
  settler_.add({std::move(claim), {0, name, agent_.config.host, "", 0}, OutcomeAnswer::kForgotten});
}

void Survivors::drop_records_of_the_gone() {
  std::set<std::string> named;
  for (const auto& twin : agent_.outcomes.owned_but_not_running()) named.insert(twin.guest);
  for (const auto& record : agent_.handovers.read_all().records) named.insert(record.guest);
  for (const auto& guest : named) {
    if (!agent_.registry.has(guest)) drop_records_of(guest);
  }
}

void Survivors::drop_records_of(const std::string& guest) {
  if (session_of(agent_.outcomes, guest)) {
    spdlog::error("guest {} was committed to this host and has exited: it may have run", guest);
    conclude(guest);
  }
  forget_handovers(guest);
}

void Survivors::forget_handovers(const std::string& guest) {
  for (const auto& record : agent_.handovers.read_all().records) {
    if (record.guest == guest) agent_.handovers.remove(record.session);
  }
}

}  // namespace sluice::agent
