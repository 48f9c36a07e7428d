#include "control/controller/lease_keeper.h"

#include <spdlog/spdlog.h>
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
      thread_([this](const std::stop_token& stop) { keep(stop); }) {}

bool LeaseKeeper::held() const { return wall_clock_ms() < until_ms_; }

void LeaseKeeper::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void LeaseKeeper::keep(const std::stop_token& stop) {
  auto pause = times_.renewed_every;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      stopping_.wait_for(lock, stop, pause, [] { return false; });
    }
    if (stop.stop_requested()) return;
    const store::TimeMs now_ms = wall_clock_ms();
    const auto renewed = journal_.renew_lease(epoch_, now_ms, times_.length.count());
    if (renewed) {
      until_ms_ = now_ms + times_.length.count();
    } else if (renewed.error().kind == ErrorKind::kPermission || !held()) {
      return on_lost_(renewed.error().message);
    } else if (pause == times_.renewed_every) {
      spdlog::warn("the lease was not renewed, and is tried again: {}", renewed.error().message);
    }
    pause = renewed ? times_.renewed_every : times_.tried_again_after;
  }
}

}  // namespace sluice::controller
