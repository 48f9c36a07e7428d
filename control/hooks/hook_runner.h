// Runs hooks: executables in one directory, called by name. A hook is begun at most once for a key,
// whoever crashes: what began and what became of it is kept on disk, across restarts of this
// process and of the machine.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::hooks {

struct Call {
  std::string key;   // [A-Za-z0-9_.-]+; the same key is the same call
  std::string name;  // of a file in the hook directory
  std::uint32_t timeout_s = 600;
  // If it was begun and nobody knows whether it ended, it may be run again.
  bool idempotent = false;
  std::map<std::string, std::string> environment;  // beside the caller's own
};

struct End {
  bool ok = false;  // it exited with status 0 in time
  // Standard output and error as UTF-8, of more than kOutputBytesMax the beginning and the end with
  // a line between them that says how much is missing; or why there is none.
  std::string output;
};

inline constexpr std::size_t kOutputBytesMax = std::size_t{64} * 1024;

// The same of what somebody else says that a hook has printed.
[[nodiscard]] std::string bounded_output(const std::string& output);

// Any thread.
class HookRunner {
 public:
  // Makes `state_directory`, which should outlive reboots. An empty `hook_directory`, or one that
  // does not exist, has no hooks.
  [[nodiscard]] static Expected<void> prepare(const std::string& state_directory);
  // Of a prepared directory: sixteen hexadecimal digits that are made by chance when it is first
  // asked, and stay. kPermission where it cannot be written.
  [[nodiscard]] static Expected<std::string> identify(const std::string& state_directory);
  HookRunner(std::string hook_directory, std::string state_directory);

  // Executable files in the hook directory, as of now.
  [[nodiscard]] std::set<std::string> names() const;

  // Runs the hook, or waits for the call of the same key that was begun before, or returns what
  // became of it. kNotFound for an unknown name, kInvalid for a bad key or one that another
  // hook was run under, kFailed when nothing was
  // run. A hook that outlives its timeout, counted from when it began, is killed with its process
  // group.
  [[nodiscard]] Expected<End> run(const Call& call);

  // Whoever waits for a hook, or comes to, is told kUnreachable: the hook goes on without its
  // caller, and what became of it is found by its key, also by the next process.
  void stop();

 private:
  class Lock;
  [[nodiscard]] Expected<End> run_alone(const Call& call);
  [[nodiscard]] Expected<void> begin(const Call& call, const std::string& base) const;
  [[nodiscard]] Expected<End> wait(const Call& call, const std::string& base) const;
  [[nodiscard]] Expected<void> spawn(const Call& call, const std::string& base) const;

  std::string hook_directory_;
  std::string state_directory_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::set<std::string> running_;  // keys
  std::atomic<bool> stopping_ = false;
};

// Starts a program in a session of its own, of which nothing is heard but its end: the caller waits
// for that. `arguments` begins with its path.
[[nodiscard]] Expected<pid_t> start_detached(const std::vector<std::string>& arguments);

}  // namespace sluice::hooks
