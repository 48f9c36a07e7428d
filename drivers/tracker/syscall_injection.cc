#include "drivers/tracker/syscall_injection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <elf.h>
#include <optional>
#include <poll.h>
#include <string>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "drivers/base/file_descriptor.h"
#include "drivers/tracker/proc_files.h"

namespace sluice::tracker {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kStopTimeout = std::chrono::seconds(2);

// include/linux/errno.h: seen by tracers only. Means "EINTR if a handler runs, else execute the
// call again".
constexpr long kErestartNoHand = 514;

enum class StopKind : std::uint8_t {
  kInterrupted = 1,  // PTRACE_EVENT_STOP: in the kernel's signal handling, no signal taken
  kSyscall,          // entry to or exit from a system call
  kSignal,           // a signal about to be delivered
};

// ptrace(2) takes integers and the target's addresses as pointers.
void* as_pointer(std::uint64_t value) {
  return reinterpret_cast<void*>(value);  // NOLINT(performance-no-int-to-ptr)
}

// Calls that return EINTR after a mere stop; see signal(7). Executing them again is what a stop
// must look like.
bool reports_eintr_after_stop(unsigned long long number) {
  static constexpr std::array kCalls = {SYS_epoll_wait,   SYS_epoll_pwait,   SYS_epoll_pwait2,
                                        SYS_semop,        SYS_semtimedop,    SYS_rt_sigtimedwait,
                                        SYS_io_getevents, SYS_io_pgetevents, SYS_io_uring_enter};
  return std::any_of(kCalls.begin(), kCalls.end(),
                     [&](long call) { return static_cast<unsigned long long>(call) == number; });
}

// One injection. Every member runs on the one tracing thread.
class Session final : public StoppedProcess {
 public:
  explicit Session(pid_t pid) : pid_(pid) {}

  Expected<void> stop();
  Expected<std::int64_t> call(std::int64_t number, std::array<std::uint64_t, 6> arguments) override;
  Expected<void> resume();
  [[nodiscard]] std::uint64_t stopped_ns() const { return stopped_ns_; }

 private:
  // Calls ptrace; false and errno if it fails.
  bool trace(__ptrace_request request, void* address, void* data) const {
    return ::ptrace(request, pid_, address, data) == 0;
  }
  [[nodiscard]] tl::unexpected<Error> error(const std::string& doing) const {
    return tl::unexpected(process_error(pid_, doing, errno));
  }
  [[nodiscard]] bool exited() const {
    pollfd poll_fd{pidfd_.get(), POLLIN, 0};
    return ::poll(&poll_fd, 1, 0) == 1;
  }

  // False once another thread's execve() has ended the thread we trace and taken over its id.
  [[nodiscard]] bool still_traced() const {
    const auto tracer = read_status_field(pid_, "TracerPid");
    return !tracer || *tracer == ::gettid();
  }

  Expected<void> seize();
  Expected<StopKind> wait_for_stop(std::optional<Clock::time_point> deadline) const;
  Expected<void> run_until(StopKind wanted, __ptrace_request request);
  Expected<void> save();
  Expected<user_regs_struct> read_registers() const;
  Expected<void> find_syscall_instruction();
  [[nodiscard]] bool is_syscall_instruction(std::uint64_t address) const;

  pid_t pid_;
  FileDescriptor pidfd_;
  Clock::time_point stop_requested_;
  std::uint64_t stopped_ns_ = 0;
  std::uint64_t syscall_instruction_ = 0;
  user_regs_struct saved_{};
  std::uint64_t saved_signal_mask_ = 0;
  // The thread's pointer to the restartable sequence that it is in: address (0: in none), value.
  std::uint64_t rseq_pointer_ = 0;
  long saved_rseq_ = 0;
  bool saw_stop_signal_ = false;
};

Expected<void> Session::seize() {
  pidfd_ = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_.valid()) return error("opening");
  const auto seccomp_mode = read_status_field(pid_, "Seccomp");
  if (!seccomp_mode) return tl::unexpected(seccomp_mode.error());
  std::uintptr_t options = PTRACE_O_TRACESYSGOOD;
  // A filter could kill the target for a call that is not its own.
  if (*seccomp_mode != 0) options |= PTRACE_O_SUSPEND_SECCOMP;
  if (trace(PTRACE_SEIZE, nullptr, as_pointer(options))) return {};
  const int seize_errno = errno;
  const auto tracer = read_status_field(pid_, "TracerPid");
  if (tracer && *tracer != 0) {
    return fail(ErrorKind::kBusy, "process " + std::to_string(pid_) + " is traced by process " +
                                      std::to_string(*tracer) + "; end that debugger first");
  }
  errno = exited() ? ESRCH : seize_errno;
  return error("tracing (ptrace)");
}

