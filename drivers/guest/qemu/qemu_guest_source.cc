// The source's part of a move.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "drivers/base/clock.h"
#include "drivers/guest/qemu/movability.h"
#include "drivers/guest/qemu/qemu_guest.h"

namespace sluice::guest::qemu {
namespace {

// From `migrate` to pre-switchover: QEMU sends VGA and ROM blocks and drains the block layer.
constexpr TimeNs kPauseTimeoutNs = 30 * kSecondNs;
constexpr TimeNs kSaveTimeoutNs = 30 * kSecondNs;
// No limit in practice; QEMU's own default (128 MiB/s) would stretch the downtime.
constexpr std::uint64_t kMaxBandwidthBytesPerSecond = 100ULL << 30U;

constexpr std::array<std::string_view, 3> kFinalStates = {"completed", "failed", "cancelled"};

bool is_final(std::string_view status) {
  return std::find(kFinalStates.begin(), kFinalStates.end(), status) != kFinalStates.end();
}

}  // namespace

void StateReader::redirect(std::span<std::byte> out) {
  out_ = out;
  redirected_ = true;
  std::copy_n(early_.begin(), std::min(early_.size(), out.size()), out.begin());
  early_ = {};
}

void StateReader::discard() {
  out_ = {};
  early_ = {};
  redirected_ = true;
}

bool StateReader::read_some() {
  constexpr std::size_t kChunkBytes = 256U << 10U;
  std::array<std::byte, 4096> discarded;
  while (true) {
    std::byte* target = discarded.data();
    std::size_t room = discarded.size();
    if (!redirected_) {
      early_.resize(size_ + kChunkBytes);
      target = early_.data() + size_;
      room = kChunkBytes;
    } else if (size_ < out_.size()) {
      target = out_.data() + size_;
      room = out_.size() - size_;
    }
    const ssize_t count = recv(fd_.get(), target, room, MSG_DONTWAIT);
    if (count > 0) size_ += static_cast<std::size_t>(count);
    if (!redirected_) early_.resize(size_);
    if (count == 0) return false;
    if (count < 0) return errno == EAGAIN || errno == EINTR;
  }
}

Expected<void> set_migration_capabilities(QmpClient& qmp, const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const std::string& name : names) list.push_back({{"capability", name}, {"state", true}});
  const auto reply = qmp.execute("migrate-set-capabilities", {{"capabilities", list}});
  if (!reply) return tl::unexpected(reply.error());
  return {};
}

Expected<void> QemuGuest::check_movable() {
  if (!alive()) return fail(ErrorKind::kUnreachable, "QEMU of guest " + name() + " has exited");
  if (parts_.phase == Phase::kIncoming || parts_.phase == Phase::kHandedOver)
    return fail(ErrorKind::kBusy, "guest " + name() + " is being moved already");
  auto result = check_guest_movable(qmp(), description());
  // Shared RAM that could not be opened: the agent was restarted without the right to look into
  // QEMU.
  if (result && !parts_.ram.fd.valid()) {
    return fail(ErrorKind::kPermission,
                "the agent may not trace QEMU of guest " + name() + " (process " +
                    std::to_string(pid()) +
                    "), so its RAM cannot be read; give the agent CAP_SYS_PTRACE");
  }
  return result;
}

// Gives QEMU one end of a socket pair: no path, nobody else can connect, and the other end is ours
// at once.
Expected<void> QemuGuest::start_migration() {
  // Without return-path QEMU does not wait for the other side's word: it is not QEMU but the agents
  // that decide, and the stream then simply ends.
  auto result =
      set_migration_capabilities(qmp(), {"x-ignore-shared", "pause-before-switchover", "events"});
  if (!result) return result;
  auto reply =
      qmp().execute("migrate-set-parameters", {{"max-bandwidth", kMaxBandwidthBytesPerSecond}});
  if (!reply) return tl::unexpected(reply.error());

  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(ErrorKind::kNoCapacity,
                std::string("cannot make a socket pair: ") + std::strerror(errno));
  }
  state_reader_ = std::make_unique<StateReader>(FileDescriptor(ends[0]));
  const FileDescriptor qemus_end(ends[1]);
  reply = qmp().execute("getfd", {{"fdname", "sluice-state"}}, qemus_end.get());
  if (!reply) return tl::unexpected(reply.error());
  qmp().set_side_channel(
      {state_reader_->fd(), POLLIN, [this] { return state_reader_->read_some(); }});
  reply = qmp().execute("migrate", {{"uri", "fd:sluice-state"}});
  if (!reply) return tl::unexpected(reply.error());
  return {};
}

