// What ends a wait that a person has had enough of.
#pragma once

#include <functional>
#include <mutex>

namespace sluice::client {

// Ctrl-C. Any thread may raise it; one command at a time listens.
class Interrupts {
 public:
  // True if a command listens and this is its first interrupt; otherwise the process should end.
  bool raise();
  [[nodiscard]] bool raised() const;

  // Calls `action` (once, from the raising thread) while it lives; at once if raised already.
  class Listener {
   public:
    Listener(Interrupts& interrupts, std::function<void()> action);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

   private:
    Interrupts& interrupts_;
  };

 private:
  mutable std::mutex mutex_;
  bool raised_ = false;
  std::function<void()> action_;
};

}  // namespace sluice::client
