// sluice-stream: two processes move random memory over the data plane, without a control plane,
// hashing it on both sides. What it prints is the data plane's own speed: no tracker, no guest, no
// handover.
#include <CLI/CLI.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <vector>
#include <x86intrin.h>

#include "dataplane/base/random.h"
#include "drivers/dpdk/data_plane.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSession = 0x57AEA3;
constexpr std::chrono::seconds kPeerWaitMax{20};

struct Options {
  dpdk::DataPlaneConfig plane;
  std::string rendezvous = "/tmp/sluice-stream.sock";
  std::uint64_t bytes = 1UL << 30;
  unsigned rounds = 4;
  bool encrypt = false;
};

[[noreturn]] void die(const std::string& message) {
  std::fprintf(stderr, "sluice-stream: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T must(Expected<T> result) {
  if (!result) {
    die(result.error().message);
  }
  if constexpr (!std::is_void_v<T>) {
    return std::move(*result);
  }
}

// ---- the two processes' side channel: a Unix socket, so that it also joins network namespaces
// ----

class SideChannel {
 public:
  SideChannel(const std::string& path, bool server) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
      die("rendezvous path is too long");
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    descriptor_ = server ? accept_one(address) : connect_to(address);
  }
  ~SideChannel() { close(descriptor_); }
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;

  template <typename T>
  void put(const T& value) {
    put_bytes(&value, sizeof(value));
  }
  template <typename T>
  T get() {
    T value{};
    get_bytes(&value, sizeof(value));
    return value;
  }
  void put_bytes(const void* data, std::size_t bytes) {
    if (send(descriptor_, data, bytes, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes)) {
      die("the peer has gone");
    }
  }
  void get_bytes(void* data, std::size_t bytes) {
    if (recv(descriptor_, data, bytes, MSG_WAITALL) != static_cast<ssize_t>(bytes)) {
      die("the peer has gone");
    }
  }

 private:
  static int accept_one(const sockaddr_un& address) {
    unlink(address.sun_path);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        listen(listener, 1) != 0) {
      die(std::string(address.sun_path) + ": " + std::strerror(errno));
    }
    const int accepted = accept(listener, nullptr, nullptr);
    close(listener);
    unlink(address.sun_path);
    return accepted;
  }
  static int connect_to(const sockaddr_un& address) {
    const auto give_up = Clock::now() + kPeerWaitMax;
    while (Clock::now() < give_up) {
      const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
        return descriptor;
      }
      close(descriptor);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    die("no receiver at " + std::string(address.sun_path));
  }

  int descriptor_ = -1;
};

struct Hello {
  wire::Endpoint endpoint;
  std::uint64_t bytes = 0;
  std::uint64_t mtu = 0;
};

// ---- memory ----

// Populated, in transparent huge pages, as guests' memory is.
std::byte* make_memory(std::uint64_t bytes, bool random) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    die("no memory");
  }
  madvise(memory, bytes, MADV_HUGEPAGE);
  auto* words = static_cast<std::uint64_t*>(memory);
  Random numbers(bytes);
  for (std::uint64_t i = 0; i < bytes / sizeof(*words); ++i) {
    words[i] = random ? numbers.next() : 0;
  }
  return static_cast<std::byte*>(memory);
}

// ---- the data plane's events, awaited one after the other ----

class Events {
 public:
  void on_event(const engine::Event& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_one();
  }
  void await(engine::EventKind kind) {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !events_.empty(); });
      const engine::Event event = events_.front();
      events_.pop_front();
      if (event.kind == engine::EventKind::kPeerSilent) {
        die("the peer is silent");
      }
      if (event.kind == kind) {
        return;
      }
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<engine::Event> events_;
};

// Wall time, cycles and the worker's busy time between its making and report().
class Meter {
 public:
  explicit Meter(const dpdk::DataPlane& plane)
      : plane_(plane),
        began_(Clock::now()),
        cycles_(__rdtsc()),
        busy_ns_(plane.figures(0).busy_ns) {}

