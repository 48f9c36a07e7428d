// Time in which this process ran. What it stood still (stopped, suspended with its machine, starved
// of memory) is left out: nobody's silence counts while nobody listened.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace sluice::controller {

// Any thread.
class RunningClock {
 public:
  using Steady = std::chrono::steady_clock;
  using Duration = Steady::duration;
  // No clock of the process's own: moments of others cannot be compared with these.
  using TimePoint = std::chrono::time_point<RunningClock, Duration>;
  using Source = std::function<Steady::time_point()>;
  // Who has not looked at the clock for so long stood still.
  static constexpr std::chrono::seconds kGap{5};

  // Looks at it once a second itself, however busy others are.
  explicit RunningClock(Source source = Steady::now);

  [[nodiscard]] TimePoint now();
  // What was left out so far.
  [[nodiscard]] Duration stood_still();

 private:
  [[nodiscard]] TimePoint look();
  void keep_looking(const std::stop_token& stop);

  const Source source_;
  std::mutex mutex_;
  std::condition_variable_any stopping_;
  Steady::time_point looked_;
  Duration left_out_{};
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace sluice::controller