Expected<TimeNs> QemuGuest::wait_for_pre_switchover() {
  TimeNs stopped_at_ns = 0;
  std::string status;
  const auto event = qmp().wait_event(
      [&](const QmpEvent& seen) {
        if (seen.name == "STOP") stopped_at_ns = seen.received_ns;
        if (seen.name == "MIGRATION") status = text_at(seen.data, "status");
        return status == "pre-switchover" || is_final(status);
      },
      monotonic_now_ns() + kPauseTimeoutNs, "the state pre-switchover");
  if (!event) return tl::unexpected(event.error());
  if (status != "pre-switchover" || stopped_at_ns == 0) {
    return fail(ErrorKind::kFailed, "QEMU of guest " + name() +
                                        " did not stop for the move, its migration is " + status);
  }
  return stopped_at_ns;
}

Expected<TimeNs> QemuGuest::pause_for_switchover() {
  auto allowed = require_phase(Phase::kRunning, "be paused for a move");
  if (!allowed) return tl::unexpected(allowed.error());
  qmp().forget_events();
  const auto started = start_migration();
  auto stopped_at_ns = started ? wait_for_pre_switchover() : tl::unexpected(started.error());
  if (stopped_at_ns) return stopped_at_ns;
  const Error error = with_qemu_reason(stopped_at_ns.error());
  (void)cancel_handover();
  return tl::unexpected(error);
}

Expected<void> QemuGuest::wait_for_completion(TimeNs deadline_ns) {
  std::string status;
  const auto event = qmp().wait_event(
      [&](const QmpEvent& seen) {
        if (seen.name == "MIGRATION") status = text_at(seen.data, "status");
        return is_final(status);
      },
      deadline_ns, "the end of its migration");
  if (!event) return tl::unexpected(with_qemu_reason(event.error()));
  if (status == "completed") return {};
  return tl::unexpected(
      with_qemu_reason({ErrorKind::kFailed, "the device state of guest " + name() +
                                                " was not moved, QEMU's migration is " + status}));
}

Expected<std::size_t> QemuGuest::save_state(std::span<std::byte> out) {
  auto allowed = require_phase(Phase::kRunning, "save its state");
  if (!allowed) return tl::unexpected(allowed.error());
  if (!state_reader_)
    return fail(ErrorKind::kInvalid, "guest " + name() + " was not paused for a move");
  auto size = stream_state(out);
  // `out` is the caller's again, but QEMU may still be writing.
  if (!size && state_reader_) state_reader_->discard();
  return size;
}

Expected<std::size_t> QemuGuest::stream_state(std::span<std::byte> out) {
  const TimeNs deadline_ns = monotonic_now_ns() + kSaveTimeoutNs;
  state_reader_->redirect(out);
  const auto command = qmp().send("migrate-continue", {{"state", "pre-switchover"}});
  if (!command) return tl::unexpected(command.error());
  // While QEMU saves: the record must say so before the caller can give the state away.
  auto result = record_phase(RecordedPhase::kHandedOver);
  if (!result) return tl::unexpected(result.error());
  const auto reply = qmp().await_reply(*command);
  if (!reply) return tl::unexpected(with_qemu_reason(reply.error()));
  result = wait_for_completion(deadline_ns);
  if (!result) return tl::unexpected(result.error());
  result = qmp().finish_side_channel(deadline_ns, "the end of its device state");
  if (!result) return tl::unexpected(result.error());

  const std::size_t size = state_reader_->size();
  parts_.phase = Phase::kHandedOver;
  if (size > out.size()) {
    return fail(ErrorKind::kNoCapacity, "the device state of guest " + name() + " takes " +
                                            std::to_string(size) + " bytes, the room for it is " +
                                            std::to_string(out.size()));
  }
  state_reader_.reset();
  return size;
}

Expected<bool> QemuGuest::migration_is_active() {
  const auto migration = qmp().execute("query-migrate");
  if (!migration) return tl::unexpected(migration.error());
  const std::string status = text_at(*migration, "status");
  return !is_final(status) && !status.empty() && status != "none";
}

Expected<void> QemuGuest::cancel_handover() {
  // First the decision, then the deed: an agent that dies in between is followed by one that does
  // the same again.
  auto result = record_phase(RecordedPhase::kRunning);
  if (!result) return result;
  const auto active = migration_is_active();
  if (!active) return tl::unexpected(with_qemu_reason(active.error()));
  if (*active) {
    const auto reply = qmp().execute("migrate_cancel");
    if (!reply) return tl::unexpected(with_qemu_reason(reply.error()));
    // Its outcome does not matter: it may have completed at the same moment.
    (void)wait_for_completion(monotonic_now_ns() + kPauseTimeoutNs);
  }
  qmp().clear_side_channel();
  state_reader_.reset();
  const auto state = run_state();
  if (!state) return tl::unexpected(with_qemu_reason(state.error()));
  if (*state != "running") result = continue_running();
  if (result) parts_.phase = Phase::kRunning;
  return result;
}

}  // namespace sluice::guest::qemu
