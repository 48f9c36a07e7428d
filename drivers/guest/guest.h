// What the agent asks of a guest, whatever runs it. One object is one guest on one host: running,
// or an incoming twin that waits for its memory and state.
//
// Threads: one thread at a time may call a guest; alive() and pid() may be called from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/base/units.h"

namespace sluice::guest {

// The binary of guests that name no other, looked up in PATH.
inline constexpr const char* kUsualQemu = "qemu-system-x86_64";

// What a user writes in a guest file; see docs/guests.md. Parsed by definition.h.
struct Definition {
  std::string name;    // [a-z0-9][a-z0-9-]{0,62}: it becomes a directory and a socket name
  std::string driver;  // "qemu" or "memory"
  std::uint64_t memory_bytes = 0;  // a multiple of 2 MiB
  // driver = "qemu"
  std::string qemu_binary;  // a name looked up in PATH, or a path
  std::vector<std::string>
      qemu_args;  // the user's, without RAM size, RAM back end, QMP and -incoming
  // driver = "memory"
  std::uint64_t dirty_bytes_per_second = 0;
  std::string pattern = "uniform";  // or "hotset": 90 % of writes go to 10 % of pages
};

// All that the destination needs to make an identical twin and to say no before anything moves.
struct Description {
  Definition definition;
  std::string ram_backend_id;  // name of QEMU's RAM block; must match on both sides
  std::string
      machine_type;  // resolved and versioned, for example pc-q35-7.2; empty for driver "memory"
  std::string qemu_version;  // "7.2.22"
  bool adopted = false;
  // The level of CPU (qemu/cpu_level.h) that every host it runs on must have, since it was started;
  // 0: any will do.
  std::uint32_t cpu_level = 0;
};

// The guest's RAM as one shared mapping: mapped here through memory_fd, seen by the guest at
// guest_address in process pid.
struct Memory {
  int memory_fd = -1;  // owned by the guest object, valid as long as it
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  pid_t pid = 0;                    // whose address space is tracked
  std::uint64_t guest_address = 0;  // of the mapping in that process
};

enum class Phase : std::uint8_t {
  kRunning = 1,
  kPaused,      // stopped by a user or an error; not moving
  kIncoming,    // a destination's twin before resume()
  kHandedOver,  // a source's guest after save_state(): must never run again unless
                // cancel_handover() is called
  kGone,        // its process has exited
};

class Guest {
 public:
  virtual ~Guest() = default;

  [[nodiscard]] virtual const Description& description() const = 0;
  [[nodiscard]] virtual Memory memory() const = 0;
  // As last seen if it does not say so within half a second.
  [[nodiscard]] virtual Phase phase() = 0;
  [[nodiscard]] virtual bool alive() const = 0;
  [[nodiscard]] virtual pid_t pid() const = 0;
  // Readable (poll) when the guest's process exits; -1 for a guest inside this process. Owned by
  // the guest.
  [[nodiscard]] virtual int death_fd() const = 0;

  // ---- at the source, in this order ----

  // Everything that would make moving impossible or unsafe, before anything moves: kUnsupported
  // names the device or blocker. Free of side effects.
  [[nodiscard]] virtual Expected<void> check_movable() = 0;
  // True if devices write into RAM past the page tables of the guest's process, unseen by any
  // tracker, as long as the guest runs (QEMU: disks with direct I/O). All of RAM must then be
  // compared with what was sent once it is final.
  [[nodiscard]] virtual Expected<bool> has_untracked_writes() = 0;
  // Stops the guest; at the return its RAM is final (QEMU: status pre-switchover) and
  // `stopped_at_ns` (CLOCK_MONOTONIC) says when it stopped running.
  [[nodiscard]] virtual Expected<TimeNs> pause_for_switchover() = 0;
  // Writes the device state to `out` and returns its size; kNoCapacity if it does not fit. Phase:
  // kHandedOver.
  [[nodiscard]] virtual Expected<std::size_t> save_state(std::span<std::byte> out) = 0;
  // Takes a pause or a saved state back: the guest runs again at the source. Only before the commit
  // point.
  [[nodiscard]] virtual Expected<void> cancel_handover() = 0;
  // Ends the guest's process for good (QMP quit, then SIGKILL) and removes its files on this host.
  [[nodiscard]] virtual Expected<void> destroy() = 0;

