// The start of the EAL in several processes at once, as when a machine's agents start together.
#include "drivers/dpdk/eal.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace sluice::dpdk {
namespace {

constexpr std::size_t kProcesses = 4;
constexpr std::size_t kHugepageBytes = 2UL << 20;

struct Pipe {
  Pipe() { EXPECT_EQ(pipe(ends.data()), 0); }
  ~Pipe() {
    for (int& end : ends) close_end(end);
  }
  static void close_end(int& end) {
    if (end >= 0) close(std::exchange(end, -1));
  }
  std::array<int, 2> ends{};
};

// Waits for the pipe's end and starts an EAL; keeps its memory until told by the second pipe's.
[[noreturn]] void start_when_told(Pipe& begin, Pipe& started, Pipe& finish, std::size_t bytes) {
  char byte = 0;
  Pipe::close_end(begin.ends[1]);
  Pipe::close_end(finish.ends[1]);
  (void)read(begin.ends[0], &byte, 1);
  const auto eal = start_eal({Hugepages::kAuto, bytes, "", "", ""});
  byte = !eal ? 'x' : eal->hugepages ? 'h' : 'n';
  const bool told = write(started.ends[1], &byte, 1) == 1;
  (void)read(finish.ends[0], &byte, 1);
  _exit(told && eal ? 0 : 1);
}

TEST(Eal, ProcessesThatStartTogetherDoNotCountOnTheSameHugepages) {
  // Enough for one of them. Without hugepages all do without them, and only that is shown.
  const std::size_t free_bytes = free_hugepage_bytes();
  const std::size_t bytes = std::max(free_bytes / 2 / kHugepageBytes + 1, 32UL) * kHugepageBytes;
  std::printf("%zu MiB of hugepages are free\n", free_bytes >> 20);
  std::array<pid_t, kProcesses> children{};
  std::size_t with_hugepages = 0;
  {
    Pipe begin;
    Pipe started;
    Pipe finish;
    for (pid_t& child : children) {
      child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        start_when_told(begin, started, finish, bytes);
      }
    }
    Pipe::close_end(begin.ends[1]);
    // A process that was killed has no answer.
    Pipe::close_end(started.ends[1]);
    for (std::size_t i = 0; i < kProcesses; ++i) {
      char answer = 0;
      ASSERT_EQ(read(started.ends[0], &answer, 1), 1);
      with_hugepages += answer == 'h' ? 1 : 0;
    }
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  std::printf("%zu of %zu processes got hugepages\n", with_hugepages, kProcesses);
}

}  // namespace
}  // namespace sluice::dpdk
