#include "drivers/guest/qemu/ram.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <system_error>

namespace sluice::guest::qemu {
namespace {

// One line of /proc/PID/maps (proc(5)); nothing unless it is a writable shared mapping of a file.
std::optional<SharedMapping> parse_line(const std::string& line) {
  unsigned long long start = 0;
  unsigned long long end = 0;
  unsigned long long offset = 0;
  unsigned long long inode = 0;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  char permissions[5] = {};
  // NOLINTNEXTLINE(cert-err34-c): the kernel wrote the line
  const int fields = std::sscanf(line.c_str(), "%llx-%llx %4s %llx %x:%x %llu", &start, &end,
                                 permissions, &offset, &device_major, &device_minor, &inode);
  if (fields != 7 || permissions[1] != 'w' || permissions[3] != 's' || inode == 0)
    return std::nullopt;
  return SharedMapping{start, end - start, offset, makedev(device_major, device_minor), inode};
}

bool continues(const SharedMapping& first, const SharedMapping& second) {
  return first.device == second.device && first.inode == second.inode &&
         first.address + first.bytes == second.address &&
         first.file_offset + first.bytes == second.file_offset;
}

Expected<FileDescriptor> open_mapped_file(pid_t pid, const SharedMapping& mapping) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    struct stat status {};
    if (stat(entry.path().c_str(), &status) != 0 || status.st_ino != mapping.inode ||
        status.st_dev != mapping.device)
      continue;
    FileDescriptor fd(open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
    if (fd.valid()) return fd;
  }
  return fail(ErrorKind::kPermission, "cannot open the RAM of process " + std::to_string(pid) +
                                          " through /proc; run the agent as root");
}

}  // namespace

Expected<FileDescriptor> make_ram(const std::string& guest, std::uint64_t bytes) {
  FileDescriptor fd(memfd_create(("sluice-ram-" + guest).c_str(), MFD_CLOEXEC));
  if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return fail(ErrorKind::kNoCapacity,
                "cannot make the RAM of guest " + guest + ": " + std::strerror(errno));
  }
  return fd;
}

std::vector<SharedMapping> parse_shared_mappings(std::istream& maps) {
  std::vector<SharedMapping> mappings;
  for (std::string line; std::getline(maps, line);) {
    const auto mapping = parse_line(line);
    if (!mapping) continue;
    if (!mappings.empty() && continues(mappings.back(), *mapping)) {
      mappings.back().bytes += mapping->bytes;
    } else {
      mappings.push_back(*mapping);
    }
  }
  return mappings;
}

Expected<Ram> find_ram(pid_t pid, std::uint64_t bytes) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  const SharedMapping* found = nullptr;
  const std::vector<SharedMapping> mappings = parse_shared_mappings(maps);
  for (const SharedMapping& mapping : mappings) {
    if (mapping.bytes != bytes) continue;
    if (found != nullptr) {
      return fail(ErrorKind::kUnsupported,
                  "process " + std::to_string(pid) +
                      " maps more than one shared file of the guest's RAM size");
    }
    found = &mapping;
  }
  if (found == nullptr) {
    return fail(ErrorKind::kUnsupported, "process " + std::to_string(pid) +
                                             " does not map its guest's RAM as one shared file");
  }
  auto fd = open_mapped_file(pid, *found);
  if (!fd) return tl::unexpected(fd.error());
  return Ram{std::move(*fd), found->file_offset, found->address};
}

}  // namespace sluice::guest::qemu
