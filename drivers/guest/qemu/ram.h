// The guest's RAM: making it as an anonymous file that QEMU maps, and finding it again in a QEMU
// that runs already.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/expected.h"
#include "drivers/base/file_descriptor.h"

namespace sluice::guest::qemu {

// One shared file mapping of a process; neighbouring pieces of one file are joined.
struct SharedMapping {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t file_offset = 0;
  std::uint64_t device = 0;  // as stat() gives it
  std::uint64_t inode = 0;
};

struct Ram {
  FileDescriptor fd;
  std::uint64_t file_offset = 0;
  std::uint64_t guest_address = 0;  // of the mapping in the guest's process
};

// A memfd of `bytes` named sluice-ram-GUEST; nothing of it is populated. kNoCapacity if there is no
// room for it.
[[nodiscard]] Expected<FileDescriptor> make_ram(const std::string& guest, std::uint64_t bytes);

// The writable shared mappings in the text of /proc/PID/maps.
[[nodiscard]] std::vector<SharedMapping> parse_shared_mappings(std::istream& maps);

// The one shared mapping of exactly `bytes` in process `pid`, its file opened anew through /proc.
// kUnsupported if there is none or more than one.
[[nodiscard]] Expected<Ram> find_ram(pid_t pid, std::uint64_t bytes);

}  // namespace sluice::guest::qemu
