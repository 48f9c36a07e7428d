#include "drivers/guest/qemu/process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <string_view>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

#include "drivers/base/clock.h"
#include "drivers/guest/qemu/pidfd.h"

extern char** environ;

namespace sluice::guest::qemu {
namespace {

// posix_spawn's settings, released on every path.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }

  void detach_from_terminal_and_signals() {
    sigset_t signals;
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  posix_spawn_file_actions_t* actions() { return &actions_; }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// Returns 0 or an error number. posix_spawn cannot say that a child gets no new privileges, which
// it inherits from the thread that makes it and which no thread gets rid of again: this one has its
// own.
int spawn_without_new_privileges(pid_t& pid, const SpawnSettings& settings, char* const argv[]) {
  int status = 0;
  std::thread([&] {
    status =
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            ? posix_spawn(&pid, argv[0], settings.actions(), settings.attributes(), argv, environ)
            : errno;
  }).join();
  return status;
}

}  // namespace

Expected<Process> Process::spawn(const SpawnRequest& request) {
  SpawnSettings settings;
  settings.detach_from_terminal_and_signals();
  // Copies above every target number, so that one dup2 in the child never overwrites the source of
  // the next.
  std::vector<FileDescriptor> sources;
  const int lowest = kFirstInheritedFd + static_cast<int>(request.inherited_fds.size());
  posix_spawn_file_actions_addopen(settings.actions(), 0, "/dev/null", O_RDONLY, 0);
  if (request.output_fd >= 0) {
    sources.emplace_back(fcntl(request.output_fd, F_DUPFD_CLOEXEC, lowest));
    posix_spawn_file_actions_adddup2(settings.actions(), sources.back().get(), 1);
    posix_spawn_file_actions_adddup2(settings.actions(), sources.back().get(), 2);
  } else {
    posix_spawn_file_actions_addopen(settings.actions(), 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(settings.actions(), 2, "/dev/null", O_WRONLY, 0);
  }
  int target = kFirstInheritedFd;
  for (const int fd : request.inherited_fds) {
    sources.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, lowest));
    posix_spawn_file_actions_adddup2(settings.actions(), sources.back().get(), target++);
  }
  posix_spawn_file_actions_addclosefrom_np(settings.actions(), target);

  std::vector<char*> argv;
  argv.reserve(request.argv.size() + 1);
  for (const std::string& argument : request.argv)
    argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int status = spawn_without_new_privileges(pid, settings, argv.data());
  if (status != 0) {
    return fail(ErrorKind::kFailed,
                "cannot start " + request.argv.front() + ": " + std::strerror(status));
  }
  // The child is not reaped yet, so its number cannot have been used again.
  FileDescriptor pidfd(pidfd_open(pid, 0));
  if (!pidfd.valid()) {
    const std::string reason = std::strerror(errno);
    ::kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return fail(ErrorKind::kFailed, "cannot watch " + request.argv.front() + ": " + reason);
  }
  return Process(pid, std::move(pidfd), process_start_time(pid).value_or(0));
}

Expected<Process> Process::open(pid_t pid, std::uint64_t start_time) {
  const std::string number = std::to_string(pid);
  const auto gone = fail(ErrorKind::kNotFound, "process " + number + " has gone");
  if (pid <= 0) return gone;
  FileDescriptor pidfd(pidfd_open(pid, 0));
  if (!pidfd.valid()) {
    if (errno == ESRCH) return gone;
    return fail(ErrorKind::kFailed, "cannot watch process " + number + ": " + std::strerror(errno));
  }
  const std::optional<std::uint64_t> seen = process_start_time(pid);
  Process process(pid, std::move(pidfd), seen.value_or(0));
  if (!process.alive() || (seen && start_time != 0 && *seen != start_time)) return gone;
  if (!seen) return fail(ErrorKind::kFailed, "cannot read /proc/" + number + "/stat");
  return process;
}

bool Process::alive() const { return !wait_exit(0); }

bool Process::wait_exit(TimeNs timeout_ns) const {
  const TimeNs deadline_ns = monotonic_now_ns() + timeout_ns;
  pollfd exit_event{pidfd_.get(), POLLIN, 0};
  int ready = -1;
  do {
    const timespec timeout = time_until(deadline_ns);
    ready = ppoll(&exit_event, 1, &timeout, nullptr);
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return false;
  // Takes the exit status away if the process is a child of ours and nobody has done so; else it
  // fails, which is fine.
  siginfo_t information{};
  waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &information, WEXITED | WNOHANG);
  return true;
}

void Process::kill() const {
  pidfd_send_signal(pidfd_.get(), SIGKILL, nullptr, 0);
  // Bounded: a process in an uninterruptible wait of the kernel must not hang the agent as well.
  (void)wait_exit(5 * kSecondNs);
}

std::optional<std::uint64_t> process_start_time(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // Field 2 is the program's name in parentheses and may contain spaces and parentheses; field 3
  // follows the last one.
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::uint64_t start_time = 0;
  if (!(fields >> start_time)) return std::nullopt;
  return start_time;
}

Expected<std::string> find_executable(const std::string& name) {
  const auto is_program = [](const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
           access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) {
    if (is_program(name)) return name;
    return fail(ErrorKind::kUnsupported,
                "there is no program " + name + " on this host; install QEMU or correct 'binary'");
  }
  const char* path = std::getenv("PATH");
  std::istringstream directories(path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin");
  for (std::string directory; std::getline(directories, directory, ':');) {
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
    if (is_program(candidate)) return candidate;
  }
  return fail(
      ErrorKind::kUnsupported,
      "there is no program " + name + " in PATH on this host; install QEMU or correct 'binary'");
}

Expected<std::string> run_and_capture(const std::vector<std::string>& argv, TimeNs timeout_ns) {
  FileDescriptor output(memfd_create("sluice-output", MFD_CLOEXEC));
  if (!output.valid()) {
    return fail(ErrorKind::kNoCapacity,
                std::string("cannot make a memfd: ") + std::strerror(errno));
  }
  const auto process = Process::spawn({argv, output.get(), {}});
  if (!process) return tl::unexpected(process.error());
  if (!process->wait_exit(timeout_ns)) {
    process->kill();
    return fail(ErrorKind::kFailed, argv.front() + " did not end in time");
  }
  std::string text;
  std::array<char, 4096> chunk{};
  ssize_t count = 0;
  while ((count =
              pread(output.get(), chunk.data(), chunk.size(), static_cast<off_t>(text.size()))) > 0)
    text.append(chunk.data(), static_cast<std::size_t>(count));
  return text;
}

std::string last_log_lines(const std::string& path) {
  constexpr std::size_t kLinesMax = 3;
  std::ifstream file(path);
  std::deque<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (lines.size() == kLinesMax) lines.pop_front();
    lines.push_back(line);
  }
  std::string joined;
  for (const std::string& line : lines) joined += (joined.empty() ? "" : "; ") + line;
  return joined;
}

}  // namespace sluice::guest::qemu
