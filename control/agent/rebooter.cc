#include "control/agent/rebooter.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>

#include "control/hooks/hook_runner.h"
#include "drivers/base/file_descriptor.h"
#include "drivers/guest/qemu/pidfd.h"

namespace sluice::agent {

Expected<void> Rebooter::begin() {
  std::unique_lock lock(mutex_);
  // Whoever has not heard the answer asks again.
  if (!rebooting_) {
    if (auto started = start(); !started) return started;
  }
  ended_.wait_for(lock, kVerdictTime, [this] { return command_ended_; });
  if (rebooting_) return {};
  return fail(ErrorKind::kFailed, failure_);
}

Expected<void> Rebooter::start() {
  const std::string& host = config_.host;
  if (hooks_running_ > 0) {
    return fail(ErrorKind::kBusy,
                fmt::format("{} is running a hook, which a reboot would end; wait for it", host));
  }
  if (auto closed = registry_.refuse_more(host + " is about to reboot"); !closed) return closed;
  spdlog::warn("rebooting: the controller asked for it");
  const auto command = hooks::start_detached(config_.reboot_command);
  if (!command) {
    registry_.accept_again();
    return tl::unexpected<Error>(command.error());
  }
  rebooting_ = true;
  command_ended_ = false;
  failure_.clear();
  begun_ = Clock::now();
  // An earlier one has noted its end, or there would be no second start.
  waiter_ =
      std::jthread([this, pid = *command](const std::stop_token& stop) { await_end(pid, stop); });
  return {};
}

void Rebooter::await_end(pid_t command, const std::stop_token& stop) {
  constexpr int kLookAgainMs = 100;
  const FileDescriptor end(pidfd_open(command, 0));
  int status = 0;
  pid_t reaped = 0;
  while ((reaped = waitpid(command, &status, WNOHANG)) == 0) {
    if (stop.stop_requested()) return;
    pollfd ready{end.get(), POLLIN, 0};
    poll(&ready, 1, kLookAgainMs);
  }
  note_end(reaped == command ? std::optional(status) : std::nullopt);
}

void Rebooter::note_end(std::optional<int> wait_status) {
  const std::lock_guard lock(mutex_);
  command_ended_ = true;
  if (wait_status && WIFEXITED(*wait_status) && WEXITSTATUS(*wait_status) != 0) {
    rebooting_ = false;
    failure_ = fmt::format(
        "{} was not rebooted: its reboot_command {} ended with exit status {}; run it by hand to "
        "see why",
        config_.host, config_.reboot_command.front(), WEXITSTATUS(*wait_status));
    registry_.accept_again();
    spdlog::error("{}", failure_);
  }
  ended_.notify_all();
}

std::optional<std::string> Rebooter::remark(Clock::time_point now) const {
  const std::lock_guard lock(mutex_);
  if (!rebooting_) return failure_.empty() ? std::nullopt : std::optional(failure_);
  if (now - begun_ < kOverdue) return std::nullopt;
  return fmt::format(
      "was told to reboot {} min ago, is still up and takes neither guests nor hooks: reboot it, "
      "or "
      "restart its agent if it is to stay up",
      std::chrono::duration_cast<std::chrono::minutes>(now - begun_).count());
}

Rebooter::HookTurn::HookTurn(Rebooter& rebooter) : rebooter_(rebooter) {
  const std::lock_guard lock(rebooter_.mutex_);
  granted_ = !rebooter_.rebooting_;
  if (granted_) ++rebooter_.hooks_running_;
}

Rebooter::HookTurn::~HookTurn() {
  if (!granted_) return;
  const std::lock_guard lock(rebooter_.mutex_);
  --rebooter_.hooks_running_;
}

}  // namespace sluice::agent
