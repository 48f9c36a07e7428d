// Real processes and real memory to track in tests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/units.h"
#include "drivers/tracker/dirty_tracker.h"

namespace sluice::tracker::test {

// Shared memory from a memfd, mapped here; a child made afterwards has its own mapping at the same
// address.
class SharedMemory {
 public:
  explicit SharedMemory(std::uint64_t pages, unsigned int memfd_flags = 0);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  [[nodiscard]] bool valid() const { return base_ != nullptr; }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] AddressRange range() const {
    return {reinterpret_cast<std::uint64_t>(base_), pages_ * kPageBytes};
  }
  // The first eight bytes of a page.
  [[nodiscard]] volatile std::uint64_t& word(std::uint64_t page) const;

 private:
  int fd_ = -1;
  std::uint64_t pages_;
  std::byte* base_ = nullptr;
};

// A forked child that runs `body` and exits with its result. It is killed at the end of its scope.
class Child {
 public:
  explicit Child(const std::function<int()>& body);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  // Kills it; it stays a zombie until wait().
  void kill() const;
  // Waits for its end: its exit status, or minus the signal that killed it.
  int wait();
  // Waits until its main thread sleeps in the given system call.
  void wait_until_in_syscall(long number) const;
  // Waits until it has become the program of that name (execve).
  void wait_until_named(const std::string& program) const;
  [[nodiscard]] std::size_t open_descriptors() const;
  // Whether the kernel tracks writes to any of its memory (smaps: VmFlags "uw").
  [[nodiscard]] bool is_write_tracked() const;
  // Its scheduling state: 'R', 'S', 'T', ….
  [[nodiscard]] char state() const;

 private:
  void wait_for_word(const std::string& file_name, const std::string& word) const;

  pid_t pid_ = -1;
};

// A child that reads, writes or drops single pages of `memory` when told to.
class PageWorker {
 public:
  explicit PageWorker(const SharedMemory& memory, const std::function<void()>& set_up = nullptr);
  ~PageWorker();
  PageWorker(const PageWorker&) = delete;
  PageWorker& operator=(const PageWorker&) = delete;

  [[nodiscard]] Child& process() { return child_; }
  // All return after the child has done it.
  void read(std::uint64_t page) { command('r', page, 1); }
  void write(std::uint64_t page) { command('w', page, 1); }
  void write_range(std::uint64_t page, std::uint64_t count) { command('w', page, count); }
  // Drops the child's page table entries (MADV_DONTNEED); shared memory keeps its content.
  void forget_range(std::uint64_t page, std::uint64_t count) { command('f', page, count); }

 private:
  void command(char what, std::uint64_t page, std::uint64_t count);

  std::array<int, 2> sockets_;
  Child child_;
};

// All that one complete pass over the range reports, page by page; `span` bounds the entries a
// single call may return.
std::vector<std::uint64_t> harvest_pages(DirtyTracker& tracker, std::uint64_t pages,
                                         std::size_t span = 64);

}  // namespace sluice::tracker::test
