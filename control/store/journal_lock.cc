#include "control/store/journal_lock.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace sluice::store {

Expected<JournalLock> JournalLock::take(const std::string& journal, const std::string& controller) {
  std::string name = controller;
  std::replace(name.begin(), name.end(), '/', '_');
  const std::string path = fmt::format("{}.{}.lock", journal, name);
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return fail(ErrorKind::kPermission, fmt::format("{} cannot be opened: {}", path,
                                                    std::generic_category().message(errno)));
  }
  JournalLock lock(descriptor);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    std::string holder = "?";
    std::ifstream(path) >> holder;
    return fail(ErrorKind::kBusy,
                fmt::format("another controller {} (pid {}) runs on the journal {}; stop that one "
                            "first, or give this one a name of its own",
                            controller, holder, journal));
  }
  const std::string self = fmt::format("{}\n", getpid());
  if (ftruncate(descriptor, 0) != 0 ||
      pwrite(descriptor, self.data(), self.size(), 0) != static_cast<ssize_t>(self.size())) {
    return fail(ErrorKind::kNoCapacity, fmt::format("{} cannot be written: {}", path,
                                                    std::generic_category().message(errno)));
  }
  return lock;
}

JournalLock::~JournalLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

JournalLock::JournalLock(JournalLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

}  // namespace sluice::store
