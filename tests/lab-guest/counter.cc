// The lab guest's only program: rewrites memory (and a disk) at a given rate, checks all of it as
// it goes, and says so ten times a second on the console, one line each:
//
//   tick 000123 errors 0 writes 4567 verified 8901
//
// `tick` grows by exactly one a line. A page that is lost, stale, misplaced or torn by a migration
// is an error; errors are never reset. Its parameters come from the kernel's command line:
//   sluice.rate=20M          bytes rewritten per second, 0 for an idle guest
//   sluice.working_set=64M   bytes of memory rewritten in turn
//   sluice.disk=/dev/vda     also write and read back blocks of this disk; its contents are lost
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <linux/fs.h>
#include <numeric>
#include <string>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>
#include <vector>

#include "dataplane/base/units.h"

namespace sluice {
namespace {

constexpr std::uint64_t kMagic = 0x736c756963653031;  // "sluice01"
constexpr std::size_t kWordsPerPage = kPageBytes / sizeof(std::uint64_t);
constexpr TimeNs kBurstNs = 10 * kMillisecondNs;
constexpr TimeNs kTickNs = 100 * kMillisecondNs;
// A guest that was stopped, or whose CPU cannot keep up, does not owe what it missed.
constexpr TimeNs kLargestDebtNs = 5 * kBurstNs;
// Read-only check that goes on even in an idle guest; about 1 ms of CPU a tick under emulation.
constexpr std::size_t kPagesVerifiedPerTick = 64;
constexpr std::size_t kBlocksWrittenPerTick = 2;
constexpr std::size_t kDiskBlocksMax = 4096;

struct Page {
  std::uint64_t magic;
  std::uint64_t number;
  std::uint64_t generation;
  std::uint64_t checksum;  // over the whole page with this field as 0
  std::array<std::uint64_t, kWordsPerPage - 4> body;
};
static_assert(sizeof(Page) == kPageBytes);

struct Counters {
  std::uint64_t tick = 0;
  std::uint64_t errors = 0;
  std::uint64_t writes = 0;
  std::uint64_t verified = 0;
};

// Four independent lanes: a page costs a few microseconds even under emulation, and a change of any
// bit changes it.
std::uint64_t checksum_of(const Page& page) {
  constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15;
  std::array<std::uint64_t, 4> lanes = {page.magic, page.number, page.generation, kMultiplier};
  for (std::size_t word = 0; word < page.body.size(); word += lanes.size()) {
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      lanes[lane] = (std::rotl(lanes[lane], 29) ^ page.body[word + lane]) * kMultiplier;
    }
  }
  std::uint64_t sum = 0;
  for (std::uint64_t lane : lanes) {
    sum = (std::rotl(sum, 31) ^ lane ^ (lane >> 32)) * kMultiplier;
  }
  return sum;
}

void fill(Page& page, std::uint64_t number, std::uint64_t generation) {
  page.magic = kMagic;
  page.number = number;
  page.generation = generation;
  // xorshift64*: incompressible, and different for every page and generation.
  std::uint64_t state = (number + 1) * 0x9e3779b97f4a7c15 ^ (generation + 1) * 0xbf58476d1ce4e5b9;
  state |= 1;
  for (std::uint64_t& word : page.body) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    word = state * 0x2545f4914f6cdd1d;
  }
  page.checksum = checksum_of(page);
}

bool is_intact(const Page& page, std::uint64_t number, std::uint64_t generation) {
  return page.magic == kMagic && page.number == number && page.generation == generation &&
         page.checksum == checksum_of(page);
}

// A step that visits every one of `count` places, far apart, before it visits one again.
std::size_t scattering_step(std::size_t count) {
  std::size_t step = std::max<std::size_t>(count * 5 / 8, 1);
  while (std::gcd(step, count) != 1) {
    ++step;
  }
  return step;
}

TimeNs now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<TimeNs>(now.tv_sec) * kSecondNs + static_cast<TimeNs>(now.tv_nsec);
}

void sleep_until(TimeNs deadline_ns) {
  timespec deadline{};
  deadline.tv_sec = static_cast<time_t>(deadline_ns / kSecondNs);
  deadline.tv_nsec = static_cast<long>(deadline_ns % kSecondNs);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, nullptr) != 0) {
  }
}

// Memory rewritten at a rate. The expected generations are kept apart from the pages, so a page
// that is old as a whole, and so consistent in itself, is found too.
class MemoryLoad {
 public:
  explicit MemoryLoad(std::size_t bytes)
      : generations_(std::max<std::size_t>(bytes / kPageBytes, 1), 1),
        step_(scattering_step(generations_.size())) {
    void* memory = mmap(nullptr, generations_.size() * kPageBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("counter: the working set does not fit the guest's memory");
      std::exit(1);
    }
    pages_ = static_cast<Page*>(memory);
    for (std::size_t number = 0; number < generations_.size(); ++number) {
      fill(pages_[number], number, generations_[number]);
    }
  }

  void verify_some(std::size_t count, Counters& counters) {
    for (; count > 0; --count) {
      verify(verify_cursor_, counters);
      verify_cursor_ = (verify_cursor_ + 1) % generations_.size();
    }
  }

  void rewrite(std::size_t count, Counters& counters) {
    for (; count > 0; --count) {
      verify(write_cursor_, counters);
      fill(pages_[write_cursor_], write_cursor_, ++generations_[write_cursor_]);
      ++counters.writes;
      write_cursor_ = (write_cursor_ + step_) % generations_.size();
    }
  }

 private:
  void verify(std::size_t number, Counters& counters) const {
    counters.errors += is_intact(pages_[number], number, generations_[number]) ? 0 : 1;
    ++counters.verified;
  }

