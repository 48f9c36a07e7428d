#include "control/agent/controller_fence.h"

#include <fmt/format.h>
#include <fstream>

#include "drivers/base/durable_file.h"

namespace sluice::agent {
namespace {

constexpr const char* kFile = "controller-epoch";

}  // namespace

Expected<std::uint64_t> ControllerFence::load(const std::string& state_directory) {
  const std::string path = state_directory + "/" + kFile;
  std::ifstream file(path);
  if (!file) return 0;
  std::uint64_t epoch = 0;
  if (file >> epoch) return epoch;
  return fail(
      ErrorKind::kInvalid,
      fmt::format("{} does not hold a number; remove it if no old controller is left", path));
}

Expected<void> ControllerFence::admit(std::uint64_t epoch) {
  const std::lock_guard lock(mutex_);
  if (epoch < highest_) {
    return fail(ErrorKind::kPermission,
                fmt::format("a controller of epoch {} speaks, but one of epoch {} has taken over",
                            epoch, highest_));
  }
  if (epoch == highest_) return {};
  if (!write_durably(state_directory_, kFile, std::to_string(epoch))) {
    return fail(ErrorKind::kFailed,
                fmt::format("{}/{} cannot be written; nothing was done", state_directory_, kFile));
  }
  highest_ = epoch;
  return {};
}

std::uint64_t ControllerFence::highest() const {
  const std::lock_guard lock(mutex_);
  return highest_;
}

}  // namespace sluice::agent
