// Work that is tried again once a second until it is done, by a thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <iterator>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace sluice::agent {

// Any thread. What is not done when it is destroyed is dropped.
template <typename Item>
class Retries {
 public:
  // `try_once` says whether the item is done with; the thread that calls it is this object's.
  explicit Retries(std::function<bool(Item&)> try_once)
      : try_once_(std::move(try_once)),
        thread_([this](const std::stop_token& stop) { loop(stop); }) {}

  // Tried at once.
  void add(Item item) {
    {
      const std::lock_guard lock(mutex_);
      items_.push_back(std::move(item));
    }
    changed_.notify_all();
  }

 private:
  static constexpr std::chrono::seconds kInterval{1};

  void loop(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      changed_.wait(lock, stop, [&] { return !items_.empty(); });
      auto tried = std::exchange(items_, {});
      lock.unlock();
      std::erase_if(tried, [&](Item& item) { return stop.stop_requested() || try_once_(item); });
      lock.lock();
      const bool more_came = !items_.empty();
      std::move(tried.begin(), tried.end(), std::back_inserter(items_));
      if (!more_came) changed_.wait_for(lock, stop, kInterval, [] { return false; });
    }
  }

  const std::function<bool(Item&)> try_once_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Item> items_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace sluice::agent
