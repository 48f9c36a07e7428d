// Which run an operator means.
#pragma once

#include <string>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::controller {

struct RunName {
  std::string id;
  std::string name;  // of its plan
  bool ended = false;
};

// What an operator may mean who names no run.
enum class Unnamed {
  kActive = 1,   // the one that has not ended: for what changes it
  kActiveOrLast  // or, if all have, the latest: for what only looks
};

// `runs` in the order in which they began. kNotFound names those that there are; kInvalid those of
// which one must be named.
[[nodiscard]] Expected<std::string> choose_run(const std::vector<RunName>& runs,
                                               const std::string& asked, Unnamed unnamed);

}  // namespace sluice::controller
