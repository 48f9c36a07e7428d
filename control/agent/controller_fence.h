// Which controller this host obeys: of the journal whose controllers it has known first, or an
// operator has given it to since, the one with the highest epoch it has ever seen, and of several
// with that epoch the first.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "control/model/controller_identity.h"
#include "dataplane/base/expected.h"

namespace sluice::agent {

// Any thread. What is obeyed is kept in a file that outlives restarts and reboots.
class ControllerFence {
 public:
  struct Obeyed {
    std::uint64_t epoch = 0;
    std::string journal{};   // empty: no controller has said one yet, and the epoch alone counts
    std::string instance{};  // empty: it has not said one, and the journal and epoch alone count
    friend bool operator==(const Obeyed&, const Obeyed&) = default;
  };

  // Without the file no controller has been seen yet. kInvalid names a file that holds something
  // else.
  [[nodiscard]] static Expected<Obeyed> load(const std::string& state_directory);
  ControllerFence(std::string state_directory, Obeyed obeyed)
      : state_directory_(std::move(state_directory)), obeyed_(std::move(obeyed)) {}

  // kPermission for a lower epoch, another instance with the same epoch, or another journal that
  // does not replace the one that is obeyed; what is obeyed is on disk when this returns. The
  // directory must exist.
  [[nodiscard]] Expected<void> admit(const model::ControllerIdentity& controller);
  [[nodiscard]] Obeyed obeyed() const;

 private:
  [[nodiscard]] Expected<Obeyed> successor(const model::ControllerIdentity& controller) const;

  const std::string state_directory_;
  mutable std::mutex mutex_;
  Obeyed obeyed_;
};

}  // namespace sluice::agent
