#include "control/agent/flows.h"

#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

// A flow comes back once the port has let go of its frames.
constexpr TimeNs kStopTimeoutNs = 10 * kSecondNs;

template <typename Flow>
ExtentDigests gather_from(const std::vector<std::unique_ptr<Flow>>& flows,
                          const page::Layout& layout) {
  std::vector<std::span<const page::ExtentDigest>> digests;
  digests.reserve(flows.size());
  for (const auto& flow : flows) digests.emplace_back(flow->digests);
  return gather(digests, layout);
}

}  // namespace

std::string nothing_arrives(const FlowsConfig& config) {
  return fmt::format("no frame of any size from {} reaches {}: check cable, VLAN, address",
                     wire::to_string(config.local.address), wire::to_string(config.remote.address));
}

// Which port a packet comes from means nothing to whom it reaches, so that it can be chosen for the
// remote port's sake.
wire::PacketTemplate packet_template(const FlowsConfig& config, std::uint32_t flow) {
  const std::uint32_t queue = flow % config.plan.peer_workers;
  wire::Endpoint local = config.local;
  wire::Endpoint remote = config.remote;
  local.port = static_cast<std::uint16_t>(local.port + flow % config.plan.workers);
  remote.port = static_cast<std::uint16_t>(remote.port + queue);
  if (config.remote_rss) {
    if (const auto port = dpdk::source_port_to(*config.remote_rss, local, remote, queue)) {
      local.port = *port;
    } else {
      spdlog::warn("session {:016x}: no UDP source port leads to queue {} of {}, which passes on",
                   config.session, queue, wire::to_string(remote.address));
    }
  }
  return {local, remote, config.dscp};
}

Expected<FlowsConfig> plan_session(dpdk::DataPlane& data_plane, const v1::Endpoint& peer,
                                   std::uint32_t peer_mtu, const std::string& peer_name) {
  const auto remote = parse_endpoint(peer);
  if (!remote) return tl::unexpected<Error>(remote.error());
  auto rss = parse_rss(peer);
  if (!rss) return tl::unexpected<Error>(rss.error());
  const auto next_hop = data_plane.next_hop(*remote);
  if (!next_hop) return tl::unexpected<Error>(next_hop.error());
  const auto mtu = agree_on_mtu(data_plane.info(), peer_mtu, peer_name);
  if (!mtu) return tl::unexpected<Error>(mtu.error());
  const auto plan = plan_flows_with(data_plane.info(), peer.queues());
  if (!plan) return tl::unexpected<Error>(plan.error());
  FlowsConfig config;
  config.plan = *plan;
  config.mtu = *mtu;
  config.local = local_endpoint(data_plane.info());
  config.remote = *remote;
  config.remote.mac = *next_hop;
  config.remote_rss = std::move(*rss);
  return config;
}

Expected<void> Flows::start(std::uint32_t flow, const engine::Command& command) {
  const std::uint32_t worker = worker_of(flow);
  if (worker == before_.size()) before_.push_back(data_plane_.figures(worker));
  if (auto claimed = data_plane_.flow_slots().claim(worker, role_); !claimed) return claimed;
  if (auto submitted = data_plane_.submit(worker, command); !submitted) {
    data_plane_.flow_slots().release(worker, role_);
    return submitted;
  }
  started_ = flow + 1;
  return {};
}

Expected<void> Flows::submit(engine::Command command) {
  command.session = config_.session;
  for (std::uint32_t flow = 0; flow < started_; ++flow) {
    command.flow = static_cast<std::uint16_t>(flow);
    if (auto submitted = data_plane_.submit(worker_of(flow), command); !submitted) return submitted;
  }
  return {};
}

Expected<std::vector<engine::Event>> Flows::await(engine::EventKind kind) {
  // A silent peer, a failed tracker and whoever interrupts the session end the wait.
  return events_->await(kind, started_, 0);
}

Expected<std::vector<engine::Event>> Flows::run(engine::Command command, engine::EventKind answer) {
  if (auto submitted = submit(command); !submitted) return tl::unexpected<Error>(submitted.error());
  return await(answer);
}

