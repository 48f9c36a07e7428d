#include "control/controller/lease_keeper.h"

#include <utility>

namespace sluice::controller {

store::TimeMs wall_clock_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

LeaseKeeper::LeaseKeeper(store::Journal& journal, std::uint64_t epoch, store::TimeMs taken_ms,
                         OnLost on_lost, LeaseTimes times)
    : journal_(journal),
      epoch_(epoch),
      on_lost_(std::move(on_lost)),
      times_(times),
      until_ms_(taken_ms + times.length.count()),
      thread_([this](const std::stop_token& stop) { renew(stop); }) {}

bool LeaseKeeper::held() const { return wall_clock_ms() < until_ms_; }

void LeaseKeeper::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void LeaseKeeper::renew(const std::stop_token& stop) {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      stopping_.wait_for(lock, stop, times_.renewed_every, [] { return false; });
    }
    if (stop.stop_requested()) return;
    const store::TimeMs now_ms = wall_clock_ms();
    if (auto renewed = journal_.renew_lease(epoch_, now_ms, times_.length.count()); !renewed)
      return on_lost_(renewed.error().message);
    until_ms_ = now_ms + times_.length.count();
  }
}

}  // namespace sluice::controller
