// The destination's part of a move.
#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>

#include "drivers/base/clock.h"
#include "drivers/guest/qemu/movability.h"
#include "drivers/guest/qemu/qemu_guest.h"

namespace sluice::guest::qemu {
namespace {

constexpr TimeNs kLoadTimeoutNs = 30 * kSecondNs;

}  // namespace

Expected<FileDescriptor> start_incoming(QmpClient& qmp, const std::string& qemu_version) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(ErrorKind::kNoCapacity,
                std::string("cannot make a socket pair: ") + std::strerror(errno));
  }
  FileDescriptor our_end(ends[0]);
  const FileDescriptor qemus_end(ends[1]);
  auto reply = qmp.execute("getfd", {{"fdname", "sluice-state"}}, qemus_end.get());
  if (!reply) return tl::unexpected(reply.error());
  Json arguments = {{"uri", "fd:sluice-state"}};
  // Before 9.1 a QEMU that cannot load the state exits; its log then says why.
  if (parse_version(qemu_version).at_least(9, 1)) arguments["exit-on-error"] = false;
  reply = qmp.execute("migrate-incoming", arguments);
  if (!reply) return tl::unexpected(reply.error());
  return our_end;
}

Expected<void> QemuGuest::load_state(std::span<const std::byte> state) {
  auto result = require_phase(Phase::kIncoming, "load a state");
  if (!result) return result;
  if (!parts_.state_input.valid())
    return fail(ErrorKind::kInvalid, "the twin of guest " + name() + " was given a state before");
  const FileDescriptor input = std::move(parts_.state_input);
  qmp().forget_events();
  qmp().set_side_channel({input.get(), POLLOUT, [&input, state]() mutable {
                            const ssize_t count = send(input.get(), state.data(), state.size(),
                                                       MSG_DONTWAIT | MSG_NOSIGNAL);
                            if (count > 0) state = state.subspan(static_cast<std::size_t>(count));
                            if (count < 0 && errno != EAGAIN && errno != EINTR) return false;
                            if (!state.empty()) return true;
                            shutdown(input.get(), SHUT_WR);
                            return false;
                          }});
  result = wait_for_completion(monotonic_now_ns() + kLoadTimeoutNs);
  qmp().clear_side_channel();
  if (!result) return result;
  const auto run = run_state();
  if (!run) return tl::unexpected(run.error());
  if (*run == "running") {
    return fail(ErrorKind::kFailed,
                "the twin of guest " + name() + " runs although it was to stay paused");
  }
  return {};
}

Expected<void> QemuGuest::keep_after_agent_exit(std::uint64_t session) {
  auto result = require_phase(Phase::kIncoming, "be kept");
  if (!result) return result;
  // A twin found after a restart has no warden: it was kept before.
  if (!parts_.warden) return {};
  parts_.record.session = session;
  result = record_phase(RecordedPhase::kKept);
  if (!result) return result;
  result = parts_.warden->release();
  // Not kept after all: it ends with this object or, by its record, with the next agent.
  if (!result) (void)record_phase(RecordedPhase::kIncoming);
  return result;
}

Expected<void> QemuGuest::resume() {
  // Told again, since what followed it may have failed.
  if (told_to_run_ && parts_.phase != Phase::kIncoming) return {};
  auto result = require_phase(Phase::kIncoming, "resume");
  if (!result) return result;
  if (parts_.record.phase != RecordedPhase::kKept) {
    return fail(ErrorKind::kInvalid,
                "the twin of guest " + name() + " was not kept yet; it would die with its agent");
  }
  // A process that was killed counts as alive until the kernel has taken its memory apart, but it
  // answers no more. Asked before, its silence says that the guest never ran.
  auto state = run_state();
  if (!state && told_to_run_) return fail(ErrorKind::kUnreachable, state.error().message);
  if (!state) {
    return fail(ErrorKind::kFailed,
                "the twin of guest " + name() + " was not told to run: " + state.error().message);
  }
  // What it was told before may have been done meanwhile.
  if (*state != "running") {
    told_to_run_ = true;
    result = continue_running();
    // QEMU answers in order: what it says now is what became of the command.
    if (!result) state = run_state();
    if (!state) return fail(ErrorKind::kUnreachable, result.error().message);
    if (!result && never_ran_in(*state)) return fail(ErrorKind::kFailed, result.error().message);
  }
  parts_.phase = Phase::kRunning;
  // The guest runs whether this is written or not; a restarted agent sees so by itself.
  (void)record_phase(RecordedPhase::kRunning);
  return {};
}

void QemuGuest::announce() {
  // QEMU's own defaults, said aloud because the twin's parameters were set to announce nothing by
  // themselves.
  (void)qmp().execute("announce-self",
                      {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}});
  if (parts_.warden) parts_.warden->reap();
}

}  // namespace sluice::guest::qemu