bool Flows::stop() {
  if (started_ == 0) return true;
  engine::Command command;
  command.kind = engine::CommandKind::kStop;
  const auto submitted = submit(command);
  const auto stopped = events_->await_regardless(engine::EventKind::kStopped, started_,
                                                 monotonic_now_ns() + kStopTimeoutNs);
  if (submitted && stopped) {
    for (; started_ > 0; --started_)
      data_plane_.flow_slots().release(worker_of(started_ - 1), role_);
    return true;
  }
  spdlog::critical("session {:016x}: a worker does not give its flow back; its memory stays mapped",
                   config_.session);
  return false;
}

double Flows::busy_core_seconds() const {
  std::uint64_t busy_ns = 0;
  for (std::uint32_t worker = 0; worker < before_.size(); ++worker)
    busy_ns += data_plane_.figures(worker).busy_ns - before_[worker].busy_ns;
  return static_cast<double>(busy_ns) / static_cast<double>(kSecondNs);
}

std::map<std::string, std::uint64_t> Flows::frames_dropped() const {
  std::map<std::string, std::uint64_t> dropped;
  for (std::uint32_t worker = 0; worker < before_.size(); ++worker) {
    const auto now = data_plane_.figures(worker).drops;
    for (std::size_t reason = 1; reason < now.size(); ++reason) {
      if (const auto count = now[reason] - before_[worker].drops[reason]; count > 0)
        dropped[wire::to_string(static_cast<wire::DropReason>(reason))] += count;
    }
  }
  return dropped;
}

std::string Flows::describe_traffic() const {
  std::string text;
  for (std::uint32_t worker = 0; worker < before_.size(); ++worker) {
    const auto now = data_plane_.figures(worker);
    const auto& before = before_[worker];
    text += fmt::format("worker={} packets_sent={} packets_received={} busy_us={} idle_poll_us={} ",
                        worker, now.packets_sent - before.packets_sent,
                        now.packets_received - before.packets_received,
                        (now.busy_ns - before.busy_ns) / kMicrosecondNs,
                        (now.idle_poll_ns - before.idle_poll_ns) / kMicrosecondNs);
  }
  for (const auto& [reason, frames] : frames_dropped())
    text += fmt::format("dropped_{}={} ", reason, frames);
  return text;
}

Error plaintext_refused(const std::string& host) {
  return {ErrorKind::kPermission,
          fmt::format("{} allows no migration in the clear; leave out --plaintext, or set "
                      "allow_plaintext = true under [security] in its agent's configuration",
                      host)};
}

Expected<void> Flows::make_keys(const Secret& secret, bool source) {
  protection_ = wire::Protection::kSealed;
  for (std::uint32_t flow = 0; flow < config_.plan.flows; ++flow) {
    auto keys = data_plane_.make_flow_keys(secret, config_.session,
                                           static_cast<std::uint16_t>(flow), source);
    if (!keys) return tl::unexpected<Error>(keys.error());
    keys_.push_back(std::move(*keys));
  }
  return {};
}

Expected<void> SendFlows::start_all(const SessionMemory& memory, protocol::AuditMode audit) {
  for (std::uint32_t i = 0; i < config().plan.flows; ++i) {
    protocol::SenderConfig sender;
    sender.session = config().session;
    sender.flow = static_cast<std::uint16_t>(i);
    sender.mtu = config().ipv4_mtu();
    sender.audit = audit;
    sender.audited_pages = memory.ram_pages();
    const page::ShardMap shard(memory.layout().extents(), config().plan.flows, i);
    auto flow = std::make_unique<engine::SendFlow>(sender, memory.layout(), shard, memory.map(),
                                                   packet_template(config(), i), take_keys(i));
    flow->tracked_pages = memory.ram_pages();
    flows_.push_back(std::move(flow));
  }
  for (std::uint32_t i = 0; i < config().plan.flows; ++i) {
    engine::Command command;
    command.kind = engine::CommandKind::kStartSending;
    command.session = config().session;
    command.flow = static_cast<std::uint16_t>(i);
    command.send = flows_[i].get();
    if (auto started = start(i, command); !started) return started;
  }
  return {};
}