  void report(const char* side, std::uint64_t pages) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
    const double hertz = static_cast<double>(__rdtsc() - cycles_) / seconds;
    const double busy_seconds = static_cast<double>(plane_.figures(0).busy_ns - busy_ns_) * 1e-9;
    const auto count = static_cast<double>(pages);
    std::printf(
        "%s: %.1f Gb/s of page payload, %llu pages in %.2f s, %.2f busy core seconds, %.0f cycles "
        "per page\n",
        side, count * kPageBytes * 8e-9 / seconds, static_cast<unsigned long long>(pages), seconds,
        busy_seconds, busy_seconds * hertz / count);
  }

 private:
  const dpdk::DataPlane& plane_;
  Clock::time_point began_;
  std::uint64_t cycles_;
  std::uint64_t busy_ns_;
};

// Known to everybody, as the two processes have no secret between them.
std::unique_ptr<port::FlowKeys> make_keys(const Options& options, const dpdk::DataPlane& plane,
                                          bool sends) {
  return options.encrypt ? must(plane.make_flow_keys(Secret(), kSession, 0, sends)) : nullptr;
}

// What both sides need: memory, its layout and the data plane.
struct Session {
  Session(const Options& options, bool sends)
      : memory(make_memory(options.bytes, sends)),
        layout({options.bytes / kPageBytes}),
        shards(layout.extents(), 1, 0),
        map(layout, {memory}),
        plane(must(dpdk::DataPlane::start(options.plane,
                                          [this](const engine::Event& e) { events.on_event(e); }))),
        channel(options.rendezvous, !sends) {
    must(plane->register_memory(memory, options.bytes));
    const dpdk::PortInfo& info = plane->info();
    local = {info.mac, info.address.address, info.udp_port};
    channel.put(Hello{local, options.bytes, options.plane.mtu});
    const auto hello = channel.get<Hello>();
    if (hello.bytes != options.bytes || hello.mtu != options.plane.mtu) {
      die("the peer has another --size or --mtu");
    }
    remote = hello.endpoint;
    for (const std::string& remark : info.remarks) {
      std::printf("%s: %s\n", info.driver.c_str(), remark.c_str());
    }
  }

  engine::Command command(engine::CommandKind kind) const {
    engine::Command made;
    made.kind = kind;
    made.session = kSession;
    return made;
  }
  void run(const engine::Command& what, engine::EventKind answer) {
    must(plane->submit(0, what));
    events.await(answer);
  }

  std::byte* memory;
  page::Layout layout;
  page::ShardMap shards;
  page::MemoryMap map;
  Events events;
  std::unique_ptr<dpdk::DataPlane> plane;
  SideChannel channel;
  wire::Endpoint local;
  wire::Endpoint remote;
};

int run_send(const Options& options) {
  Session session(options, true);
  protocol::SenderConfig config;
  config.session = kSession;
  config.mtu = wire::ipv4_mtu(options.plane.mtu, session.local.address);
  engine::SendFlow flow(config, session.layout, session.shards, session.map,
                        wire::PacketTemplate(session.local, session.remote, 0),
                        make_keys(options, *session.plane, true));
  engine::Command start = session.command(engine::CommandKind::kStartSending);
  start.send = &flow;
  must(session.plane->submit(0, start));
  // From the final pass on nothing is held back as hot.
  session.run(session.command(engine::CommandKind::kFinalPass), engine::EventKind::kSettled);
  session.channel.get<char>();  // the receiver is ready
  engine::Command round = session.command(engine::CommandKind::kSendPages);
  round.pages = options.bytes / kPageBytes;
  // Not measured: the first round also warms what the measured ones use.
  session.run(round, engine::EventKind::kSettled);
  const std::uint64_t pages_before = flow.probe.raw_pages_sent.load();
  const Meter meter(*session.plane);
  for (unsigned i = 0; i < options.rounds; ++i) {
    session.run(round, engine::EventKind::kSettled);
  }
  meter.report("send", flow.probe.raw_pages_sent.load() - pages_before);
  std::printf("send: %llu frames, %llu lost, %llu pages sent again, smoothed RTT %.0f us\n",
              static_cast<unsigned long long>(flow.probe.frames_sent.load()),
              static_cast<unsigned long long>(flow.probe.frames_lost.load()),
              static_cast<unsigned long long>(flow.probe.pages_resent_after_loss.load()),
              static_cast<double>(flow.probe.smoothed_rtt_ns.load()) * 1e-3);
  session.run(session.command(engine::CommandKind::kFold), engine::EventKind::kFolded);
  session.channel.put_bytes(flow.digests.data(), flow.digests.size() * sizeof(page::ExtentDigest));
  const bool match = session.channel.get<bool>();
  session.run(session.command(engine::CommandKind::kStop), engine::EventKind::kStopped);
  std::printf("proof: %zu extents, %s, %s\n", flow.digests.size(), page::kDigestAlgorithm,
              match ? "match" : "DIFFER");
  return match ? 0 : 1;
}