// Waits without waitid(): if the target is a child of this process, other threads may wait for it
// too, and neither may take a report from the other. PTRACE_GETSIGINFO succeeds exactly while the
// target is in a ptrace stop.
Expected<StopKind> Session::wait_for_stop(std::optional<Clock::time_point> deadline) const {
  const auto start = Clock::now();
  siginfo_t info{};
  while (!trace(PTRACE_GETSIGINFO, nullptr, &info)) {
    if (errno != ESRCH) return error("tracing (ptrace)");
    if (exited()) {
      errno = ESRCH;
      return error("tracing (ptrace)");
    }
    const auto now = Clock::now();
    if (deadline && now > *deadline) {
      return fail(ErrorKind::kBusy,
                  "process " + std::to_string(pid_) +
                      " does not stop: its main thread is in uninterruptible sleep; try again");
    }
    // Mostly a matter of microseconds: spin at first.
    if (now - start < std::chrono::milliseconds(1)) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (!still_traced()) {
      return fail(ErrorKind::kNotFound,
                  "process " + std::to_string(pid_) + " has replaced itself (execve)");
    }
  }
  if (info.si_code >> 8 == PTRACE_EVENT_STOP) return StopKind::kInterrupted;
  if (info.si_code == (SIGTRAP | 0x80)) return StopKind::kSyscall;
  return StopKind::kSignal;
}

// Resumes the target until the wanted stop. All signals but SIGKILL and SIGSTOP are blocked; a
// SIGSTOP is put off until the end.
Expected<void> Session::run_until(StopKind wanted, __ptrace_request request) {
  for (;;) {
    if (!trace(request, nullptr, nullptr)) return error("tracing (ptrace)");
    const auto stop = wait_for_stop(std::nullopt);
    if (!stop) return tl::unexpected(stop.error());
    if (*stop == wanted) return {};
    if (*stop == StopKind::kSignal) saw_stop_signal_ = true;
  }
}

Expected<user_regs_struct> Session::read_registers() const {
  user_regs_struct registers{};
  iovec buffer{&registers, sizeof(registers)};
  if (!trace(PTRACE_GETREGSET, as_pointer(NT_PRSTATUS), &buffer)) return error("reading registers");
  if (buffer.iov_len != sizeof(registers)) {
    return fail(ErrorKind::kUnsupported,
                "process " + std::to_string(pid_) +
                    " is a 32-bit process; only 64-bit ones can be tracked");
  }
  return registers;
}

Expected<void> Session::save() {
  const auto registers = read_registers();
  if (!registers) return tl::unexpected(registers.error());
  saved_ = *registers;
  if (static_cast<long>(saved_.rax) == -EINTR && reports_eintr_after_stop(saved_.orig_rax)) {
    saved_.rax = static_cast<unsigned long long>(-kErestartNoHand);
  }
  // The kernel aborts an interrupted restartable sequence when the thread returns to user space. It
  // would not find the thread inside it while our call runs and forget it, so the pointer is put
  // back with the registers.
  __ptrace_rseq_configuration rseq{};
  if (::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, pid_, as_pointer(sizeof(rseq)), &rseq) > 0 &&
      rseq.rseq_abi_pointer != 0) {
    constexpr std::uint64_t kRunningSequenceOffset = 8;  // struct rseq.rseq_cs, linux/rseq.h
    errno = 0;
    const std::uint64_t address = rseq.rseq_abi_pointer + kRunningSequenceOffset;
    saved_rseq_ = ::ptrace(PTRACE_PEEKDATA, pid_, as_pointer(address), nullptr);
    if (errno == 0 && saved_rseq_ != 0) rseq_pointer_ = address;
  }
  constexpr std::uint64_t kAllSignals = ~0ULL;
  auto* const mask_bytes = as_pointer(sizeof(std::uint64_t));
  if (!trace(PTRACE_GETSIGMASK, mask_bytes, &saved_signal_mask_))
    return error("reading the signal mask");
  std::uint64_t mask = kAllSignals;
  if (!trace(PTRACE_SETSIGMASK, mask_bytes, &mask)) return error("setting the signal mask");
  return {};
}

// Any executable bytes 0F 05 will do. The vDSO has some in its fall-backs, and so has libc.
Expected<void> Session::find_syscall_instruction() {
  auto mappings = read_mappings(pid_);
  if (!mappings) return tl::unexpected(mappings.error());
  std::stable_partition(mappings->begin(), mappings->end(),
                        [](const Mapping& mapping) { return mapping.name == "[vdso]"; });
  static constexpr std::array<unsigned char, 2> kSyscallInstruction = {0x0F, 0x05};
  std::vector<unsigned char> text;
  for (const Mapping& mapping : *mappings) {
    if (!mapping.executable || !mapping.readable) continue;
    text.resize(std::min<std::uint64_t>(mapping.end - mapping.start, 4U << 20));
    iovec local{text.data(), text.size()};
    iovec remote{as_pointer(mapping.start), text.size()};
    const ssize_t count = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    if (count < 0 && errno == ESRCH) return error("reading the memory");
    if (count <= 0) continue;
    const auto end = text.begin() + count;
    const auto found =
        std::search(text.begin(), end, kSyscallInstruction.begin(), kSyscallInstruction.end());
    if (found == end) continue;
    syscall_instruction_ = mapping.start + static_cast<std::uint64_t>(found - text.begin());
    return {};
  }
  return fail(ErrorKind::kBusy,
              "no syscall instruction was found in process " + std::to_string(pid_));
}

