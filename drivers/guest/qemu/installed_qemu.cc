#include "drivers/guest/qemu/installed_qemu.h"

#include <sys/stat.h>

#include "drivers/guest/qemu/movability.h"
#include "drivers/guest/qemu/process.h"

namespace sluice::guest::qemu {
namespace {

constexpr TimeNs kAnswerTimeoutNs = 5 * kSecondNs;

}  // namespace

std::string InstalledQemu::version() {
  const auto path = find_executable(binary_);
  const Stamp stamp = path ? stamp_of(*path) : Stamp{};
  const std::lock_guard lock(mutex_);
  if (stamp == asked_) return version_;
  version_.clear();
  asked_ = {};
  if (stamp == Stamp{}) return version_;
  const auto answer = run_and_capture({*path, "--version"}, kAnswerTimeoutNs);
  if (!answer) return version_;  // asked again
  const QemuVersion found = parse_version(*answer);
  version_ = found.major == 0 ? "" : to_text(found);
  asked_ = stamp;
  return version_;
}

bool InstalledQemu::is(const std::string& binary) const {
  if (binary == binary_) return true;
  const auto path = find_executable(binary_);
  return path && *path == binary;
}

InstalledQemu::Stamp InstalledQemu::stamp_of(const std::string& path) {
  struct stat about {};
  if (stat(path.c_str(), &about) != 0) return {};
  return {about.st_dev, about.st_ino, about.st_size, about.st_mtim.tv_sec, about.st_mtim.tv_nsec};
}

}  // namespace sluice::guest::qemu
