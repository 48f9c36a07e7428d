#include "drivers/tracker/syscall_injection.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <functional>
#include <gtest/gtest.h>
#include <iostream>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "dataplane/base/random.h"
#include "tests/unit/tracker/target_process.h"

namespace sluice::tracker {
namespace {

using test::Child;
using test::PageWorker;
using test::SharedMemory;

// Calls getpid in the process and returns what inject() said.
Expected<std::uint64_t> inject_getpid(pid_t pid, std::int64_t& result) {
  return inject(pid, [&](StoppedProcess& target) -> Expected<void> {
    const auto value = target.call(SYS_getpid, {});
    if (!value) return tl::unexpected(value.error());
    result = *value;
    return {};
  });
}

TEST(SyscallInjection, RunsCallsInTheOtherProcessAndReturnsTheirResults) {
  const SharedMemory memory(1);
  PageWorker worker(memory);
  std::vector<std::int64_t> results;
  const auto stopped_ns =
      inject(worker.process().pid(), [&](StoppedProcess& target) -> Expected<void> {
        results.push_back(target.call(SYS_getpid, {}).value());
        results.push_back(target.call(SYS_close, {9999}).value());
        results.push_back(
            target.call(SYS_lseek, {static_cast<std::uint64_t>(memory.fd()), 100, SEEK_SET})
                .value());
        return {};
      });
  ASSERT_TRUE(stopped_ns) << stopped_ns.error().message;
  EXPECT_GT(*stopped_ns, 0U);
  EXPECT_EQ(results, (std::vector<std::int64_t>{worker.process().pid(), -EBADF, 100}));
  worker.write(0);
}

TEST(SyscallInjection, PassesTheCallersErrorOnAndLetsTheProcessGo) {
  const SharedMemory memory(1);
  PageWorker worker(memory);
  const auto result = inject(worker.process().pid(), [](StoppedProcess&) -> Expected<void> {
    return fail(ErrorKind::kNoCapacity, "no");
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kNoCapacity);
  worker.write(0);
}

TEST(SyscallInjection, RefusesItsOwnProcessAndAMissingOne) {
  std::int64_t ignored = 0;
  EXPECT_EQ(inject_getpid(::getpid(), ignored).error().kind, ErrorKind::kInvalid);
  Child child([] { return 0; });
  const pid_t pid = child.pid();
  child.wait();
  EXPECT_EQ(inject_getpid(pid, ignored).error().kind, ErrorKind::kNotFound);
}

TEST(SyscallInjection, NamesAnotherDebugger) {
  const SharedMemory control(1);
  const Child target([] { return ::pause(); });
  const Child debugger([&] {
    control.word(0) = ::ptrace(PTRACE_SEIZE, target.pid(), nullptr, nullptr) == 0 ? 1 : 2;
    return ::pause();
  });
  while (control.word(0) == 0) std::this_thread::yield();
  ASSERT_EQ(control.word(0), 1U);
  std::int64_t ignored = 0;
  const auto result = inject_getpid(target.pid(), ignored);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kBusy);
  EXPECT_NE(result.error().message.find(std::to_string(debugger.pid())), std::string::npos)
      << result.error().message;
}

// ---- a process asleep in a system call must not notice ----

constexpr int kSleepMs = 200;
constexpr timespec kSleep = {0, kSleepMs * 1'000'000L};

struct BlockingCall {
  std::string name;
  long number;  // what the main thread sleeps in
  std::function<bool()>
      sleeps_on;  // runs in the child; true if the call ended as it would have undisturbed
};

bool wait_on_futex(const timespec* timeout) {
  int word = 0;
  return ::syscall(SYS_futex, &word, FUTEX_WAIT, 0, timeout, nullptr, 0) == -1 &&
         errno == ETIMEDOUT;
}

bool wait_with_epoll() {
  epoll_event event{};
  return ::epoll_wait(::epoll_create1(0), &event, 1, kSleepMs) == 0;
}

bool wait_with_signal_mask() {
  sigset_t none;
  sigemptyset(&none);
  return ::ppoll(nullptr, 0, &kSleep, &none) == 0;
}

bool wait_for_signal() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  return ::sigtimedwait(&signals, nullptr, &kSleep) == -1 && errno == EAGAIN;
}

bool wait_for_child_process() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::nanosleep(&kSleep, nullptr);
    ::_exit(3);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3;
}

