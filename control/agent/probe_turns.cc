#include "control/agent/probe_turns.h"

#include <fmt/format.h>

namespace sluice::agent {

Expected<ProbeTurns::Turn> ProbeTurns::take(const std::string& peer,
                                            std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  const auto peer_has_turns = [&] {
    const auto found = of_peers_.find(peer);
    return found != of_peers_.end() && found->second == kOfPeerMax;
  };
  const bool free = given_back_.wait_for(lock, patience,
                                         [&] { return taken_ < kAtOnceMax && !peer_has_turns(); });
  if (!free && peer_has_turns()) {
    return fail(
        ErrorKind::kBusy,
        fmt::format("host {} has {} checks of its path to or from {} under way already; try "
                    "again when one has ended",
                    host_, kOfPeerMax, peer));
  }
  if (!free) {
    return fail(ErrorKind::kBusy,
                fmt::format("host {} has {} checks of paths under way, and keeps its other flows "
                            "for migrations; try again when one has ended",
                            host_, kAtOnceMax));
  }
  ++taken_;
  ++of_peers_[peer];
  return Turn(*this, peer);
}

void ProbeTurns::give_back(const std::string& peer) {
  {
    const std::lock_guard lock(mutex_);
    --taken_;
    const auto found = of_peers_.find(peer);
    if (--found->second == 0) of_peers_.erase(found);
  }
  given_back_.notify_all();
}

}  // namespace sluice::agent
