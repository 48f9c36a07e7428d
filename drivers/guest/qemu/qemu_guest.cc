#include "drivers/guest/qemu/qemu_guest.h"

#include <filesystem>
#include <system_error>

#include "drivers/base/clock.h"
#include "drivers/guest/qemu/movability.h"

namespace sluice::guest::qemu {
namespace {

constexpr TimeNs kQuitTimeoutNs = 2 * kSecondNs;
constexpr TimeNs kResumeTimeoutNs = 10 * kSecondNs;
// Whoever only looks waits no longer.
constexpr TimeNs kLookTimeoutNs = 500 * kMillisecondNs;

}  // namespace

bool never_ran_in(std::string_view run_state) {
  return run_state == "prelaunch" || run_state == "inmigrate" || run_state == "paused";
}

QemuGuest::~QemuGuest() {
  if (parts_.record.phase == RecordedPhase::kIncoming) (void)destroy();
}

Memory QemuGuest::memory() const {
  Memory memory;
  memory.memory_fd = parts_.ram.fd.get();
  memory.offset = parts_.ram.file_offset;
  memory.bytes = parts_.record.description.definition.memory_bytes;
  memory.pid = parts_.process.pid();
  memory.guest_address = parts_.ram.guest_address;
  return memory;
}

Phase QemuGuest::phase() {
  if (parts_.warden) parts_.warden->reap();
  if (!alive()) return Phase::kGone;
  if (parts_.phase == Phase::kIncoming || parts_.phase == Phase::kHandedOver) return parts_.phase;
  // A guest that does not answer keeps the phase it was last seen in, and is not asked again before
  // it has: it would find its socket full of questions.
  if (qmp().owes_reply()) return parts_.phase;
  if (const auto state = run_state(kLookTimeoutNs))
    parts_.phase = *state == "running" ? Phase::kRunning : Phase::kPaused;
  return parts_.phase;
}

Expected<void> QemuGuest::record_phase(RecordedPhase phase) {
  Record record = parts_.record;
  record.phase = phase;
  auto written = write_record(parts_.directory, record);
  if (written) parts_.record.phase = phase;
  return written;
}

Expected<void> QemuGuest::require_phase(Phase wanted, const char* action) {
  if (parts_.phase == wanted) return {};
  return fail(ErrorKind::kInvalid,
              "guest " + name() + " is not in a phase in which it can " + action);
}

Expected<std::string> QemuGuest::run_state(TimeNs timeout_ns) {
  const auto asked = qmp().send("query-status");
  if (!asked) return tl::unexpected(asked.error());
  const auto status = qmp().await_reply(*asked, timeout_ns);
  if (!status) return tl::unexpected(status.error());
  return text_at(*status, "status");
}

Expected<void> QemuGuest::continue_running() {
  qmp().forget_events();
  const auto command = qmp().send("cont");
  if (!command) return tl::unexpected(command.error());
  const auto reply = qmp().await_reply(*command);
  if (!reply) return tl::unexpected(with_qemu_reason(reply.error()));
  const auto resumed =
      qmp().wait_event([](const QmpEvent& event) { return event.name == "RESUME"; },
                       monotonic_now_ns() + kResumeTimeoutNs, "the event RESUME");
  if (!resumed) return tl::unexpected(with_qemu_reason(resumed.error()));
  return {};
}

Error QemuGuest::with_qemu_reason(Error error) {
  std::string reason;
  const auto migration = qmp().execute("query-migrate");
  if (migration) reason = text_at(*migration, "error-desc");
  // A QEMU that closed its socket is about to exit; its last words are in its log.
  if (!migration && parts_.process.wait_exit(100 * kMillisecondNs))
    reason = last_log_lines(parts_.directory + "/qemu.log");
  if (!reason.empty() && error.message.find(reason) == std::string::npos)
    error.message += ": " + reason;
  return error;
}

Expected<void> QemuGuest::destroy() {
  if (alive()) (void)qmp().send("quit");
  if (!parts_.process.wait_exit(kQuitTimeoutNs)) parts_.process.kill();
  if (alive()) {
    return fail(ErrorKind::kFailed, "QEMU of guest " + name() + " (process " +
                                        std::to_string(pid()) + ") does not end even when killed");
  }
  if (parts_.warden) {
    (void)parts_.warden->release();
    parts_.warden.reset();
  }
  std::error_code error;
  std::filesystem::remove_all(parts_.directory, error);
  // The record has gone with the directory; the destructor has nothing left to do.
  parts_.record.phase = RecordedPhase::kRunning;
  parts_.phase = Phase::kGone;
  if (error)
    return fail(ErrorKind::kFailed, "cannot remove " + parts_.directory + ": " + error.message());
  return {};
}

Expected<void> QemuGuest::settle_after_restart() {
  const auto state = run_state();
  if (!state) return tl::unexpected(state.error());
  const bool runs = *state == "running";
  switch (parts_.record.phase) {
    case RecordedPhase::kKept:
      if (!never_ran_in(*state)) break;
      parts_.phase = Phase::kIncoming;
      return {};
    case RecordedPhase::kHandedOver:
      // It runs again by itself only if its state never got out: its stream broke when the agent
      // died.
      if (runs) break;
      parts_.phase = Phase::kHandedOver;
      return {};
    default: {
      const auto active = migration_is_active();
      if (!active) return tl::unexpected(active.error());
      if (*active || *state == "postmigrate" || *state == "finish-migrate")
        return cancel_handover();
      parts_.phase = runs ? Phase::kRunning : Phase::kPaused;
      return {};
    }
  }
  parts_.phase = runs ? Phase::kRunning : Phase::kPaused;
  return record_phase(RecordedPhase::kRunning);
}

}  // namespace sluice::guest::qemu