bool read_from_pipe() {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return false;
  std::thread writer([&] {
    ::nanosleep(&kSleep, nullptr);
    static_cast<void>(::write(ends[1], "x", 1));
  });
  char byte = 0;
  const bool got = ::read(ends[0], &byte, 1) == 1 && byte == 'x';
  writer.join();
  return got;
}

const std::vector<BlockingCall>& blocking_calls() {
  static const std::vector<BlockingCall> calls = {
      {"nanosleep", SYS_clock_nanosleep, [] { return ::nanosleep(&kSleep, nullptr) == 0; }},
      {"poll", SYS_poll, [] { return ::poll(nullptr, 0, kSleepMs) == 0; }},
      {"ppoll", SYS_ppoll, wait_with_signal_mask},
      {"futex", SYS_futex, [] { return wait_on_futex(&kSleep); }},
      {"epoll_wait", SYS_epoll_wait, wait_with_epoll},
      {"sigtimedwait", SYS_rt_sigtimedwait, wait_for_signal},
      {"wait4", SYS_wait4, wait_for_child_process},
      {"read", SYS_read, read_from_pipe},
  };
  return calls;
}

class SleepingProcess : public testing::TestWithParam<BlockingCall> {};

// With two more threads, which are not stopped: one asleep, one busy.
TEST_P(SleepingProcess, SleepsOnUndisturbed) {
  const BlockingCall& blocking = GetParam();
  Child child([&] {
    std::atomic<bool> stop = false;
    bool slept = false;
    std::thread sleeper([&] { slept = ::nanosleep(&kSleep, nullptr) == 0; });
    std::thread counter([&] {
      while (!stop) std::this_thread::yield();
    });
    const auto start = std::chrono::steady_clock::now();
    const bool good = blocking.sleeps_on();
    const auto elapsed = std::chrono::steady_clock::now() - start;
    stop = true;
    sleeper.join();
    counter.join();
    if (!slept) return 1;
    if (!good) return 2;
    // It must not have been cut short: 10 ms for what passed before the clock was read.
    return elapsed < std::chrono::milliseconds(kSleepMs - 10) ? 3 : 0;
  });
  child.wait_until_in_syscall(blocking.number);
  for (int round = 0; round < 5; ++round) {
    std::int64_t result = 0;
    const auto injected = inject_getpid(child.pid(), result);
    // On a loaded machine the sleep may be over before all rounds are done.
    if (!injected && round > 0 && injected.error().message.find("exited") != std::string::npos) {
      break;
    }
    ASSERT_TRUE(injected) << injected.error().message;
    EXPECT_EQ(result, child.pid());
  }
  EXPECT_EQ(child.wait(), 0) << "1: a thread's sleep, 2: the call failed, 3: it ended early";
}

INSTANTIATE_TEST_SUITE_P(Calls, SleepingProcess, testing::ValuesIn(blocking_calls()),
                         [](const auto& test) { return test.param.name; });

// A handler that runs interrupts a sleep; after an injection it must still do so.
TEST(SyscallInjection, LeavesSignalsAbleToInterruptACall) {
  Child child([] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    epoll_event event{};
    return ::epoll_wait(::epoll_create1(0), &event, 1, -1) == -1 && errno == EINTR ? 0 : 1;
  });
  child.wait_until_in_syscall(SYS_epoll_wait);
  std::int64_t result = 0;
  ASSERT_TRUE(inject_getpid(child.pid(), result));
  child.wait_until_in_syscall(SYS_epoll_wait);
  ::kill(child.pid(), SIGUSR1);
  EXPECT_EQ(child.wait(), 0);
}

// ---- a process that computes must not notice either ----

double compute() {
  double sum = 0;
  std::uint64_t hash = 1;
  for (int i = 1; i < 2000; ++i) {
    hash = hash * 6364136223846793005ULL + static_cast<std::uint64_t>(i);
    sum += std::sqrt(static_cast<double>(i)) * static_cast<double>(hash >> 40);
  }
  return sum;
}

std::atomic<std::uint64_t> alarms = 0;