int run_receive(const Options& options) {
  Session session(options, false);
  protocol::ReceiverConfig config;
  config.session = kSession;
  engine::ReceiveFlow flow(config, session.layout, session.shards, session.map,
                           wire::PacketTemplate(session.local, session.remote, 0),
                           make_keys(options, *session.plane, false));
  engine::Command start = session.command(engine::CommandKind::kStartReceiving);
  start.receive = &flow;
  must(session.plane->submit(0, start));
  session.channel.put('r');
  const Meter meter(*session.plane);
  std::vector<page::ExtentDigest> digests(flow.digests.size());
  session.channel.get_bytes(digests.data(), digests.size() * sizeof(page::ExtentDigest));
  meter.report("receive (with the first round)", flow.probe.raw_pages_applied.load());
  session.run(session.command(engine::CommandKind::kFold), engine::EventKind::kFolded);
  const bool match = digests == flow.digests;
  session.channel.put(match);
  session.run(session.command(engine::CommandKind::kStop), engine::EventKind::kStopped);
  const std::vector<std::uint64_t> drops = session.plane->figures(0).drops;
  for (std::size_t i = 1; i < drops.size(); ++i) {
    if (drops[i] > 0) {
      std::printf("receive: %llu dropped: %s\n", static_cast<unsigned long long>(drops[i]),
                  wire::to_string(static_cast<wire::DropReason>(i)));
    }
  }
  return match ? 0 : 1;
}

void add_options(CLI::App& app, Options& options) {
  const std::vector<std::pair<std::string, dpdk::Hugepages>> hugepages = {
      {"auto", dpdk::Hugepages::kAuto},
      {"yes", dpdk::Hugepages::kYes},
      {"no", dpdk::Hugepages::kNo}};
  app.add_option("--port", options.plane.port, "pci:ADDRESS, kernel:INTERFACE or memif:SOCKET")
      ->required();
  app.add_option_function<std::string>(
         "--address",
         [&options](const std::string& text) {
           const auto prefix = wire::parse_prefix(text);
           if (!prefix) {
             throw CLI::ValidationError("--address", text + ": expected as in 198.51.100.1/24");
           }
           options.plane.address = *prefix;
         },
         "this side's IPv4 or IPv6 address with prefix length")
      ->required();
  app.add_option("--size", options.bytes, "memory to move")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "how often it is moved")->capture_default_str();
  app.add_option("--mtu", options.plane.mtu, "of the path")->capture_default_str();
  app.add_option("--rate", options.plane.cap_bits_per_second, "cap in bits per second; 0: none")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, std::uint64_t>{
          {"K", 1'000}, {"M", 1'000'000}, {"G", 1'000'000'000}}))
      ->capture_default_str();
  app.add_flag("--encrypt", options.encrypt, "seal every frame (AES-256-GCM); on both sides");
  app.add_option("--core", options.plane.cores, "core of the worker; else chosen");
  app.add_option("--hugepages", options.plane.hugepages, "auto, yes or no")
      ->transform(CLI::CheckedTransformer(hugepages));
  app.add_option("--rendezvous", options.rendezvous, "Unix socket on which the two meet")
      ->capture_default_str();
}

int run(int argc, char** argv) {
  CLI::App app(
      "Moves random memory between two processes over the data plane and reports its speed",
      "sluice-stream");
  app.require_subcommand(1);
  Options options;
  CLI::App* sending =
      app.add_subcommand("send", "start after the receiver, or within 20 s before it");
  CLI::App* receiving = app.add_subcommand("receive", "serves one sender, then ends");
  add_options(*sending, options);
  add_options(*receiving, options);
  CLI11_PARSE(app, argc, argv);
  options.plane.memif_server = receiving->parsed();
  return sending->parsed() ? run_send(options) : run_receive(options);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    return sluice::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice-stream: %s\n", error.what());
    return 1;
  }
}
