// Which controller this host obeys: the one with the highest epoch it has ever seen.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "dataplane/base/expected.h"

namespace sluice::agent {

// Any thread. The epoch is kept in a file that outlives restarts and reboots.
class ControllerFence {
 public:
  // Without the file no controller has been seen yet. kInvalid names a
  // file that holds something else.
  [[nodiscard]] static Expected<std::uint64_t> load(const std::string& state_directory);
  ControllerFence(std::string state_directory, std::uint64_t highest)
      : state_directory_(std::move(state_directory)), highest_(highest) {}

  // kPermission for an epoch lower than the highest; a higher one is on disk when this returns. The
  // directory must exist.
  [[nodiscard]] Expected<void> admit(std::uint64_t epoch);
  [[nodiscard]] std::uint64_t highest() const;

 private:
  const std::string state_directory_;
  mutable std::mutex mutex_;
  std::uint64_t highest_;
};

}  // namespace sluice::agent
