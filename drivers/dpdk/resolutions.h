// Requests for MAC addresses that wait for an answer from the link.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "dataplane/wire/address.h"

namespace sluice::dpdk {

// Any thread.
class Resolutions {
 public:
  // A number for a new request, never 0.
  [[nodiscard]] std::uint64_t open() {
    const std::lock_guard lock(mutex_);
    answers_[++last_] = std::nullopt;
    return last_;
  }
  // An answer has come. One to a request that nobody waits for any more is dropped.
  void settle(std::uint64_t id, const wire::MacAddress& mac) {
    const std::lock_guard lock(mutex_);
    if (const auto found = answers_.find(id); found != answers_.end()) {
      found->second = mac;
      changed_.notify_all();
    }
  }
  // nullopt if none has come in this time.
  [[nodiscard]] std::optional<wire::MacAddress> await(std::uint64_t id,
                                                      std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [&] { return answers_[id].has_value(); });
    return answers_[id];
  }
  void close(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    answers_.erase(id);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, std::optional<wire::MacAddress>> answers_;
};

}  // namespace sluice::dpdk
