// Impairs what passes one port of the lab's switch, from its start to SIGTERM: attaches
// impair.bpf.c to the port, and holds the frames that have to wait, which the program sends through
// a tap per direction. Run by scripts/lab impair.
//
// The frames are the real ones, of data and of acks; nothing of the data plane knows of it.
#include "tests/lab-impair/impair.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <linux/if_tun.h>
#include <map>
#include <net/if.h>
#include <poll.h>
#include <queue>
#include <random>
#include <stdexcept>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

#include "drivers/base/file_descriptor.h"

namespace sluice::lab {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// As long as a reordered frame may be overtaken; the simulator's default too.
constexpr microseconds kReorderMax{1000};
// Between two writings of the statistics.
constexpr std::chrono::milliseconds kStatisticsPause{100};
constexpr std::size_t kFrameBytesMax = 65'550;
constexpr std::size_t kWaitingFramesMax = 65'536;
constexpr std::array<const char*, kDirections> kDirectionNames = {"out", "in"};

struct Options {
  std::string port;
  std::string program;
  std::string statistics;
  std::string direction = "both";
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;
  double reorder = 0;
  std::uint64_t delay_us = 0;
};

volatile std::sig_atomic_t ended = 0;

void check(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what + ": " + std::strerror(errno));
}

// "0.1%" or "0.001".
std::string to_probability(std::string& text) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (*end == '%') {
    value /= 100;
    ++end;
  }
  if (text.empty() || *end != '\0' || !(value >= 0 && value <= 1)) {
    return "'" + text + "' is not a probability such as 0.1% or 0.001";
  }
  text = std::to_string(value);
  return {};
}

__u64 scaled(double probability) { return static_cast<__u64>(probability * 4294967296.0); }

// An interface whose frames we read and write.
class Tap {
 public:
  Tap(const std::string& name, int mtu)
      : fd_(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)) {
    check(fd_.valid(), "/dev/net/tun cannot be opened");
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    check(ioctl(fd_.get(), TUNSETIFF, &request) == 0, "cannot make the interface " + name);
    const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM, 0));
    const auto set = [&](unsigned long what) {
      check(ioctl(socket.get(), what, &request) == 0, "cannot set up the interface " + name);
    };
    request.ifr_mtu = mtu;
    set(SIOCSIFMTU);
    request.ifr_qlen = 10'000;
    set(SIOCSIFTXQLEN);
    request.ifr_flags = IFF_UP;
    set(SIOCSIFFLAGS);
    index_ = if_nametoindex(name.c_str());
  }

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] unsigned index() const { return index_; }

 private:
  FileDescriptor fd_;
  unsigned index_ = 0;
};

int mtu_of(const std::string& interface) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  check(ioctl(socket.get(), SIOCGIFMTU, &request) == 0, "there is no interface " + interface);
  return request.ifr_mtu;
}

// The loaded programs, attached to the port and the taps as long as this lives.
class Programs {
 public:
  Programs(const Options& options, const std::array<const Tap*, kDirections>& taps)
      : object_(bpf_object__open(options.program.c_str())),
        port_(if_nametoindex(options.port.c_str())) {
    check(object_ != nullptr && bpf_object__load(object_) == 0, "cannot load " + options.program);
    for (__u32 direction = 0; direction < kDirections; ++direction) {
      const bool wanted =
          options.direction == "both" || options.direction == kDirectionNames[direction];
      if (!wanted) continue;
      ImpairSettings set{};
      set.loss = scaled(options.loss);
      set.duplicate = scaled(options.duplicate);
      set.corrupt = scaled(options.corrupt);
      set.hold = options.delay_us > 0 ? scaled(1) : scaled(options.reorder);
      set.port = port_;
      set.tap = taps[direction]->index();
      check(bpf_map_update_elem(map("settings"), &direction, &set, BPF_ANY) == 0,
            "cannot set the program's options");
      attach(taps[direction]->index(), BPF_TC_INGRESS,
             direction == kFromHost ? "released_out" : "released_in");
      attach(port_, direction == kFromHost ? BPF_TC_INGRESS : BPF_TC_EGRESS,
             direction == kFromHost ? "frame_out" : "frame_in");
    }
  }
  ~Programs() {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(port_);
    hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
    bpf_tc_hook_destroy(&hook);
    bpf_object__close(object_);
  }
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;

  [[nodiscard]] ImpairCounters counters(__u32 direction) const {
    ImpairCounters counted{};
    bpf_map_lookup_elem(map("counters"), &direction, &counted);
    return counted;
  }

 private:
  [[nodiscard]] int map(const char* name) const {
    return bpf_object__find_map_fd_by_name(object_, name);
  }

  void attach(unsigned interface, bpf_tc_attach_point point, const char* program) {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(interface);
    hook.attach_point = point;
    const int made = bpf_tc_hook_create(&hook);
    check(made == 0 || made == -EEXIST, "cannot make a clsact queueing discipline");
    bpf_tc_opts how{};
    how.sz = sizeof(how);
    how.prog_fd = bpf_program__fd(bpf_object__find_program_by_name(object_, program));
    check(bpf_tc_attach(&hook, &how) == 0, std::string("cannot attach ") + program);
  }

  bpf_object* object_;
  unsigned port_;
};

// Frames on their way through one tap, the next due first.
class WaitingFrames {
 public:
  WaitingFrames(const Tap& tap, const Options& options)
      : tap_(tap),
        delay_(options.delay_us),
        // Without a delay only frames that are to be reordered come.
        reorder_(options.delay_us > 0 ? options.reorder : 1) {}

