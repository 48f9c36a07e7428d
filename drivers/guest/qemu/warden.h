// A small process that ends an incoming twin when the twin's agent dies, however it dies. A twin
// that nobody feeds must not linger: it holds memory, and a later agent could not tell whether it
// may run.
#pragma once

#include <string>

#include "dataplane/base/expected.h"
#include "drivers/base/file_descriptor.h"
#include "drivers/guest/qemu/process.h"

namespace sluice::guest::qemu {

// The agent's end. While it exists and release() was not called, the death of this process (or of
// this object) makes the warden kill the watched process and remove `directory`.
class Warden {
 public:
  // Starts the warden: this very program again with other arguments, so main() must call
  // is_warden_invocation() first.
  [[nodiscard]] static Expected<Warden> watch(const Process& watched, const std::string& directory);

  Warden(Warden&&) = default;
  Warden& operator=(Warden&&) = default;
  // Waits for the end of the warden's work, so that the directory is not removed under a later user
  // of it.
  ~Warden();

  // From here on the watched process lives as long as it likes. Does not wait; kFailed if the
  // warden has gone.
  [[nodiscard]] Expected<void> release();
  // Takes the exit status of a warden that has ended. Never waits.
  void reap() const;

 private:
  Warden(FileDescriptor life_line, Process process)
      : life_line_(std::move(life_line)), process_(std::move(process)) {}

  FileDescriptor life_line_;  // the agent's end; its closing is what the warden waits for
  Process process_;
};

// True if this process was started to be a warden; main() then returns warden_main() and does
// nothing else.
[[nodiscard]] bool is_warden_invocation(int argc, char** argv);
[[nodiscard]] int warden_main(int argc, char** argv);

}  // namespace sluice::guest::qemu
