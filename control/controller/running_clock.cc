#include "control/controller/running_clock.h"

#include <utility>

namespace sluice::controller {

RunningClock::RunningClock(Source source)
    : source_(std::move(source)),
      looked_(source_()),
      thread_([this](const std::stop_token& stop) { keep_looking(stop); }) {}

RunningClock::TimePoint RunningClock::now() {
  const std::lock_guard lock(mutex_);
  return look();
}

RunningClock::Duration RunningClock::stood_still() {
  const std::lock_guard lock(mutex_);
  static_cast<void>(look());
  return left_out_;
}

RunningClock::TimePoint RunningClock::look() {
  const Steady::time_point now = source_();
  if (now - looked_ > kGap) left_out_ += now - looked_;
  looked_ = now;
  return TimePoint(now.time_since_epoch() - left_out_);
}

void RunningClock::keep_looking(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    static_cast<void>(look());
    stopping_.wait_for(lock, stop, std::chrono::seconds(1), [] { return false; });
  }
}

}  // namespace sluice::controller
