#include "drivers/dpdk/data_plane.h"

#include <atomic>
#include <chrono>
#include <ctime>
#include <mutex>
#include <poll.h>
#include <pthread.h>
#include <rte_lcore.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "dataplane/engine/event_loop.h"
#include "dataplane/engine/idle.h"
#include "drivers/base/clock.h"
#include "drivers/dpdk/crypto.h"
#include "drivers/dpdk/eal.h"
#include "drivers/dpdk/memif_grace.h"
#include "drivers/dpdk/placement.h"
#include "drivers/dpdk/port.h"
#include "drivers/dpdk/resolutions.h"

namespace sluice::dpdk {
namespace {

constexpr int kSuperviseEveryMs = 100;
// Who asks for the port's address while no session is active waits so long: nothing against the
// second that a host waits before it asks again (RFC 4861, RETRANS_TIMER).
constexpr int kIdlePollMs = 10;
// What a worker takes from its queue then in one go: traffic that is not ours costs no more.
constexpr std::uint32_t kIdleBurstsMax = 2;
constexpr std::chrono::milliseconds kSubmitRetry{1};
constexpr int kSubmitRetriesMax = 1000;

// A gateway is asked for so often before it counts as unreachable.
constexpr int kRequestsMax = 8;
constexpr std::chrono::milliseconds kRequestEvery{250};

// A counter that a thread can sleep on.
class Bell {
 public:
  Bell() : descriptor_(eventfd(0, EFD_CLOEXEC)) {}
  ~Bell() { close(descriptor_); }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  void ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(descriptor_, &one, sizeof(one));
  }
  // Returns when it was rung since the last wait (true), or after `timeout_ms` (-1: never).
  bool wait(int timeout_ms) const {
    pollfd poll_descriptor{descriptor_, POLLIN, 0};
    if (poll(&poll_descriptor, 1, timeout_ms) <= 0) {
      return false;
    }
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t bytes = read(descriptor_, &count, sizeof(count));
    return true;
  }

 private:
  int descriptor_;
};

// What the workers of one port know of each other.
struct Crew {
  // Packets are passed on between queues: every worker polls its own while any has flows.
  bool passes_packets_on = false;
  std::atomic<std::uint32_t> workers_with_flows{0};
  std::vector<const Bell*> bells;  // of the workers; complete before the first thread starts

  void wake_all() const {
    for (const Bell* bell : bells) {
      bell->ring();
    }
  }
};

void wait_a_little(engine::IdleBackoff::Wait wait) {
  switch (wait.action) {
    case engine::IdleBackoff::Action::kSpin:
      __builtin_ia32_pause();
      break;
    case engine::IdleBackoff::Action::kYield:
      sched_yield();
      break;
    case engine::IdleBackoff::Action::kSleep: {
      const timespec time{0, static_cast<long>(wait.sleep_ns)};
      nanosleep(&time, nullptr);
      break;
    }
  }
}

}  // namespace

// One worker's thread and everything it shares with others.
class WorkerThread {
 public:
  WorkerThread(Queue& queue, const wire::Endpoint& local, engine::LinkCap& cap, unsigned core,
               const Bell& events_bell, Crew& crew, bool polls_when_idle)
      : worker_(std::make_unique<engine::Worker<Queue>>(queue, local, cap, commands_, events_,
                                                        probe_, monotonic_now_ns)),
        core_(core),
        events_bell_(events_bell),
        crew_(crew),
        polls_when_idle_(polls_when_idle) {
    crew_.bells.push_back(&bell_);
  }

