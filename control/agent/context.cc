#include "control/agent/context.h"

namespace sluice::agent {

DowntimeFloors::Floor DowntimeFloors::of(const std::string& driver) const {
  const std::lock_guard lock(mutex_);
  const auto found = floors_.find(driver);
  return found == floors_.end() ? Floor{} : found->second;
}

void DowntimeFloors::measured(const std::string& driver, TimeNs fixed_ns, TimeNs proof_ns) {
  const std::lock_guard lock(mutex_);
  Floor& floor = floors_[driver];
  // Half of the newest figure: one outlier fades within a few migrations.
  floor.fixed_ns = (floor.fixed_ns + fixed_ns) / 2;
  floor.proof_ns = (floor.proof_ns + proof_ns) / 2;
}

}  // namespace sluice::agent
