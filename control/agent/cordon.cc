#include "control/agent/cordon.h"

#include <fmt/format.h>

namespace sluice::agent {

void Cordon::told(const std::string& out_of_service, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  out_of_service_ = out_of_service;
  told_ = now;
}

Expected<void> Cordon::admit(bool by_controller, Clock::time_point now) const {
  const std::lock_guard lock(mutex_);
  if (by_controller || out_of_service_.empty() || now - told_ > kHolds) return {};
  return fail(ErrorKind::kBusy,
              fmt::format("host {} takes no guests: it is {}; choose another one, or first give it "
                          "back: sluice uncordon {}",
                          host_, out_of_service_, host_));
}

}  // namespace sluice::agent