  Page* pages_ = nullptr;
  std::vector<std::uint64_t> generations_;
  std::size_t step_;
  std::size_t write_cursor_ = 0;
  std::size_t verify_cursor_ = 0;
};

// Blocks written past the guest's page cache, so that what is read back comes from the disk.
class DiskLoad {
 public:
  bool open(const char* path) {
    // The device node appears a moment after its driver was loaded.
    for (int attempt = 0; attempt < 100 && disk_ < 0; ++attempt) {
      disk_ = ::open(path, O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
      if (disk_ < 0) {
        usleep(50'000);
      }
    }
    std::uint64_t bytes = 0;
    if (disk_ < 0 || ioctl(disk_, BLKGETSIZE64, &bytes) != 0 || bytes < kPageBytes) {
      return false;
    }
    generations_.assign(std::min<std::size_t>(bytes / kPageBytes, kDiskBlocksMax), 0);
    step_ = scattering_step(generations_.size());
    return true;
  }

  void rewrite(std::size_t count, Counters& counters) {
    for (; disk_ >= 0 && count > 0; --count) {
      if (generations_[cursor_] > 0) {
        verify(cursor_, counters);
      }
      fill(buffer_, cursor_, ++generations_[cursor_]);
      const auto offset = static_cast<off_t>(cursor_ * kPageBytes);
      if (pwrite(disk_, &buffer_, sizeof(buffer_), offset) != sizeof(buffer_)) {
        ++counters.errors;
      }
      ++counters.writes;
      verify(cursor_, counters);
      cursor_ = (cursor_ + step_) % generations_.size();
    }
  }

 private:
  void verify(std::size_t block, Counters& counters) {
    std::memset(&buffer_, 0, sizeof(buffer_));
    const auto offset = static_cast<off_t>(block * kPageBytes);
    const bool good = pread(disk_, &buffer_, sizeof(buffer_), offset) == sizeof(buffer_) &&
                      is_intact(buffer_, block, generations_[block]);
    counters.errors += good ? 0 : 1;
    ++counters.verified;
  }

  int disk_ = -1;
  std::vector<std::uint64_t> generations_;
  std::size_t step_ = 1;
  std::size_t cursor_ = 0;
  alignas(kPageBytes) Page buffer_{};
};

// One write(2) a line, so that no line is broken in the middle.
void print(const Counters& counters) {
  std::array<char, 128> line{};
  const int length =
      std::snprintf(line.data(), line.size(), "tick %06llu errors %llu writes %llu verified %llu\n",
                    static_cast<unsigned long long>(counters.tick),
                    static_cast<unsigned long long>(counters.errors),
                    static_cast<unsigned long long>(counters.writes),
                    static_cast<unsigned long long>(counters.verified));
  if (write(STDOUT_FILENO, line.data(), static_cast<std::size_t>(length)) != length) {
    std::exit(1);
  }
}

// Console lines end in "\n" alone.
void stop_output_processing() {
  termios settings{};
  if (tcgetattr(STDOUT_FILENO, &settings) == 0) {
    settings.c_oflag &= ~static_cast<tcflag_t>(OPOST);
    tcsetattr(STDOUT_FILENO, TCSANOW, &settings);
  }
}

std::string kernel_parameter(const std::string& name, const std::string& otherwise) {
  std::string text(4096, '\0');
  const int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
  const ssize_t length = read(file, text.data(), text.size());
  close(file);
  text.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  text = " " + text;
  const std::size_t start = text.find(" " + name + "=");
  if (start == std::string::npos) {
    return otherwise;
  }
  const std::size_t value = start + name.size() + 2;
  return text.substr(value, text.find_first_of(" \n", value) - value);
}

std::uint64_t bytes_of(const std::string& text) {
  char* unit = nullptr;
  const std::uint64_t number = std::strtoull(text.c_str(), &unit, 10);
  switch (*unit) {
    case 'K':
      return number << 10;
    case 'M':
      return number << 20;
    case 'G':
      return number << 30;
    default:
      return number;
  }
}

[[noreturn]] void run(MemoryLoad& memory, DiskLoad& disk, std::uint64_t rate, Counters& counters) {
  const TimeNs burst_ns = rate > 0 ? kBurstNs : kTickNs;
  TimeNs next_tick_ns = now_ns() + kTickNs;
  TimeNs last_burst_ns = now_ns();
  std::uint64_t owed_bytes = 0;
  for (TimeNs wake_ns = last_burst_ns + burst_ns;;
       wake_ns = std::max(wake_ns + burst_ns, now_ns())) {
    sleep_until(wake_ns);
    const TimeNs now = now_ns();
    owed_bytes += rate * std::min(now - last_burst_ns, kLargestDebtNs) / kSecondNs;
    last_burst_ns = now;
    memory.rewrite(owed_bytes / kPageBytes, counters);
    owed_bytes %= kPageBytes;
    if (now >= next_tick_ns) {
      memory.verify_some(kPagesVerifiedPerTick, counters);
      disk.rewrite(kBlocksWrittenPerTick, counters);
      ++counters.tick;
      print(counters);
      next_tick_ns = std::max(next_tick_ns + kTickNs, now + kTickNs / 2);
    }
  }
}

}  // namespace
}  // namespace sluice

int main() {
  using namespace sluice;
  stop_output_processing();
  Counters counters;
  DiskLoad disk;
  const std::string disk_path = kernel_parameter("sluice.disk", "");
  if (!disk_path.empty() && !disk.open(disk_path.c_str())) {
    std::printf("counter: cannot use the disk %s\n", disk_path.c_str());
    std::fflush(stdout);
    ++counters.errors;
  }
  MemoryLoad memory(bytes_of(kernel_parameter("sluice.working_set", "64M")));
  run(memory, disk, bytes_of(kernel_parameter("sluice.rate", "20M")), counters);
}
