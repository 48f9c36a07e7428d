// Whether people may bring guests to this host. Its controller says so whenever it asks how the
// host is.
#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include "dataplane/base/expected.h"

namespace sluice::agent {

// Any thread.
class Cordon {
 public:
  using Clock = std::chrono::steady_clock;
  // A controller that is not heard of for so long leaves the host to people.
  static constexpr std::chrono::seconds kHolds{60};

  explicit Cordon(std::string host) : host_(std::move(host)) {}

  // A controller's word: what the host is, as "cordoned by run r3"; empty: in service.
  void told(const std::string& out_of_service, Clock::time_point now);
  // kBusy if the host is out of service, but for what a controller itself brings.
  [[nodiscard]] Expected<void> admit(bool by_controller, Clock::time_point now) const;

 private:
  const std::string host_;
  mutable std::mutex mutex_;
  std::string out_of_service_;
  Clock::time_point told_;
};

}  // namespace sluice::agent
