// Starting, watching and ending processes: QEMU, its warden, and QEMU's short runs that answer a
// question.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/base/units.h"
#include "drivers/base/file_descriptor.h"

namespace sluice::guest::qemu {

// The first descriptor that a spawned process inherits; further ones follow it.
inline constexpr int kFirstInheritedFd = 3;

struct SpawnRequest {
  std::vector<std::string> argv;   // argv[0] is the path of the program
  int output_fd = -1;              // its stdout and stderr; -1: /dev/null
  std::vector<int> inherited_fds;  // seen by it as kFirstInheritedFd and following
};

// A process by pidfd, ours or one that another agent started. Not copied; any thread may call
// alive().
class Process {
 public:
  // Starts a program in a session of its own (a signal to the agent's terminal or group does not
  // reach it), with default signals and with no descriptor but those named. It has no more
  // privileges than this process, root or not, and no program that it runs gets more.
  [[nodiscard]] static Expected<Process> spawn(const SpawnRequest& request);
  // A running process; kNotFound if it has gone or, with `start_time` not 0, if the number is used
  // again by another. After any other error it may be there.
  [[nodiscard]] static Expected<Process> open(pid_t pid, std::uint64_t start_time);

  [[nodiscard]] pid_t pid() const { return pid_; }
  // Readable when the process has exited.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  [[nodiscard]] std::uint64_t start_time() const { return start_time_; }
  [[nodiscard]] bool alive() const;
  // True when it has exited within the time; a child is reaped then.
  [[nodiscard]] bool wait_exit(TimeNs timeout_ns) const;
  // SIGKILL, and waits for the end.
  void kill() const;

 private:
  Process(pid_t pid, FileDescriptor pidfd, std::uint64_t start_time)
      : pid_(pid), pidfd_(std::move(pidfd)), start_time_(start_time) {}

  pid_t pid_;
  FileDescriptor pidfd_;
  std::uint64_t start_time_;
};

// When the process started, in clock ticks since boot (field 22 of /proc/PID/stat): with its number
// it names one process for good. Nothing if there is no such process, or it cannot be seen.
[[nodiscard]] std::optional<std::uint64_t> process_start_time(pid_t pid);

// The absolute path of a program, looked up in PATH unless it contains a slash; kUnsupported if
// there is none.
[[nodiscard]] Expected<std::string> find_executable(const std::string& name);

// Runs a program to its end and returns what it wrote; kFailed if it cannot be started or does not
// end within `timeout_ns`.
[[nodiscard]] Expected<std::string> run_and_capture(const std::vector<std::string>& argv,
                                                    TimeNs timeout_ns);

// The last three lines of a small log file, joined by "; ": QEMU says in one what failed and in the
// next what it means.
[[nodiscard]] std::string last_log_lines(const std::string& path);

}  // namespace sluice::guest::qemu
