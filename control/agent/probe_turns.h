// How many paths a host's workers may probe at once: migrations always find room beside them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "control/agent/flow_plan.h"
#include "dataplane/base/expected.h"
#include "dataplane/engine/commands.h"

namespace sluice::agent {

// Of one direction. Any thread.
class ProbeTurns {
 public:
  static constexpr std::size_t kAtOnceMax = 4;
  static constexpr std::size_t kOfPeerMax = 2;
  // A check lasts for tenths of a second; eight seconds where nothing arrives, and a controller may
  // ask for eight at once.
  static constexpr std::chrono::seconds kPatience{9};

  explicit ProbeTurns(std::string host) : host_(std::move(host)) {}

  // Given back when it is destroyed.
  class Turn {
   public:
    Turn(ProbeTurns& turns, std::string peer) : turns_(&turns), peer_(std::move(peer)) {}
    Turn(Turn&& other) noexcept
        : turns_(std::exchange(other.turns_, nullptr)), peer_(std::move(other.peer_)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->give_back(peer_);
    }

   private:
    ProbeTurns* turns_;
    std::string peer_;
  };
  // The right to one session of probes with `peer`. kBusy if there is none within `patience`.
  [[nodiscard]] Expected<Turn> take(const std::string& peer,
                                    std::chrono::milliseconds patience = kPatience);

 private:
  void give_back(const std::string& peer);

  const std::string host_;
  std::mutex mutex_;
  std::condition_variable given_back_;
  std::size_t taken_ = 0;
  std::map<std::string, std::size_t> of_peers_;
};

// Half of a worker's flows are left at the least.
static_assert(2 * ProbeTurns::kAtOnceMax * kFlowsPerWorkerMax <= engine::kFlowsMax);

}  // namespace sluice::agent
