// How long the threads of guests wait for a core: what a guest's own kernel counts as steal time,
// seen from outside.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <sys/types.h>

namespace sluice::agent {

// Of a thread since it began.
struct CoreTime {
  std::uint64_t ran_ns = 0;
  std::uint64_t waited_ns = 0;  // ready to run, and not running
};

// By thread, which have numbers of their own on the whole host.
using CoreTimes = std::map<pid_t, CoreTime>;

// Of a process's threads, from /proc/PID/task/*/schedstat; empty if there is no such process, or
// the kernel does not count.
[[nodiscard]] CoreTimes core_times_of(pid_t pid);

// Pure; one thread.
class WaitedShare {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kWindow{60};

  // What the threads of all guests had used at `now`, which never goes back. They come and go.
  void note(Time now, CoreTimes times);
  // Of the time that those threads wanted a core within the last minute, the share that they
  // waited for one. Nothing before two notes, or if they wanted less than half a second: that
  // says nothing.
  [[nodiscard]] std::optional<double> share() const;

 private:
  struct Note {
    Time at;
    CoreTimes times;
  };
  std::deque<Note> notes_;
};

}  // namespace sluice::agent
