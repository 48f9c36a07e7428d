// Small files that survive the machine's crash.
#pragma once

#include <cstdio>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <unistd.h>

#include "drivers/base/file_descriptor.h"

namespace sluice {

// What was made, renamed or removed in `directory` is so after a crash too.
[[nodiscard]] inline bool sync_directory(const std::string& directory) {
  const FileDescriptor opened(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return opened.valid() && fsync(opened.get()) == 0;
}

// After a crash `name` in `directory` holds what it held before, or all of `text`, which it holds
// for certain once this has returned true.
[[nodiscard]] inline bool write_durably(const std::string& directory, const std::string& name,
                                        std::string_view text) {
  const std::string path = directory + "/" + name;
  const std::string partial = path + ".partial";
  {
    const FileDescriptor file(
        open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    const auto size = static_cast<ssize_t>(text.size());
    if (!file.valid() || write(file.get(), text.data(), text.size()) != size ||
        fsync(file.get()) != 0)
      return false;
  }
  return std::rename(partial.c_str(), path.c_str()) == 0 && sync_directory(directory);
}

}  // namespace sluice
