#include "drivers/tracker/proc_files.h"

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace sluice::tracker {

std::string proc_path(pid_t pid, const std::string& name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

Error process_error(pid_t pid, const std::string& doing, int error_number) {
  const std::string process = "process " + std::to_string(pid);
  switch (error_number) {
    case ESRCH:
    case ENOENT:
      return {ErrorKind::kNotFound, process + " does not exist or has exited"};
    case EPERM:
    case EACCES:
      return {ErrorKind::kPermission, doing + " of " + process +
                                          " was refused; run as root or with CAP_SYS_PTRACE and "
                                          "CAP_CHECKPOINT_RESTORE"};
    default:
      return {ErrorKind::kFailed,
              doing + " of " + process + " failed: " + std::strerror(error_number)};
  }
}

std::string Mapping::file_link(pid_t pid) const {
  std::array<char, 48> addresses{};
  std::snprintf(addresses.data(), addresses.size(), "%" PRIx64 "-%" PRIx64, start, end);
  return proc_path(pid, "map_files/") + addresses.data();
}

Expected<std::vector<Mapping>> read_mappings(pid_t pid) {
  errno = 0;
  std::ifstream file(proc_path(pid, "maps"));
  if (!file) return tl::unexpected(process_error(pid, "reading the memory map", errno));
  std::vector<Mapping> mappings;
  for (std::string line; std::getline(file, line);) {
    Mapping mapping;
    std::array<char, 5> permissions{};
    int name_at = 0;
    // address range, permissions, offset, device, inode, name: proc(5).
    const int fields = std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n",
                                   &mapping.start, &mapping.end, permissions.data(), &name_at);
    if (fields != 3) continue;
    mapping.readable = permissions[0] == 'r';
    mapping.executable = permissions[2] == 'x';
    mapping.shared = permissions[3] == 's';
    if (name_at > 0) mapping.name = line.substr(static_cast<std::size_t>(name_at));
    mappings.push_back(std::move(mapping));
  }
  // A zombie's file can be opened and is empty.
  if (mappings.empty()) return tl::unexpected(process_error(pid, "reading the memory map", ESRCH));
  return mappings;
}

Expected<std::int64_t> read_status_field(pid_t pid, const std::string& field) {
  std::ifstream file(proc_path(pid, "status"));
  const std::string prefix = field + ":";
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(prefix, 0) == 0) return std::strtoll(line.c_str() + prefix.size(), nullptr, 10);
  }
  return tl::unexpected(process_error(pid, "reading the status", ESRCH));
}

}  // namespace sluice::tracker