bool Session::is_syscall_instruction(std::uint64_t address) const {
  errno = 0;
  const long word = ::ptrace(PTRACE_PEEKTEXT, pid_, as_pointer(address), nullptr);
  return errno == 0 && (word & 0xFFFF) == 0x050F;
}

Expected<void> Session::stop() {
  // Before the stop, which it would make longer; verified in the stop.
  if (auto found = find_syscall_instruction(); !found) return found;
  if (auto seized = seize(); !seized) return seized;
  stop_requested_ = Clock::now();
  if (!trace(PTRACE_INTERRUPT, nullptr, nullptr)) return error("stopping");
  const auto deadline = stop_requested_ + kStopTimeout;
  for (;;) {
    const auto kind = wait_for_stop(deadline);
    if (!kind) return tl::unexpected(kind.error());
    if (*kind == StopKind::kInterrupted) {
      // An execve() came in between.
      if (!is_syscall_instruction(syscall_instruction_)) {
        if (auto found = find_syscall_instruction(); !found) return found;
      }
      return save();
    }
    // A signal was faster: it is delivered as if we were not here, and the interruption is still
    // due.
    siginfo_t info{};
    if (!trace(PTRACE_GETSIGINFO, nullptr, &info)) return error("stopping");
    const auto signal_number = static_cast<std::uintptr_t>(info.si_signo);
    if (!trace(PTRACE_CONT, nullptr, as_pointer(signal_number))) return error("stopping");
  }
}

Expected<std::int64_t> Session::call(std::int64_t number, std::array<std::uint64_t, 6> arguments) {
  user_regs_struct registers = saved_;
  registers.rip = syscall_instruction_;
  registers.rax = static_cast<unsigned long long>(number);
  // Not in a system call: the kernel must not restart the interrupted one here.
  registers.orig_rax = ~0ULL;
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
  if (!trace(PTRACE_SETREGS, nullptr, &registers)) return error("writing registers");
  // Entry and exit stops rather than a single step: a step ends in a SIGTRAP forced upon the
  // target, which resets its handler if it blocks or ignores that signal.
  for (int stop = 0; stop < 2; ++stop) {
    if (auto run = run_until(StopKind::kSyscall, PTRACE_SYSCALL); !run)
      return tl::unexpected(run.error());
  }
  const auto after = read_registers();
  if (!after) return tl::unexpected(after.error());
  return static_cast<std::int64_t>(after->rax);
}

Expected<void> Session::resume() {
  // From a system call's exit the kernel would return to user space without looking at -ERESTART…;
  // from a stop in its signal handling it looks.
  if (!trace(PTRACE_INTERRUPT, nullptr, nullptr)) return error("stopping");
  if (auto run = run_until(StopKind::kInterrupted, PTRACE_CONT); !run) return run;
  auto* const mask_bytes = as_pointer(sizeof(std::uint64_t));
  bool restored = trace(PTRACE_SETREGS, nullptr, &saved_) &&
                  trace(PTRACE_SETSIGMASK, mask_bytes, &saved_signal_mask_);
  if (rseq_pointer_ != 0) {
    restored = trace(PTRACE_POKEDATA, as_pointer(rseq_pointer_),
                     as_pointer(static_cast<std::uint64_t>(saved_rseq_))) &&
               restored;
  }
  restored = restored && trace(PTRACE_DETACH, nullptr, nullptr);
  stopped_ns_ =
      static_cast<std::uint64_t>((Clock::now() - stop_requested_) / std::chrono::nanoseconds(1));
  if (!restored) return error("restoring");
  if (saw_stop_signal_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGSTOP, nullptr, 0);
  return {};
}

Expected<std::uint64_t> run_session(pid_t pid,
                                    const std::function<Expected<void>(StoppedProcess&)>& body) {
  Session session(pid);
  if (auto stopped = session.stop(); !stopped) return tl::unexpected(stopped.error());
  auto done = body(session);
  if (auto resumed = session.resume(); done && !resumed) done = resumed;
  if (!done) return tl::unexpected(done.error());
  return session.stopped_ns();
}

}  // namespace

Expected<std::uint64_t> inject(pid_t pid,
                               const std::function<Expected<void>(StoppedProcess&)>& body) {
  if (pid == ::getpid())
    return fail(ErrorKind::kInvalid, "a process cannot inject system calls into itself");
  Expected<std::uint64_t> result = 0;
  std::thread([&] { result = run_session(pid, body); }).join();
  return result;
}

}  // namespace sluice::tracker