  void start(std::uint32_t index) {
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), ("sluice-worker" + std::to_string(index)).c_str());
  }

  void stop() {
    stopping_.store(true);
    bell_.ring();
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  bool submit(const engine::Command& command) {
    const std::lock_guard lock(submit_mutex_);
    for (int i = 0; !commands_.push(command); ++i) {
      if (i == kSubmitRetriesMax) {
        return false;
      }
      bell_.ring();
      std::this_thread::sleep_for(kSubmitRetry);
    }
    bell_.ring();
    return true;
  }

  // Only the dispatcher.
  bool next_event(engine::Event& event) { return events_.pop(event); }

  [[nodiscard]] const engine::WorkerProbe& probe() const { return probe_; }

 private:
  void run() {
    bind_this_thread(core_);
    // The kernel may else stretch a sleep of 5 microseconds by 50.
    prctl(PR_SET_TIMERSLACK, 1UL);
    // Gives this thread its own caches of the packet buffer pools.
    rte_thread_register();
    engine::IdleBackoff backoff;
    std::uint64_t announced = 0;
    TimeNs now = monotonic_now_ns();
    while (!stopping_.load(std::memory_order_relaxed)) {
      const engine::Activity activity = worker_->step(now);
      if (worker_->events_emitted() != announced) {
        announced = worker_->events_emitted();
        events_bell_.ring();
      }
      tell_crew();
      const TimeNs after = monotonic_now_ns();
      const bool busy = activity == engine::Activity::kBusy;
      engine::add_relaxed(busy ? probe_.busy_ns : probe_.idle_poll_ns, after - now);
      now = after;
      if (busy && may_go_on()) {
        backoff.on_busy();
      } else {
        rest(backoff);
        now = monotonic_now_ns();
      }
    }
    rte_thread_unregister();
  }

  void tell_crew() {
    if (worker_->has_flows() == had_flows_) {
      return;
    }
    had_flows_ = !had_flows_;
    if (had_flows_) {
      crew_.workers_with_flows.fetch_add(1);
      if (crew_.passes_packets_on) {
        crew_.wake_all();
      }
    } else {
      crew_.workers_with_flows.fetch_sub(1);
    }
  }

  // Whether packets of a session may come to this worker's queue.
  [[nodiscard]] bool must_poll() const {
    return had_flows_ || (crew_.passes_packets_on &&
                          crew_.workers_with_flows.load(std::memory_order_relaxed) > 0);
  }

  // False for a worker without a session that has taken its share of packets that are not ours.
  bool may_go_on() {
    if (must_poll()) {
      return true;
    }
    if (idle_bursts_left_ == 0) {
      return false;
    }
    --idle_bursts_left_;
    return true;
  }

  void rest(engine::IdleBackoff& backoff) {
    if (must_poll()) {
      wait_a_little(backoff.on_idle());
    } else {
      // A command may lie behind packets that are not ours: a busy worker looks for one now and
      // then only.
      idle_bursts_left_ = bell_.wait(polls_when_idle_ ? kIdlePollMs : -1)
                              ? 2 * engine::kBusyStepsPerCommandPoll
                              : kIdleBurstsMax;
      backoff.on_busy();
    }
  }

  engine::CommandRing commands_;
  engine::EventRing events_;
  engine::WorkerProbe probe_;
  std::unique_ptr<engine::Worker<Queue>> worker_;
  unsigned core_;
  Bell bell_;
  const Bell& events_bell_;
  Crew& crew_;
  bool polls_when_idle_;
  bool had_flows_ = false;
  std::uint32_t idle_bursts_left_ = 0;
  std::mutex submit_mutex_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

struct DataPlane::Impl {
  explicit Impl(const DataPlaneConfig& config) : cap(config.cap_bits_per_second) {}

  PortInfo info;
  std::unique_ptr<Port> port;
  // An error where this host cannot encrypt: it is one only for those who ask for keys.
  Expected<std::unique_ptr<Crypto>> crypto;
  engine::LinkCap cap;
  Bell events_bell;
  Crew crew;
  std::vector<std::unique_ptr<WorkerThread>> workers;
  FlowSlots flow_slots;
  std::function<void(const engine::Event&)> on_event;
  std::atomic<bool> stopping{false};
  std::thread dispatcher;
  std::optional<wire::IpAddress> gateway;
  std::map<wire::IpAddress, wire::MacAddress> neighbours;
  Resolutions resolutions;

  ~Impl();
  void dispatch();
  void make_workers(const DataPlaneConfig& config, const Placement& placement);
  void run_threads();
  [[nodiscard]] Expected<wire::MacAddress> resolve(const wire::IpAddress& address);
};

DataPlane::Impl::~Impl() {
  for (const auto& worker : workers) {
    worker->stop();
  }
  stopping.store(true);
  events_bell.ring();
  if (dispatcher.joinable()) {
    dispatcher.join();
  }
  set_unmap_grace({});
  port.reset();
  // No rte_eal_cleanup(): it frees what the EAL's interrupt thread still looks at, and that thread
  // cannot be ended (DPDK 22.11). The process ends next, and the EAL keeps no files.
}

// Hands events to the control side, and looks after the port's link now and then.
void DataPlane::Impl::dispatch() {
  TimeNs supervised_at = monotonic_now_ns();
  while (!stopping.load()) {
    events_bell.wait(kSuperviseEveryMs);
    engine::Event event;
    for (const auto& worker : workers) {
      while (worker->next_event(event)) {
        if (event.kind == engine::EventKind::kNeighbourFound) {
          resolutions.settle(event.session, wire::mac_of_number(event.value));
        } else {
          on_event(event);
        }
      }
    }
    const TimeNs now = monotonic_now_ns();
    if (now - supervised_at >= kSuperviseEveryMs * kMillisecondNs) {
      supervised_at = now;
      port->supervise();
    }
  }
}

void DataPlane::Impl::make_workers(const DataPlaneConfig& config, const Placement& placement) {
  crew.passes_packets_on = port->passes_packets_on();
  for (std::uint32_t i = 0; i < config.queues; ++i) {
    const wire::Endpoint local{info.mac, info.address.address,
                               static_cast<std::uint16_t>(config.udp_port + i)};
    workers.push_back(std::make_unique<WorkerThread>(port->queue(i), local, cap, placement.cores[i],
                                                     events_bell, crew,
                                                     i == 0 || !port->queues_are_paired()));
  }
}

void DataPlane::Impl::run_threads() {
  set_unmap_grace([this] { port->wait_until_workers_outside(); });
  for (std::uint32_t i = 0; i < workers.size(); ++i) {
    workers[i]->start(i);
  }
  dispatcher = std::thread([this] { dispatch(); });
  pthread_setname_np(dispatcher.native_handle(), "sluice-events");
}

Expected<std::unique_ptr<DataPlane>> DataPlane::start(
    const DataPlaneConfig& config, std::function<void(const engine::Event&)> on_event) {
  const auto name = parse_port(config.port);
  if (!name) {
    return tl::unexpected<Error>(name.error());
  }
  const PortOptions options{*name,         config.memif_server, config.mtu,
                            config.queues, config.udp_port,     config.address.address};
  if (auto usable = check_port(options); !usable) {
    return tl::unexpected<Error>(std::move(usable.error()));
  }
  // Before the EAL too, as it can start only once in a process: what is wrong with the cores is
  // known then.
  if (auto placed = place_workers(config.cores, config.queues, -1); !placed) {
    return tl::unexpected<Error>(std::move(placed.error()));
  }
  const auto eal =
      start_eal({config.hugepages, config.memory_bytes, config.file_prefix,
                 name->kind == PortKind::kPci ? name->target : "", virtual_device(options)});
  if (!eal) {
    return tl::unexpected<Error>(eal.error());
  }
  auto port = Port::open(options);
  if (!port) {
    return tl::unexpected<Error>(std::move(port.error()));
  }
  const auto placement = place_workers(config.cores, config.queues, (*port)->numa_node());
  if (!placement) {
    return tl::unexpected<Error>(placement.error());
  }
  auto impl = std::make_unique<Impl>(config);
  impl->port = std::move(*port);
  if (auto readable =
          impl->port->register_memory(engine::probe_padding.data(), engine::probe_padding.size());
      !readable) {
    return tl::unexpected<Error>(std::move(readable.error()));
  }
  impl->crypto = Crypto::start();
  impl->on_event = std::move(on_event);
  impl->gateway = config.gateway;
  impl->neighbours = config.neighbours;
  impl->info = PortInfo{impl->port->mac(),
                        config.address,
                        config.udp_port,
                        config.mtu,
                        config.queues,
                        impl->port->queues_are_paired(),
                        config.memif_server,
                        impl->port->steering(),
                        impl->port->rss(),
                        impl->port->driver(),
                        eal->hugepages,
                        impl->port->references_memory(),
                        impl->port->link_bits_per_second(),
                        placement->cores,
                        impl->port->remarks()};
  impl->info.remarks.insert(impl->info.remarks.end(), placement->remarks.begin(),
                            placement->remarks.end());
  impl->info.remarks.push_back(impl->crypto ? std::string("encryption: ") + kCipherName +
                                                  " on the workers' cores (crypto_aesni_gcm)"
                                            : impl->crypto.error().message);
  impl->make_workers(config, *placement);
  impl->run_threads();
  return std::unique_ptr<DataPlane>(new DataPlane(std::move(impl)));
}

DataPlane::DataPlane(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DataPlane::~DataPlane() = default;

const PortInfo& DataPlane::info() const { return impl_->info; }

FlowSlots& DataPlane::flow_slots() { return impl_->flow_slots; }

std::uint32_t DataPlane::workers() const {
  return static_cast<std::uint32_t>(impl_->workers.size());
}

Expected<void> DataPlane::submit(std::uint32_t worker, const engine::Command& command) {
  if (worker >= impl_->workers.size()) {
    return fail(ErrorKind::kInvalid,
                "worker " + std::to_string(worker) + ": there are " + std::to_string(workers()));
  }
  if (!impl_->workers[worker]->submit(command)) {
    return fail(ErrorKind::kBusy,
                "worker " + std::to_string(worker) + " has not taken a command for a second");
  }
  return {};
}

Expected<std::unique_ptr<port::FlowKeys>> DataPlane::make_flow_keys(const Secret& secret,
                                                                    std::uint64_t session,
                                                                    std::uint16_t flow,
                                                                    bool source) const {
  if (!impl_->crypto) {
    return tl::unexpected<Error>(impl_->crypto.error());
  }
  auto keys = std::make_unique<port::FlowKeys>();
  for (const wire::FrameType type : wire::kFrameTypes) {
    const auto secret_key = derive_frame_key(secret, session, flow, type);
    if (!secret_key) {
      return tl::unexpected<Error>(secret_key.error());
    }
    const KeyUse use = wire::sent_by_source(type) == source ? KeyUse::kSeal : KeyUse::kOpen;
    auto key = (*impl_->crypto)->make_key(*secret_key, use);
    if (!key) {
      return tl::unexpected<Error>(std::move(key.error()));
    }
    keys->set(type, std::move(*key));
  }
  return keys;
}

// Every worker listens, as the answer may come to any queue.
Expected<wire::MacAddress> DataPlane::Impl::resolve(const wire::IpAddress& address) {
  if (const auto known = neighbours.find(address); known != neighbours.end()) {
    return known->second;
  }
  const std::uint64_t id = resolutions.open();
  std::optional<wire::MacAddress> mac;
  for (int i = 0; i < kRequestsMax && !mac; ++i) {
    engine::Command command;
    command.session = id;
    command.address = address;
    command.kind = engine::CommandKind::kAwaitNeighbour;
    for (std::size_t worker = 1; worker < workers.size(); ++worker) {
      workers[worker]->submit(command);
    }
    command.kind = engine::CommandKind::kAskNeighbour;
    workers[0]->submit(command);
    mac = resolutions.await(id, kRequestEvery);
  }
  resolutions.close(id);
  if (!mac) {
    return fail(ErrorKind::kUnreachable,
                "gateway " + wire::to_string(address) +
                    " does not answer on the data plane's link; look at the link, or name its MAC "
                    "address under [neighbours] in agent.toml");
  }
  return *mac;
}

Expected<wire::MacAddress> DataPlane::next_hop(const wire::Endpoint& peer) {
  const wire::IpPrefix& own = impl_->info.address;
  if (peer.address.is_v6() != own.address.is_v6()) {
    return fail(ErrorKind::kInvalid, "the peer's data plane has the address " +
                                         wire::to_string(peer.address) + ", ours " +
                                         wire::to_string(own.address) +
                                         ": both must be of one family, IPv4 or IPv6");
  }
  if (const auto known = impl_->neighbours.find(peer.address); known != impl_->neighbours.end()) {
    return known->second;
  }
  if (own.contains(peer.address)) {
    return peer.mac;
  }
  if (!impl_->gateway) {
    return fail(ErrorKind::kInvalid,
                "the peer's data plane " + wire::to_string(peer.address) +
                    " is not in the network of ours, " + wire::to_string(own.address) + "/" +
                    std::to_string(own.length) + "; set dataplane.gateway in agent.toml");
  }
  return impl_->resolve(*impl_->gateway);
}

Expected<void> DataPlane::register_memory(void* address, std::size_t bytes) {
  return impl_->port->register_memory(address, bytes);
}

void DataPlane::unregister_memory(void* address, std::size_t bytes) {
  impl_->port->unregister_memory(address, bytes);
}

WorkerFigures DataPlane::figures(std::uint32_t worker) const {
  const engine::WorkerProbe& probe = impl_->workers[worker]->probe();
  WorkerFigures figures{probe.busy_ns.load(),
                        probe.idle_poll_ns.load(),
                        probe.packets_received.load(),
                        probe.packets_sent.load(),
                        probe.neighbour_answers.load(),
                        probe.neighbour_requests_ignored.load(),
                        impl_->port->queue(worker).passed_on(),
                        {}};
  for (const auto& drops : probe.drops) {
    figures.drops.push_back(drops.load());
  }
  return figures;
}

}  // namespace sluice::dpdk