  [[nodiscard]] const Tap& tap() const { return tap_; }
  [[nodiscard]] std::uint64_t reordered() const { return reordered_; }
  [[nodiscard]] bool empty() const { return frames_.empty(); }
  [[nodiscard]] Clock::time_point next_due() const { return frames_.top().due; }

  void take_in() {
    std::vector<std::byte> buffer(kFrameBytesMax);
    ssize_t bytes = 0;
    while (frames_.size() < kWaitingFramesMax &&
           (bytes = read(tap_.fd(), buffer.data(), buffer.size())) > 0) {
      Clock::time_point due = Clock::now() + delay_;
      if (std::bernoulli_distribution(reorder_)(random_)) {
        due += microseconds(
            std::uniform_int_distribution<std::int64_t>(1, kReorderMax.count())(random_));
        ++reordered_;
      }
      frames_.push({due, serial_++, {buffer.begin(), buffer.begin() + bytes}});
    }
  }

  void let_go() {
    while (!empty() && next_due() <= Clock::now()) {
      const std::vector<std::byte>& bytes = frames_.top().bytes;
      // A frame that the kernel refuses now is lost, as in any full queue.
      [[maybe_unused]] const ssize_t written = write(tap_.fd(), bytes.data(), bytes.size());
      frames_.pop();
    }
  }

 private:
  struct Frame {
    Clock::time_point due;
    std::uint64_t serial;
    std::vector<std::byte> bytes;
    bool operator<(const Frame& other) const {
      return due != other.due ? due > other.due : serial > other.serial;
    }
  };

  const Tap& tap_;
  microseconds delay_;
  double reorder_;
  std::mt19937_64 random_{std::random_device{}()};
  std::priority_queue<Frame> frames_;
  std::uint64_t serial_ = 0;
  std::uint64_t reordered_ = 0;
};

using Waiting = std::array<WaitingFrames, kDirections>;

// Replaced in one step: a reader sees the old or the new.
void write_statistics(const std::string& path, const Programs& programs, const Waiting& waiting) {
  const std::string partial = path + ".partial";
  {
    std::ofstream file(partial);
    file << "{";
    for (__u32 direction = 0; direction < kDirections; ++direction) {
      const ImpairCounters counted = programs.counters(direction);
      file << (direction == 0 ? "" : ", ") << '"' << kDirectionNames[direction]
           << "\": {\"frames\": " << counted.frames << ", \"lost\": " << counted.lost
           << ", \"duplicated\": " << counted.duplicated
           << ", \"reordered\": " << waiting[direction].reordered()
           << ", \"corrupted\": " << counted.corrupted << "}";
    }
    file << "}\n";
  }
  check(std::rename(partial.c_str(), path.c_str()) == 0, "cannot write " + path);
}

void wait_for_frames(const Waiting& waiting, Clock::time_point latest) {
  std::array<pollfd, kDirections> polled{};
  for (std::size_t i = 0; i < polled.size(); ++i) {
    polled[i] = {waiting[i].tap().fd(), POLLIN, 0};
    if (!waiting[i].empty()) latest = std::min(latest, waiting[i].next_due());
  }
  const auto left =
      std::max<std::chrono::nanoseconds>(latest - Clock::now(), std::chrono::nanoseconds(0));
  const timespec timeout{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
  ppoll(polled.data(), polled.size(), &timeout, nullptr);
}

void run(const Options& options) {
  const int mtu = mtu_of(options.port);
  const Tap tap_out(options.port + "-o", mtu);
  const Tap tap_in(options.port + "-i", mtu);
  Waiting waiting{WaitingFrames(tap_out, options), WaitingFrames(tap_in, options)};
  const Programs programs(options, {&tap_out, &tap_in});
  auto next_statistics = Clock::now();
  while (ended == 0) {
    if (Clock::now() >= next_statistics) {
      write_statistics(options.statistics, programs, waiting);
      next_statistics = Clock::now() + kStatisticsPause;
    }
    wait_for_frames(waiting, next_statistics);
    for (WaitingFrames& frames : waiting) {
      frames.take_in();
      frames.let_go();
    }
  }
  write_statistics(options.statistics, programs, waiting);
}

}  // namespace
}  // namespace sluice::lab

int main(int argc, char** argv) try {
  sluice::lab::Options options;
  CLI::App app{"Impairs the frames that pass a port of the lab's switch"};
  const CLI::Validator probability(sluice::lab::to_probability, "PROBABILITY");
  const std::map<std::string, std::uint64_t> units = {{"us", 1}, {"ms", 1000}, {"s", 1'000'000}};
  app.add_option("--port", options.port)->required();
  app.add_option("--program", options.program)->required();
  app.add_option("--statistics", options.statistics)->required();
  app.add_option("--loss", options.loss)->transform(probability);
  app.add_option("--duplicate", options.duplicate)->transform(probability);
  app.add_option("--corrupt", options.corrupt)->transform(probability);
  app.add_option("--reorder", options.reorder)->transform(probability);
  app.add_option("--delay", options.delay_us)
      ->transform(CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::UNIT_REQUIRED));
  app.add_option("--direction", options.direction)->check(CLI::IsMember({"in", "out", "both"}));
  CLI11_PARSE(app, argc, argv);
  for (const int number : {SIGTERM, SIGINT})
    std::signal(number, [](int) { sluice::lab::ended = 1; });
  sluice::lab::run(options);
  return 0;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "impair: %s\n", failure.what());
  return 1;
}