TEST(SyscallInjection, DisturbsNeitherComputationNorSignals) {
  const SharedMemory control(1);
  Child child([&] {
    struct sigaction action {};
    action.sa_handler = [](int) { ++alarms; };
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval every_200_us = {{0, 200}, {0, 200}};
    ::setitimer(ITIMER_REAL, &every_200_us, nullptr);
    const double expected = compute();
    control.word(0) = 1;
    while (control.word(0) == 1) {
      if (compute() != expected) return 1;
    }
    sigset_t blocked;
    ::sigprocmask(SIG_SETMASK, nullptr, &blocked);
    return alarms > 0 && sigismember(&blocked, SIGALRM) == 0 ? 0 : 2;
  });
  while (control.word(0) == 0) std::this_thread::yield();
  for (int round = 0; round < 200; ++round) {
    std::int64_t result = 0;
    const auto injected = inject_getpid(child.pid(), result);
    ASSERT_TRUE(injected) << injected.error().message;
    ASSERT_EQ(result, child.pid());
  }
  control.word(0) = 2;
  EXPECT_EQ(child.wait(), 0) << "1: a wrong sum, 2: alarms lost or blocked";
}

TEST(SyscallInjection, KeepsAStoppedProcessStopped) {
  const SharedMemory memory(1);
  PageWorker worker(memory);
  Child& process = worker.process();
  ::kill(process.pid(), SIGSTOP);
  while (process.state() != 'T') std::this_thread::yield();
  std::int64_t result = 0;
  const auto injected = inject_getpid(process.pid(), result);
  ASSERT_TRUE(injected) << injected.error().message;
  EXPECT_EQ(result, process.pid());
  while (process.state() == 'R') std::this_thread::yield();  // on its way back into the stop
  EXPECT_EQ(process.state(), 'T');
  ::kill(process.pid(), SIGCONT);
  worker.write(0);
}

TEST(SyscallInjection, WorksUnderASeccompFilterThatWouldKill) {
  const SharedMemory memory(1);
  PageWorker worker(memory, [] {
    std::array<sock_filter, 4> program = {
        sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getpid},
        sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
        sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    const sock_fprog filter = {program.size(), program.data()};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) ::_exit(1);
  });
  std::int64_t result = 0;
  const auto injected = inject_getpid(worker.process().pid(), result);
  ASSERT_TRUE(injected) << injected.error().message;
  EXPECT_EQ(result, worker.process().pid());
  worker.write(0);
}

TEST(SyscallInjection, SurvivesTheTargetsDeathAtAnyPoint) {
  const auto seed =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  std::cout << "seed " << seed << '\n';
  Random random(seed);
  int completed = 0;
  for (int round = 0; round < 200; ++round) {
    const Child child([] { return ::pause(); });
    std::thread killer([&, delay_us = random.below(500)] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      child.kill();
    });
    std::int64_t result = 0;
    const auto injected = inject_getpid(child.pid(), result);
    killer.join();
    completed += injected ? 1 : 0;
    if (!injected) {
      EXPECT_EQ(injected.error().kind, ErrorKind::kNotFound) << injected.error().message;
    }
  }
  std::cout << completed << " of 200 injections were faster than the death\n";
}

TEST(SyscallInjection, SurvivesAnExecveByAnotherThread) {
  const auto seed =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  std::cout << "seed " << seed << '\n';
  Random random(seed);
  for (int round = 0; round < 30; ++round) {
    const auto delay = std::chrono::microseconds(random.below(2000));
    const Child child([&] {
      std::thread replacer([&] {
        std::this_thread::sleep_for(delay);
        ::execl("/bin/sleep", "sleep", "100", nullptr);
      });
      return ::pause();
    });
    for (int attempt = 0; attempt < 10; ++attempt) {
      std::int64_t result = 0;
      const auto injected = inject_getpid(child.pid(), result);
      if (injected) {
        EXPECT_EQ(result, child.pid());
      } else {
        EXPECT_NE(injected.error().kind, ErrorKind::kFailed) << injected.error().message;
      }
    }
    child.wait_until_named("sleep");
    // The name changes before the execve() is complete.
    std::int64_t result = 0;
    auto injected = inject_getpid(child.pid(), result);
    for (int attempt = 0; attempt < 1000 && !injected; ++attempt) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      injected = inject_getpid(child.pid(), result);
    }
    EXPECT_TRUE(injected) << injected.error().message;
  }
}

TEST(SyscallInjection, LeavesTheTargetsExitStatusToItsParent) {
  const SharedMemory control(1);
  Child child([&] {
    while (control.word(0) == 0) std::this_thread::yield();
    return 42;
  });
  std::int64_t result = 0;
  ASSERT_TRUE(inject_getpid(child.pid(), result));
  control.word(0) = 1;
  EXPECT_EQ(child.wait(), 42);
}

}  // namespace
}  // namespace sluice::tracker
