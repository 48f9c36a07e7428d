// Measures the guests of a host while they are at rest, one after the other, on a thread of its
// own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "control/agent/guest_registry.h"
#include "control/agent/waiting_time.h"

namespace sluice::agent {

class GuestMeter {
 public:
  // Samples the memory of each guest (memory_sample.h) whose figures are older than `interval`, and
  // of one that has none once it has been here for half a minute, or for `interval`; never while a
  // guest of this host moves. 0: never at all. `registry` outlives it.
  GuestMeter(GuestRegistry& registry, std::chrono::seconds interval);
  // Waits for a few milliseconds at most.
  ~GuestMeter() = default;
  GuestMeter(const GuestMeter&) = delete;
  GuestMeter& operator=(const GuestMeter&) = delete;

  // As WaitedShare::share(), of the guests that are processes of their own. Any thread.
  [[nodiscard]] std::optional<double> waited_share() const;

 private:
  using Clock = std::chrono::steady_clock;
  void run(const std::stop_token& stop);
  void note_waiting();
  // The guest whose turn it is; empty: nobody's.
  [[nodiscard]] std::string next_due(Clock::time_point now);
  void sample(const std::stop_token& stop, const std::string& guest);

  GuestRegistry& registry_;
  const std::chrono::seconds interval_;
  std::map<std::string, Clock::time_point> tried_;  // or first seen here; its thread alone
  mutable std::mutex mutex_;
  std::condition_variable_any stopping_;
  WaitedShare waited_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace sluice::agent
