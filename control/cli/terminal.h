// Where a command writes, how it ends, and what Ctrl-C does to it.
#pragma once

#include <ostream>

#include "control/client/interrupts.h"
#include "dataplane/base/expected.h"

namespace sluice::cli {

// The exit status is part of the command line's contract; see docs/recovery.md.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;  // the guest still runs where it ran
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnknown = 3;  // the outcome is not known

[[nodiscard]] int exit_status(const Error& error);

using client::Interrupts;

struct Terminal {
  std::ostream& out;
  std::ostream& err;
  Interrupts& interrupts;
  bool live = false;      // `out` is a terminal: a line may be rewritten
  unsigned columns = 80;  // its width
  bool json = false;

  // Prints the one line a person reads ("sluice: ..."), with --json also {"status", "error"}, and
  // returns the exit status.
  int fail(const Error& error) const;
};

}  // namespace sluice::cli
