#include "tests/unit/tracker/target_process.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace sluice::tracker::test {

namespace {

struct Command {
  std::uint64_t page;
  std::uint64_t count;
  char what;
};

int serve(int socket, const SharedMemory& memory) {
  Command command{};
  while (::read(socket, &command, sizeof(command)) == sizeof(command)) {
    if (command.what == 'f') {
      ::madvise(const_cast<std::uint64_t*>(&memory.word(command.page)), command.count * kPageBytes,
                MADV_DONTNEED);
    } else {
      for (std::uint64_t page = command.page; page < command.page + command.count; ++page) {
        const std::uint64_t value = memory.word(page);
        if (command.what == 'w') memory.word(page) = value + 1;
      }
    }
    if (::write(socket, "d", 1) != 1) return 1;
  }
  return 0;
}

std::array<int, 2> socket_pair() {
  std::array<int, 2> sockets{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets.data()), 0);
  return sockets;
}

}  // namespace

SharedMemory::SharedMemory(std::uint64_t pages, unsigned int memfd_flags)
    : fd_(::memfd_create("tracker-test", MFD_CLOEXEC | memfd_flags)), pages_(pages) {
  if (fd_ < 0 || ::ftruncate(fd_, static_cast<off_t>(pages * kPageBytes)) != 0) return;
  void* const base =
      ::mmap(nullptr, pages * kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (base != MAP_FAILED) base_ = static_cast<std::byte*>(base);
}

SharedMemory::~SharedMemory() {
  if (base_ != nullptr) ::munmap(base_, pages_ * kPageBytes);
  ::close(fd_);
}

volatile std::uint64_t& SharedMemory::word(std::uint64_t page) const {
  return *reinterpret_cast<volatile std::uint64_t*>(base_ + page * kPageBytes);
}

Child::Child(const std::function<int()>& body) : pid_(::fork()) {
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::_exit(body());
}

Child::~Child() {
  if (pid_ <= 0) return;
  kill();
  wait();
}

void Child::kill() const { ::kill(pid_, SIGKILL); }

int Child::wait() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) return -1000;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void Child::wait_until_in_syscall(long number) const {
  wait_for_word("syscall", std::to_string(number));
}

void Child::wait_until_named(const std::string& program) const { wait_for_word("comm", program); }

void Child::wait_for_word(const std::string& file_name, const std::string& word) const {
  for (int attempt = 0; attempt < 5000; ++attempt) {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/" + file_name);
    std::string text;
    file >> text;
    if (text == word) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ADD_FAILURE() << "/proc/" << pid_ << "/" << file_name << " never began with " << word;
}

std::size_t Child::open_descriptors() const {
  const std::filesystem::directory_iterator directory("/proc/" + std::to_string(pid_) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(directory), end(directory)));
}

bool Child::is_write_tracked() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/smaps");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmFlags:", 0) == 0 && (line + " ").find(" uw ") != std::string::npos)
      return true;
  }
  return false;
}

char Child::state() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
  std::string line;
  std::getline(file, line);
  return line.at(line.rfind(')') + 2);
}

PageWorker::PageWorker(const SharedMemory& memory, const std::function<void()>& set_up)
    : sockets_(socket_pair()), child_([&] {
        ::close(sockets_[0]);
        if (set_up) set_up();
        return serve(sockets_[1], memory);
      }) {
  ::close(sockets_[1]);
  command('r', 0, 0);  // it is ready, so its open descriptors do not change any more
}

PageWorker::~PageWorker() { ::close(sockets_[0]); }

void PageWorker::command(char what, std::uint64_t page, std::uint64_t count) {
  const Command message{page, count, what};
  char answer = 0;
  ASSERT_EQ(::send(sockets_[0], &message, sizeof(message), MSG_NOSIGNAL),
            static_cast<ssize_t>(sizeof(message)));
  ASSERT_EQ(::read(sockets_[0], &answer, 1), 1);
}

std::vector<std::uint64_t> harvest_pages(DirtyTracker& tracker, std::uint64_t pages,
                                         std::size_t span) {
  std::vector<std::uint64_t> found;
  std::vector<port::PageRun> runs(span);
  for (std::uint64_t next = 0; next < pages;) {
    const port::HarvestResult result = tracker.harvest(next, pages - next, runs);
    EXPECT_EQ(result.status, port::HarvestStatus::kOk);
    EXPECT_LE(result.runs, span);
    if (result.status != port::HarvestStatus::kOk || result.next_page <= next) break;
    for (std::size_t i = 0; i < result.runs; ++i) {
      EXPECT_GT(runs[i].count, 0U);
      EXPECT_TRUE(found.empty() || runs[i].first > found.back())
          << "runs are not ascending and disjoint";
      for (std::uint64_t page = 0; page < runs[i].count; ++page)
        found.push_back(runs[i].first + page);
    }
    next = result.next_page;
  }
  return found;
}

}  // namespace sluice::tracker::test
