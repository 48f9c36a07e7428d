// Keeps the controller's lease, whatever else the controller waits for.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "control/store/journal.h"

namespace sluice::controller {

struct LeaseTimes {
  std::chrono::milliseconds length{10'000};
  std::chrono::milliseconds renewed_every{2'000};
  std::chrono::milliseconds tried_again_after{200};
};

// Any thread. `journal` outlives it.
class LeaseKeeper {
 public:
  // Told once, from the keeper's own thread, when somebody else has taken the lease, or it has run
  // out before it could be renewed: a journal that is busy or full for a while takes nothing away.
  using OnLost = std::function<void(const std::string& message)>;

  // Of a lease that was taken at `taken_ms`, by the wall clock.
  LeaseKeeper(store::Journal& journal, std::uint64_t epoch, store::TimeMs taken_ms, OnLost on_lost,
              LeaseTimes times = {});
  // Renews it no more.
  ~LeaseKeeper() = default;
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

  // Until it runs out nobody else can have taken it. Once it has, somebody may, also if this
  // process was only stopped for a while.
  [[nodiscard]] bool held() const;
  // Renews it no more; not from `on_lost`.
  void stop();

 private:
  void keep(const std::stop_token& stop);

  store::Journal& journal_;
  const std::uint64_t epoch_;
  const OnLost on_lost_;
  const LeaseTimes times_;
  std::atomic<store::TimeMs> until_ms_;
  std::mutex mutex_;
  std::condition_variable_any stopping_;
  std::jthread thread_;  // last: it uses all of the above
};

// Milliseconds since the Unix epoch.
[[nodiscard]] store::TimeMs wall_clock_ms();

}  // namespace sluice::controller
