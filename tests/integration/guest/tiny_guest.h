// A guest of a few bytes of real-mode code for tests with a real QEMU: it counts in RAM, where a
// test reads it through the shared memory, and rewrites some pages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "drivers/guest/guest.h"

namespace sluice::guest::qemu::test {

// A directory of its own on tmpfs, as an agent has, removed with its content at the end.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();
  [[nodiscard]] const std::string& path() const { return path_; }
  // Makes and names a host's run directory.
  [[nodiscard]] HostContext host(const std::string& name) const;

 private:
  std::string path_;
};

// A ROM that counts without a pause; it needs no firmware and so runs on every machine type.
[[nodiscard]] Definition busy_guest(const ScratchDirectory& scratch, const std::string& machine);
// A boot sector on a disk, started by SeaBIOS, that counts the timer's ticks and sleeps between
// them. Both twins open the same disk image, so QEMU's image locks are in play.
[[nodiscard]] Definition idle_guest(const ScratchDirectory& scratch, const std::string& machine);

// The guest's counter, read in its RAM.
[[nodiscard]] std::uint32_t counter_of(const Guest& guest);
// True when the counter changes within a generous time.
[[nodiscard]] bool counts_on(const Guest& guest);
// What the migration does: all of the source's RAM into the destination's.
void copy_memory(const Guest& source, const Guest& destination);

}  // namespace sluice::guest::qemu::test
