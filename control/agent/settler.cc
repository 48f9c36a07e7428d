#include "control/agent/settler.h"

#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

namespace sluice::agent {

Settler::Settler(AgentContext& agent)
    : agent_(agent), open_([this](auto& unsettled) { return settle(unsettled); }) {}

void Settler::add(MigrationSource::Unsettled unsettled) {
  if (unsettled.answer != OutcomeAnswer::kForgotten) return open_.add(std::move(unsettled));
  unsettled.guest.set_purpose(ClaimPurpose::kForgotten);
  const std::lock_guard lock(mutex_);
  forgotten_.push_back(std::move(unsettled));
}

HandoverRecord Settler::located(HandoverRecord record) const {
  const auto peer = agent_.config.peers.find(record.to);
  if (peer != agent_.config.peers.end()) record.address = peer->second;
  return record;
}

Expected<void> Settler::forget(const std::string& guest) {
  auto unknown = open_.take_if([&](const MigrationSource::Unsettled& unsettled) {
    return unsettled.record.guest == guest && !unsettled.answer;
  });
  if (!unknown) {
    return fail(ErrorKind::kFailed,
                fmt::format("guest {} on {} does not wait for another host's word on what became "
                            "of it; see sluice guests",
                            guest, agent_.config.host));
  }
  const std::string to = unknown->record.to;
  const auto answer = ask_outcome(located(unknown->record), agent_.credentials);
  if (answer || answer.error().kind != ErrorKind::kUnreachable) {
    open_.add(std::move(*unknown));
    return fail(ErrorKind::kBusy,
                fmt::format("host {} is not gone, {}; guest {} waits for it", to,
                            answer ? "its agent answers" : answer.error().message, guest));
  }
  spdlog::critical(
      "guest {}: an operator says that host {}, to which it was committed, is gone for good: if "
      "that is not so, the guest may run twice",
      guest, to);
  unknown->answer = OutcomeAnswer::kForgotten;
  add(std::move(*unknown));
  return {};
}

bool Settler::is_forgotten(const std::string& guest) {
  const std::lock_guard lock(mutex_);
  return find_forgotten(guest) != forgotten_.end();
}

std::list<MigrationSource::Unsettled>::iterator Settler::find_forgotten(const std::string& guest) {
  return std::find_if(forgotten_.begin(), forgotten_.end(),
                      [&](const auto& unsettled) { return unsettled.record.guest == guest; });
}

Expected<void> Settler::obey(const std::string& guest, Order order, bool destination_is_gone) {
  // An order that failed is given again in the same words.
  if (destination_is_gone && !is_forgotten(guest)) {
    if (auto forgotten = forget(guest); !forgotten) return forgotten;
  }
  const std::lock_guard lock(mutex_);
  const auto found = find_forgotten(guest);
  if (found == forgotten_.end())
    return fail(ErrorKind::kNotFound, fmt::format("guest {} does not wait for an operator", guest));
  spdlog::warn("guest {}: an operator says that it is to {}", guest,
               order == Order::kResume ? "run on here" : "end");
  auto done = order == Order::kResume ? take_back(*found) : end(*found);
  if (!done) spdlog::error("guest {}: {}", guest, done.error().message);
  if (!found->guest.valid()) forgotten_.erase(found);
  return done;
}

bool Settler::settle(MigrationSource::Unsettled& unsettled) {
  const auto& record = unsettled.record;
  const bool first_time = !unsettled.answer;
  if (first_time) {
    const auto answer = ask_outcome(located(record), agent_.credentials);
    if (!answer && answer.error().kind != ErrorKind::kUnreachable)
      complain(unsettled, answer.error());
    if (!answer || *answer == OutcomeAnswer::kUndecided) return false;
    unsettled.answer = *answer;
  }
  Expected<void> done;
  switch (*unsettled.answer) {
    case OutcomeAnswer::kOwned:
      if (first_time)
        spdlog::warn("guest {} is owned by {}: the copy here is ended", record.guest, record.to);
      done = end(unsettled);
      break;
    case OutcomeAnswer::kNeverOwned:
      if (first_time)
        spdlog::warn("guest {} was never owned by {}: it runs on here", record.guest, record.to);
      done = take_back(unsettled);
      break;
    case OutcomeAnswer::kForgotten:
      spdlog::error("{}", forgotten_text(record));
      add(std::move(unsettled));
      return true;
    case OutcomeAnswer::kUndecided:
      return false;
  }
  if (!done) complain(unsettled, done.error());
  return !unsettled.guest.valid();
}

void Settler::complain(MigrationSource::Unsettled& unsettled, const Error& error) {
  if (unsettled.complaint == error.message) return;
  unsettled.complaint = error.message;
  spdlog::error("guest {}: {}; this is tried again", unsettled.record.guest, error.message);
}

// The guest runs on here, or has exited.
Expected<void> Settler::take_back(MigrationSource::Unsettled& unsettled) {
  auto& guest = unsettled.guest.guest();
  const bool is_twin = guest.phase() == guest::Phase::kIncoming;
  auto done = is_twin ? guest.resume() : guest.cancel_handover();
  if (!done && guest.alive()) return done;
  agent_.handovers.remove(unsettled.record.session);
  unsettled.guest.release();
  return done;
}

Expected<void> Settler::end(MigrationSource::Unsettled& unsettled) {
  auto done = unsettled.guest.destroy();
  // An agent that finds a guest handed over without a record lets it run again.
  if (done) agent_.handovers.remove(unsettled.record.session);
  return done;
}

}  // namespace sluice::agent
