#include "control/agent/controller_fence.h"

#include <cstdio>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <unistd.h>

#include "drivers/base/file_descriptor.h"

namespace sluice::agent {
namespace {

bool write_durably(const std::string& path, const std::string& text) {
  const std::string partial = path + ".partial";
  {
    const FileDescriptor file(
        open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    const auto size = static_cast<ssize_t>(text.size());
    if (!file.valid() || write(file.get(), text.data(), text.size()) != size ||
        fsync(file.get()) != 0)
      return false;
  }
  return std::rename(partial.c_str(), path.c_str()) == 0;
}

}  // namespace

Expected<std::uint64_t> ControllerFence::load(const std::string& state_directory) {
  const std::string path = state_directory + "/controller-epoch";
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
  if (!write_durably(path_, std::to_string(epoch)))
    return fail(ErrorKind::kFailed, fmt::format("{} cannot be written; nothing was done", path_));
  highest_ = epoch;
  return {};
}

std::uint64_t ControllerFence::highest() const {
  const std::lock_guard lock(mutex_);
  return highest_;
}

}  // namespace sluice::agent
