// One guest run by QEMU, at the source or at the destination of a move.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/base/file_descriptor.h"
#include "drivers/guest/guest.h"
#include "drivers/guest/qemu/movability.h"
#include "drivers/guest/qemu/process.h"
#include "drivers/guest/qemu/qmp_client.h"
#include "drivers/guest/qemu/ram.h"
#include "drivers/guest/qemu/record.h"
#include "drivers/guest/qemu/warden.h"

namespace sluice::guest::qemu {

// QEMU's end of the device state stream, read while QEMU is being waited for so that QEMU never
// blocks on it. What comes before save_state() (the blocks of VGA and ROM) is kept here, the rest
// goes straight to the caller's memory.
class StateReader {
 public:
  explicit StateReader(FileDescriptor fd) : fd_(std::move(fd)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  // From here on into `out`, beginning with what was kept.
  void redirect(std::span<std::byte> out);
  // From here on to nowhere: QEMU can still end its stream, and `out` is not used any more.
  void discard();
  // Reads what is there; false at the stream's end.
  [[nodiscard]] bool read_some();
  // Size of the whole stream so far, which may be more than `out` holds.
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  FileDescriptor fd_;
  std::vector<std::byte> early_;
  std::span<std::byte> out_;
  bool redirected_ = false;
  std::size_t size_ = 0;
};

// All that a guest object is made of; the driver puts it together.
struct GuestParts {
  std::string directory;
  Record record;
  Process process;
  std::unique_ptr<QmpClient> qmp;
  Ram ram;                       // fd -1 for an adopted guest whose RAM is not shared
  std::optional<Warden> warden;  // of a twin
  FileDescriptor state_input;    // of a twin: where load_state() writes
  Phase phase = Phase::kRunning;
};

class QemuGuest final : public Guest {
 public:
  explicit QemuGuest(GuestParts parts) : parts_(std::move(parts)) {}
  QemuGuest(const QemuGuest&) = delete;
  QemuGuest& operator=(const QemuGuest&) = delete;
  // A twin that was not kept ends here; any other guest runs on without this object.
  ~QemuGuest() override;

  [[nodiscard]] const Description& description() const override {
    return parts_.record.description;
  }
  [[nodiscard]] Memory memory() const override;
  [[nodiscard]] Phase phase() override;
  [[nodiscard]] bool alive() const override { return parts_.process.alive(); }
  [[nodiscard]] pid_t pid() const override { return parts_.process.pid(); }
  [[nodiscard]] int death_fd() const override { return parts_.process.pidfd(); }

  [[nodiscard]] Expected<void> check_movable() override;
  [[nodiscard]] Expected<bool> has_untracked_writes() override {
    return uses_direct_io(qmp(), name());
  }
  [[nodiscard]] Expected<TimeNs> pause_for_switchover() override;
  [[nodiscard]] Expected<std::size_t> save_state(std::span<std::byte> out) override;
  [[nodiscard]] Expected<void> cancel_handover() override;
  [[nodiscard]] Expected<void> destroy() override;

  [[nodiscard]] Expected<void> load_state(std::span<const std::byte> state) override;
  [[nodiscard]] Expected<void> keep_after_agent_exit(std::uint64_t session) override;
  [[nodiscard]] std::uint64_t kept_for() const override { return parts_.record.session; }
  [[nodiscard]] Expected<void> resume() override;
  void announce() override;

  // After an agent's restart: brings a guest back that the dead agent left in the middle of a move,
  // before its commit point, and sees what the others are.
  [[nodiscard]] Expected<void> settle_after_restart();

 private:
  [[nodiscard]] const std::string& name() const {
    return parts_.record.description.definition.name;
  }
  [[nodiscard]] QmpClient& qmp() { return *parts_.qmp; }
  [[nodiscard]] Expected<void> record_phase(RecordedPhase phase);
  [[nodiscard]] Expected<void> require_phase(Phase wanted, const char* action);
  // QEMU's run state ("running", "paused", "postmigrate", ...).
  [[nodiscard]] Expected<std::string> run_state(TimeNs timeout_ns = QmpClient::kCommandTimeoutNs);
  [[nodiscard]] Expected<void> continue_running();

  [[nodiscard]] Expected<void> start_migration();
  [[nodiscard]] Expected<TimeNs> wait_for_pre_switchover();
  // Waits until the migration has one of QEMU's final states; an error unless it is "completed".
  [[nodiscard]] Expected<void> wait_for_completion(TimeNs deadline_ns);
  // The rest of save_state() once it is allowed.
  [[nodiscard]] Expected<std::size_t> stream_state(std::span<std::byte> out);
  [[nodiscard]] Expected<bool> migration_is_active();
  // `error` and what QEMU itself said about it: in query-migrate, or in its log if it has exited.
  [[nodiscard]] Error with_qemu_reason(Error error);

  GuestParts parts_;
  bool told_to_run_ = false;  // a twin, by this object: from then on its silence says nothing
  std::unique_ptr<StateReader>
      state_reader_;  // from pause_for_switchover() to the end of save_state() or cancel
};

// Whether a kept twin that QEMU calls so has never run: one that runs, or that an error, a panic or
// the guest itself has stopped, has. Nobody but the agent stops a guest that runs, and not a twin.
[[nodiscard]] bool never_ran_in(std::string_view run_state);

// Makes a paused twin listen for its device state before the guest at the source stops, so that
// none of this counts as downtime. Returns the end to write to; nothing happens in QEMU until
// something is written.
[[nodiscard]] Expected<FileDescriptor> start_incoming(QmpClient& qmp,
                                                      const std::string& qemu_version);

// Sets migration capabilities; those in `names` must exist.
[[nodiscard]] Expected<void> set_migration_capabilities(QmpClient& qmp,
                                                        const std::vector<std::string>& names);

}  // namespace sluice::guest::qemu