Expected<void> SendFlows::probe_path() {
  engine::Command command;
  command.kind = engine::CommandKind::kProbePath;
  const auto probed = run(command, engine::EventKind::kPathProbed);
  if (!probed) return tl::unexpected<Error>(probed.error());
  if (std::any_of(probed->begin(), probed->end(),
                  [](const auto& flow) { return flow.value == 0; })) {
    // Whether nothing came back, or too late, or damaged, is seen here alone.
    spdlog::warn("session {:016x}: no probe was answered in time: {}", config().session,
                 describe_traffic());
    return fail(ErrorKind::kUnreachable, nothing_arrives(config()));
  }
  return {};
}

Expected<void> SendFlows::mark(std::span<const port::PageRun> pages, port::DirtySource* tracker) {
  engine::Command command;
  command.kind = engine::CommandKind::kMarkPages;
  command.runs = pages;
  command.tracker = tracker;
  if (auto marked = run(command, engine::EventKind::kPagesMarked); !marked)
    return tl::unexpected<Error>(marked.error());
  return {};
}

std::size_t SendFlows::path_mtu() const {
  const std::size_t counted = config().ipv4_mtu();
  std::size_t mtu = counted;
  for (const auto& flow : flows_) {
    const std::size_t now = flow->probe.mtu.load(std::memory_order_relaxed);
    if (now != 0) mtu = std::min(mtu, now);
  }
  return mtu + (config().mtu - counted);
}

TimeNs SendFlows::probe_round_trip_ns() const {
  TimeNs shortest_ns = 0;
  for (const auto& flow : flows_) {
    const TimeNs round_trip_ns = flow->probe.probe_round_trip_ns.load(std::memory_order_relaxed);
    if (shortest_ns == 0 || (round_trip_ns != 0 && round_trip_ns < shortest_ns))
      shortest_ns = round_trip_ns;
  }
  return shortest_ns;
}

std::optional<std::string> SendFlows::path_remark(const std::string& to) const {
  const std::size_t mtu = path_mtu();
  if (mtu == config().mtu) return std::nullopt;
  return fmt::format("configured {}, largest frame that reaches {} is {}: check the switch ports",
                     config().mtu, to, mtu);
}

Expected<ExtentDigests> SendFlows::fold(const page::Layout& layout) {
  engine::Command command;
  command.kind = engine::CommandKind::kFold;
  return run(command, engine::EventKind::kFolded).map([&](const auto&) {
    return gather_from(flows_, layout);
  });
}

Expected<void> ReceiveFlows::start_all(const SessionMemory& memory) {
  for (std::uint32_t i = 0; i < config().plan.flows; ++i) {
    protocol::ReceiverConfig receiver;
    receiver.session = config().session;
    receiver.flow = static_cast<std::uint16_t>(i);
    const page::ShardMap shard(memory.layout().extents(), config().plan.flows, i);
    flows_.push_back(
        std::make_unique<engine::ReceiveFlow>(receiver, memory.layout(), shard, memory.map(),
                                              packet_template(config(), i), take_keys(i)));
  }
  for (std::uint32_t i = 0; i < config().plan.flows; ++i) {
    engine::Command command;
    command.kind = engine::CommandKind::kStartReceiving;
    command.session = config().session;
    command.flow = static_cast<std::uint16_t>(i);
    command.receive = flows_[i].get();
    if (auto started = start(i, command); !started) return started;
  }
  return {};
}

Expected<ExtentDigests> ReceiveFlows::fold(const page::Layout& layout) {
  engine::Command command;
  command.kind = engine::CommandKind::kFold;
  return run(command, engine::EventKind::kFolded).map([&](const auto&) {
    return gather_from(flows_, layout);
  });
}

}  // namespace sluice::agent
