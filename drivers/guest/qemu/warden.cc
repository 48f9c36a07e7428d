#include "drivers/guest/qemu/warden.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <string_view>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>

#include "drivers/guest/qemu/pidfd.h"

namespace sluice::guest::qemu {
namespace {

constexpr std::string_view kWardenFlag = "--warden";
constexpr int kLifeLineFd = kFirstInheritedFd;
constexpr int kWatchedPidfd = kFirstInheritedFd + 1;
constexpr char kKeep = 'k';

// Removes the directory only if it is still the one that was there at the start: an agent that came
// back may have made a new one under the same name.
void remove_directory(const char* path, int directory_fd) {
  struct stat now {};
  struct stat before {};
  if (stat(path, &now) != 0 || fstat(directory_fd, &before) != 0) return;
  if (now.st_dev != before.st_dev || now.st_ino != before.st_ino) return;
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace

Expected<Warden> Warden::watch(const Process& watched, const std::string& directory) {
  std::array<int, 2> ends{};
  // Not a pipe: send() can be told not to raise SIGPIPE. Close-on-exec: no other child may hold the
  // agent's end open.
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(ErrorKind::kNoCapacity,
                std::string("cannot make a socket pair: ") + std::strerror(errno));
  }
  const FileDescriptor wardens_end(ends[0]);
  FileDescriptor agents_end(ends[1]);
  auto process = Process::spawn({{"/proc/self/exe", std::string(kWardenFlag), directory},
                                 -1,
                                 {wardens_end.get(), watched.pidfd()}});
  if (!process) return tl::unexpected(process.error());
  return Warden(std::move(agents_end), std::move(*process));
}

Warden::~Warden() {
  if (!life_line_.valid() && process_.pidfd() < 0) return;
  life_line_.reset();
  if (!process_.wait_exit(5 * kSecondNs)) process_.kill();
}

Expected<void> Warden::release() {
  if (send(life_line_.get(), &kKeep, 1, MSG_NOSIGNAL) == 1) {
    life_line_.reset();
    return {};
  }
  return fail(ErrorKind::kFailed,
              "the warden of an incoming guest has died; start the migration again");
}

void Warden::reap() const { (void)process_.wait_exit(0); }

bool is_warden_invocation(int argc, char** argv) { return argc == 3 && argv[1] == kWardenFlag; }

int warden_main(int /*argc*/, char** argv) {
  prctl(PR_SET_NAME, "sluice-warden");
  const FileDescriptor directory(open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  char byte = 0;
  ssize_t count = 0;
  do {
    count = read(kLifeLineFd, &byte, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 1 && byte == kKeep) return 0;
  pidfd_send_signal(kWatchedPidfd, SIGKILL, nullptr, 0);
  remove_directory(argv[2], directory.get());
  return 0;
}

}  // namespace sluice::guest::qemu
