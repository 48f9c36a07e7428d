// The few things of /proc/PID that tracking needs.
#pragma once

#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::tracker {

// One line of /proc/PID/maps.
struct Mapping {
  std::uint64_t start = 0;
  std::uint64_t end = 0;  // exclusive
  bool executable = false;
  bool readable = false;
  bool shared = false;
  std::string name;  // path, "[vdso]", or empty

  // The mapping's file by its address; a symbolic link that only a privileged process may follow.
  [[nodiscard]] std::string file_link(pid_t pid) const;
};

// The process's mappings, ascending. kNotFound if there is no such process, kPermission if it may
// not be looked at.
[[nodiscard]] Expected<std::vector<Mapping>> read_mappings(pid_t pid);

// A decimal field of /proc/PID/status such as "TracerPid"; kNotFound if the process or the field is
// not there.
[[nodiscard]] Expected<std::int64_t> read_status_field(pid_t pid, const std::string& field);

// "/proc/PID/NAME".
[[nodiscard]] std::string proc_path(pid_t pid, const std::string& name);

// The error to report for a failed access to process `pid`: `doing` says what was tried.
[[nodiscard]] Error process_error(pid_t pid, const std::string& doing, int error_number);

}  // namespace sluice::tracker
