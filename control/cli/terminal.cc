#include "control/cli/terminal.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace sluice::cli {

int exit_status(const Error& error) {
  return error.kind == ErrorKind::kUnknownOutcome ? kExitUnknown : kExitFailed;
}

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

int Terminal::fail(const Error& error) const {
  err << "sluice: " << error.message << std::endl;
  const int status = exit_status(error);
  if (json) {
    const nlohmann::ordered_json document = {
        {"status", status == kExitUnknown ? "unknown" : "failed"}, {"error", error.message}};
    out << document.dump() << std::endl;
  }
  return status;
}

}  // namespace sluice::cli