  // ---- at the destination, in this order ----

  // Loads device state into the twin, which stays paused. At the return the load has succeeded.
  [[nodiscard]] virtual Expected<void> load_state(std::span<const std::byte> state) = 0;
  // From here on the twin outlives this agent (until then it dies with it), and an agent that finds
  // it knows for which session. Called before the commit point.
  [[nodiscard]] virtual Expected<void> keep_after_agent_exit(std::uint64_t session) = 0;
  // That session of a twin that was found; 0 if an agent of an earlier version kept it.
  [[nodiscard]] virtual std::uint64_t kept_for() const = 0;
  // Lets the twin run; at the return it has run. Phase: kRunning. kFailed: it certainly did not
  // run. After any other error, or an exception, it may have run, and can be told again; one that
  // runs stays as it is.
  [[nodiscard]] virtual Expected<void> resume() = 0;
  // Announces the guest's addresses on its networks (gratuitous ARP), a few times, without blocking
  // long.
  virtual void announce() = 0;
};

// What a host runs as QEMU: a peer that offers a guest, or an operator, must not choose freely
// which of its programs run, with an agent's rights.
struct QemuPolicy {
  // Absolute paths; a * stands for any part of a file's name.
  std::vector<std::string> binaries = {"/usr/bin/qemu-system-*", "/usr/libexec/qemu-system-*",
                                       "/usr/libexec/qemu-kvm"};
  // Whether guests that arrive may have options that run programs: see program_option() in
  // qemu/command_line.h.
  bool arrivals_may_run_programs = false;
};

// Where a driver keeps what belongs to one host's guests, and what it may do there. Paths are
// absolute and exist.
struct HostContext {
  std::string run_dir;  // tmpfs; one directory per guest below run_dir/guests/
  std::string host;
  QemuPolicy qemu = {};
  std::uint32_t cpu_level = 0;  // of this host; 0: not known, then no guest needs one
};

// A guest that survived an agent's restart and cannot be asked how it is: it may run.
struct SilentGuest {
  std::string name;
  std::uint64_t memory_bytes = 0;  // 0: not known
  pid_t pid = 0;                   // 0: not known
  std::string reason;              // and what to do
};

struct SurvivingGuests {
  std::vector<std::unique_ptr<Guest>> guests;
  std::vector<SilentGuest> silent;
};

// One per driver name. start, adopt and prepare_incoming leave nothing behind when they fail.
class Driver {
 public:
  virtual ~Driver() = default;

  [[nodiscard]] virtual Expected<std::unique_ptr<Guest>> start(const Definition& definition) = 0;
  // Makes the paused twin of a guest described by the source. kUnsupported names the difference
  // (machine type not offered here, QEMU older than the source's, binary missing).
  [[nodiscard]] virtual Expected<std::unique_ptr<Guest>> prepare_incoming(
      const Description& description) = 0;
  // Takes over a guest that runs already and was not started by an agent. `qmp_socket` is its
  // monitor.
  [[nodiscard]] virtual Expected<std::unique_ptr<Guest>> adopt(const std::string& qmp_socket) = 0;
  // The guests of this driver that survived an agent's restart; ends what must not have survived
  // (twins before their commit) and removes what is stale. Throws std::filesystem::filesystem_error
  // if it cannot look: no guest must be taken for gone because of that.
  [[nodiscard]] virtual SurvivingGuests rediscover() = 0;
  // The same of one that was silent then. kNotFound once nothing is left of it; after any other
  // error it is silent still.
  [[nodiscard]] virtual Expected<std::unique_ptr<Guest>> find_again(const std::string& name) = 0;
};

[[nodiscard]] std::unique_ptr<Driver> make_memory_driver(const HostContext& context);
[[nodiscard]] std::unique_ptr<Driver> make_qemu_driver(const HostContext& context);

}  // namespace sluice::guest
