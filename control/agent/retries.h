// Work that is tried again once a second until it is done, by a thread of its own.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <iterator>
#include <list>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

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
      due_.push_back(std::move(item));
    }
    changed_.notify_all();
  }

  // The first item for which `wanted` holds, which is tried no more; nothing if there is none.
  // Waits for an attempt that is under way.
  [[nodiscard]] std::optional<Item> take_if(const std::function<bool(const Item&)>& wanted) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !trying_; });
    for (auto* items : {&due_, &tried_}) {
      const auto found = std::find_if(items->begin(), items->end(), wanted);
      if (found == items->end()) continue;
      std::optional<Item> taken(std::move(*found));
      items->erase(found);
      return taken;
    }
    return std::nullopt;
  }

 private:
  static constexpr std::chrono::seconds kInterval{1};

  void loop(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      changed_.wait(lock, stop, [&] { return !due_.empty() || !tried_.empty(); });
      if (due_.empty()) {
        changed_.wait_for(lock, stop, kInterval, [&] { return !due_.empty(); });
        std::move(tried_.begin(), tried_.end(), std::back_inserter(due_));
        tried_.clear();
      }
      while (!due_.empty() && !stop.stop_requested()) try_first(lock);
    }
  }

  void try_first(std::unique_lock<std::mutex>& lock) {
    std::optional<Item> item(std::move(due_.front()));
    due_.pop_front();
    trying_ = true;
    lock.unlock();
    if (try_once_(*item)) item.reset();
    lock.lock();
    trying_ = false;
    if (item) tried_.push_back(std::move(*item));
    changed_.notify_all();
  }

  const std::function<bool(Item&)> try_once_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::list<Item> due_;
  std::list<Item> tried_;  // in this round
  bool trying_ = false;    // one that is in neither list
  std::jthread thread_;    // last: it uses all of the above
};

}  // namespace sluice::agent
