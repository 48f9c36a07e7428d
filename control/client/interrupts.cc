#include "control/client/interrupts.h"

#include <utility>

namespace sluice::client {

bool Interrupts::raise() {
  const std::scoped_lock lock(mutex_);
  if (raised_ || !action_) return false;
  raised_ = true;
  action_();
  return true;
}

bool Interrupts::raised() const {
  const std::scoped_lock lock(mutex_);
  return raised_;
}

Interrupts::Listener::Listener(Interrupts& interrupts, std::function<void()> action)
    : interrupts_(interrupts) {
  const std::scoped_lock lock(interrupts_.mutex_);
  interrupts_.action_ = std::move(action);
  if (interrupts_.raised_) interrupts_.action_();
}

Interrupts::Listener::~Listener() {
  const std::scoped_lock lock(interrupts_.mutex_);
  interrupts_.action_ = nullptr;
}

}  // namespace sluice::client
