// The thread that stands for a memory guest's work: it rewrites pages at a steady rate.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "dataplane/base/units.h"
#include "drivers/guest/memory/contents.h"

namespace sluice::guest::memory {

// Threads: one at a time may call run(), pause() and stop(). Contents belong to the writer while it
// runs.
class Writer {
 public:
  // At rate 0 there is no thread and run() and pause() only keep the books.
  Writer(Contents& contents, std::uint64_t bytes_per_second);
  ~Writer() { stop(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Writes from now on; time spent paused is not caught up with.
  void run();
  // At the return no page is being written and none will be until run(). Returns when the guest
  // stopped (CLOCK_MONOTONIC): the time of the call, which the page under way can only end later
  // than.
  TimeNs pause();
  // Ends the thread; run() may start it again.
  void stop();

 private:
  void loop();
  // Writes what is due, until paused.
  void burst(TimeNs now);

  Contents& contents_;
  const std::uint64_t bytes_per_second_;

  std::mutex mutex_;  // held while writing, so that taking it means that no page is half written
  std::condition_variable wake_;
  std::atomic<bool> pause_requested_{true};  // read for every page, without the mutex
  bool stopping_ = false;
  TimeNs origin_ns_ = 0;       // of the schedule
  std::uint64_t written_ = 0;  // pages since origin_ns_
  std::thread thread_;
};

}  // namespace sluice::guest::memory
