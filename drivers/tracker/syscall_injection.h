// Runs system calls inside another process, which neither cooperates nor notices.
//
// The process's main thread is stopped with ptrace (SEIZE, INTERRUPT), made to execute a `syscall`
// instruction that is in its memory anyway, given its registers back and let go. No other thread of
// it is stopped.
//
//   running ──INTERRUPT──▶ stopped ──save──▶ [ set rip/rax/… ─▶ syscall entry ─▶ syscall exit ]*
//   ─INTERRUPT─▶ stopped ──restore──▶ DETACH ──▶ running
//
// What the process keeps, and how:
//  - Registers: all general registers, flags, segment bases. FP and vector state is left alone: a
//  system call does
//    not touch it and the kernel keeps it across stops.
//  - A blocking system call it slept in: the last stop is, like the first, one inside the kernel's
//  signal handling,
//    and orig_rax and rax (-ERESTART…) are restored there, so the kernel itself restarts the call,
//    with the remaining time where the call has one. Calls that report EINTR even without a signal
//    (epoll_wait, …: signal(7), "Interruption of system calls and library functions by stop
//    signals") are restarted as well; their time-out then starts anew.
//  - Signals: all are blocked meanwhile and stay pending; the mask is restored. A stopped (SIGSTOP)
//  process stays so.
//  - Restartable sequences: one that was interrupted is aborted by the kernel as on any preemption.
//  - Seccomp filters are suspended for the injected calls only (PTRACE_O_SUSPEND_SECCOMP).
//
// If this process is killed between save and restore (some 100 µs), the target is lost with it:
// nothing but ptrace holds its registers.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <sys/types.h>

#include "dataplane/base/expected.h"

namespace sluice::tracker {

// What inject() hands to its caller's function; valid during that function only, on the thread that
// runs it.
class StoppedProcess {
 public:
  virtual ~StoppedProcess() = default;

  // Executes one system call and returns what the kernel put into rax: a result, or -errno. The
  // call must not block and must not be execve, exit, fork, rt_sigreturn or one that changes the
  // signal mask. Errors: kNotFound if the process died.
  [[nodiscard]] virtual Expected<std::int64_t> call(std::int64_t number,
                                                    std::array<std::uint64_t, 6> arguments) = 0;
};

// Stops process `pid`'s main thread, runs `body`, lets the process go on. Returns for how long, in
// nanoseconds, that thread stood still. `body` runs on a thread made for it, since ptrace binds a
// target to one tracing thread; whatever happens, the end of that thread lets the target go. Any
// thread may call this; a process can be injected into by one caller at a time. Errors: those of
// `body`; kNotFound (no such process, or it died or ran execve() meanwhile), kPermission (ptrace
// refused), kBusy (another debugger is attached, an execve() is under way, or the thread is in
// uninterruptible sleep for more than two seconds), kUnsupported (a 32-bit process), kInvalid
// (`pid` is this process).
[[nodiscard]] Expected<std::uint64_t> inject(
    pid_t pid, const std::function<Expected<void>(StoppedProcess&)>& body);

}  // namespace sluice::tracker
