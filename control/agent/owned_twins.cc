#include "control/agent/owned_twins.h"

#include <spdlog/spdlog.h>
#include <utility>

namespace sluice::agent {

OwnedTwins::OwnedTwins(OutcomeRecords& outcomes)
    : outcomes_(outcomes), twins_([this](Twin& twin) { return let_run(twin); }) {}

void OwnedTwins::take(GuestClaim twin, std::uint64_t session) {
  // Whoever held it before may not be called about it any more.
  twin.on_exit([] {});
  twins_.add({std::move(twin), session});
}

bool OwnedTwins::let_run(Twin& twin) {
  const std::string name = twin.claim.name();
  auto& guest = twin.claim.guest();
  if (!guest.alive()) {
    spdlog::error("guest {} was committed to this host and has exited: it may have run", name);
    outcomes_.mark_running(twin.session);
    twin.claim.release();
    return true;
  }
  const auto resumed = guest.resume();
  if (resumed) {
    spdlog::info("guest {} was committed to this host: it runs", name);
    outcomes_.mark_running(twin.session);
    guest.announce();
    twin.claim.release();
    return true;
  }
  if (resumed.error().kind != ErrorKind::kFailed) {
    if (!std::exchange(twin.complained, true)) {
      spdlog::error(
          "guest {} was committed to this host and may run or not: {}; its source keeps its copy "
          "paused, and this agent tries again until the guest answers",
          name, resumed.error().message);
    }
    return false;
  }
  spdlog::error(
      "guest {} was committed to this host and never ran: {}; its twin is ended, and its source "
      "has it back",
      name, resumed.error().message);
  outcomes_.disown(twin.session);
  if (auto destroyed = twin.claim.destroy(); !destroyed)
    spdlog::error("guest {}: its twin could not be ended: {}", name, destroyed.error().message);
  // Last: while the twin is there the outcome stays undecided.
  outcomes_.discard(twin.session);
  return true;
}

}  // namespace sluice::agent
