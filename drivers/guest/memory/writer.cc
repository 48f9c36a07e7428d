#include "drivers/guest/memory/writer.h"

#include <chrono>

#include "drivers/base/clock.h"

namespace sluice::guest::memory {
namespace {

// Between bursts: at 200 MB/s a burst is 24 pages, well below what an iteration of pre-copy can
// notice.
constexpr TimeNs kTickNs = 500 * kMicrosecondNs;
// A writer that was held up (write-protection faults, busy cores) catches up with at most this
// much.
constexpr TimeNs kArrearsNs = 20 * kMillisecondNs;

std::uint64_t pages_in(TimeNs duration_ns, std::uint64_t bytes_per_second) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(duration_ns) * bytes_per_second /
                                    (kSecondNs * kPageBytes));
}

}  // namespace

Writer::Writer(Contents& contents, std::uint64_t bytes_per_second)
    : contents_(contents), bytes_per_second_(bytes_per_second) {}

void Writer::run() {
  if (bytes_per_second_ == 0) return;
  {
    const std::scoped_lock lock(mutex_);
    origin_ns_ = monotonic_now_ns();
    written_ = 0;
    pause_requested_ = false;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  wake_.notify_one();
}

TimeNs Writer::pause() {
  const TimeNs stopped_at_ns = monotonic_now_ns();
  pause_requested_ = true;
  const std::scoped_lock lock(mutex_);
  return stopped_at_ns;
}

void Writer::stop() {
  pause();
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  stopping_ = false;
}

void Writer::loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (pause_requested_) {
      wake_.wait(lock, [this] { return stopping_ || !pause_requested_; });
      continue;
    }
    const TimeNs now = monotonic_now_ns();
    burst(now);
    const TimeNs next_tick_ns = now - (now - origin_ns_) % kTickNs + kTickNs;
    // steady_clock is CLOCK_MONOTONIC.
    wake_.wait_until(lock,
                     std::chrono::steady_clock::time_point(std::chrono::nanoseconds(next_tick_ns)),
                     [this] { return stopping_; });
  }
}

void Writer::burst(TimeNs now) {
  // origin_ns_ is set before the thread's clock is read, so the difference is never negative.
  std::uint64_t due = pages_in(now - origin_ns_, bytes_per_second_);
  const std::uint64_t most = pages_in(kArrearsNs, bytes_per_second_) + 1;
  if (due - written_ > most) {
    origin_ns_ = now - kArrearsNs;
    written_ = 0;
    due = pages_in(kArrearsNs, bytes_per_second_);
  }
  for (; written_ < due && !pause_requested_; ++written_) contents_.rewrite_next();
}

}  // namespace sluice::guest::memory
