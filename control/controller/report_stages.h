// What the stages of a run took, over all of its hosts, against what was expected of them when it
// was admitted. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/patch/run.h"

namespace sluice::controller {

// Sums over the hosts that have gone through it; times in which several of them did count for each.
struct StageSum {
  std::string name;
  std::uint32_t hosts = 0;
  double measured_seconds = 0;
  std::optional<patch::Estimate> expected{};  // none: it depends on what nobody can know before
};

// In their order, those that some host has gone through. `records` are all of `run`'s.
[[nodiscard]] std::vector<StageSum> stages_of(const patch::Run& run,
                                              const std::vector<patch::Record>& records);

// From its patch's beginning to its canary's end, of each host that went so far.
[[nodiscard]] std::vector<double> patch_seconds(const std::vector<patch::Record>& records);

// Of those that something was expected of.
[[nodiscard]] StageSum sum_of_expected(const std::vector<StageSum>& stages);

}  // namespace sluice::controller
