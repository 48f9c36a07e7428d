// For tests alone: an agent that stops at a named step of a handover, so that something can be
// killed there. Configured by [test] hold_dir; an agent without that table never holds.
#pragma once

#include <string>
#include <string_view>

namespace sluice::agent {

// Any thread.
class StepHolds {
 public:
  // Holds are files in `directory`, an absolute path; empty: there are none, and reached() costs
  // nothing.
  explicit StepHolds(std::string directory) : directory_(std::move(directory)) {}

  // While DIRECTORY/hold-STEP exists: makes DIRECTORY/held-STEP and returns once the hold is gone.
  // `step` is a name of control/model/handover_steps.h.
  void reached(std::string_view step) const {
    if (!directory_.empty()) hold(step);
  }

 private:
  void hold(std::string_view step) const;

  const std::string directory_;
};

}  // namespace sluice::agent
