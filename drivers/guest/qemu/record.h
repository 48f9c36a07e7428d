// What the driver keeps on tmpfs about a guest, so that an agent that starts anew finds it again.
#pragma once

#include <cstdint>
#include <string>
#include <sys/types.h>

#include "drivers/guest/guest.h"

namespace sluice::guest::qemu {

enum class RecordedPhase : std::uint8_t {
  kStarting = 1,  // QEMU is being started; its process number may not be known yet
  kRunning,       // ours, running or paused by a user
  kIncoming,      // a twin before keep_after_agent_exit(): must not survive its agent
  kKept,          // a twin that may be the only copy: the agent decides
  kHandedOver,    // a source whose state was given away: the agent decides
};

struct Record {
  Description description;
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // of the process; see process_start_time()
  RecordedPhase phase = RecordedPhase::kStarting;
  std::uint64_t session = 0;  // for which it was kept, if it came as a twin
  std::string qmp_socket;
};

// A guest's files below a run directory.
[[nodiscard]] std::string guests_directory(const HostContext& context);
[[nodiscard]] std::string guest_directory(const HostContext& context, const std::string& name);

// Writes DIRECTORY/guest.json: a reader sees the whole old or the whole new one. No fsync: it is on
// tmpfs, and a guest cannot outlive its host's reboot.
[[nodiscard]] Expected<void> write_record(const std::string& directory, const Record& record);
// kNotFound if there is none; after any other error it may be one of a guest.
[[nodiscard]] Expected<Record> read_record(const std::string& directory);

}  // namespace sluice::guest::qemu
