// The flows of one session as one thing: commands to all of them, answers from all of them, and
// their safe return. Flow i is shard i; which worker serves it says the plan (flow_plan.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/agent/event_router.h"
#include "control/agent/flow_plan.h"
#include "control/agent/peer_endpoint.h"
#include "control/agent/proof.h"
#include "control/agent/session_memory.h"
#include "control/proto/sluice.pb.h"
#include "dataplane/base/expected.h"
#include "dataplane/engine/commands.h"
#include "dataplane/engine/flow.h"
#include "drivers/dpdk/data_plane.h"

namespace sluice::agent {

struct FlowsConfig {
  std::uint64_t session = 0;
  FlowPlan plan;
  std::size_t mtu = 0;
  std::uint8_t dscp = 0;
  wire::Endpoint local;  // of queue 0
  wire::Endpoint remote;
  // Of the remote port, if packets come to its queues so.
  std::optional<dpdk::RssFunction> remote_rss;

  // The MTU as senders count it.
  [[nodiscard]] std::size_t ipv4_mtu() const { return wire::ipv4_mtu(mtu, local.address); }
};

// What the packets of a flow have, from here to the peer's worker of that flow.
[[nodiscard]] wire::PacketTemplate packet_template(const FlowsConfig& config, std::uint32_t flow);

// All that a session's flows have in common with those of a peer that described its end so; session
// and dscp are the caller's. May take two seconds (DataPlane::next_hop). Errors: as of
// peer_endpoint.h, and of DataPlane::next_hop.
[[nodiscard]] Expected<FlowsConfig> plan_session(dpdk::DataPlane& data_plane,
                                                 const v1::Endpoint& peer, std::uint32_t peer_mtu,
                                                 const std::string& peer_name);

// The line that names both addresses where no frame arrives.
[[nodiscard]] std::string nothing_arrives(const FlowsConfig& config);
// kPermission: `host` allows no frames in the clear. Names the key that would.
[[nodiscard]] Error plaintext_refused(const std::string& host);

// What both ends share. One thread at a time.
class Flows {
 public:
  Flows(dpdk::FlowRole role, dpdk::DataPlane& data_plane, std::shared_ptr<SessionEvents> events,
        const FlowsConfig& config)
      : role_(role), data_plane_(data_plane), events_(std::move(events)), config_(config) {}
  Flows(const Flows&) = delete;
  Flows& operator=(const Flows&) = delete;

  [[nodiscard]] const FlowsConfig& config() const { return config_; }
  // Gives the command to every flow and waits for one event of this kind from each.
  [[nodiscard]] Expected<std::vector<engine::Event>> run(engine::Command command,
                                                         engine::EventKind answer);
  [[nodiscard]] Expected<void> submit(engine::Command command);
  [[nodiscard]] Expected<std::vector<engine::Event>> await(engine::EventKind kind);
  // Keys for the frames of all flows, from the session's secret. Before start_all(); without it
  // frames go in the clear. kUnsupported where this host cannot encrypt.
  [[nodiscard]] Expected<void> make_keys(const Secret& secret, bool source);
  [[nodiscard]] wire::Protection protection() const { return protection_; }
  // Frames that the session's workers dropped since it began, by reason.
  [[nodiscard]] std::map<std::string, std::uint64_t> frames_dropped() const;
  // Ends every started flow. False if one does not come back: its memory must then never be
  // unmapped.
  [[nodiscard]] bool stop();
  // What the session's workers have sent and received since it began, for the log.
  [[nodiscard]] std::string describe_traffic() const;
  // Time that the session's workers were busy since it began.
  [[nodiscard]] double busy_core_seconds() const;

 protected:
  // In ascending order of flows. kNoCapacity: the flow's worker serves too many.
  [[nodiscard]] Expected<void> start(std::uint32_t flow, const engine::Command& command);
  // The keys of a flow, which takes them; null: in the clear.
  [[nodiscard]] std::unique_ptr<port::FlowKeys> take_keys(std::uint32_t flow) {
    return keys_.empty() ? nullptr : std::move(keys_[flow]);
  }

 private:
  [[nodiscard]] std::uint32_t worker_of(std::uint32_t flow) const {
    return flow % config_.plan.workers;
  }

  const dpdk::FlowRole role_;
  dpdk::DataPlane& data_plane_;
  std::shared_ptr<SessionEvents> events_;
  FlowsConfig config_;
  std::uint32_t started_ = 0;
  std::vector<dpdk::WorkerFigures> before_;  // by worker
  wire::Protection protection_ = wire::Protection::kChecksum;
  std::vector<std::unique_ptr<port::FlowKeys>> keys_;  // by flow; empty: in the clear
};

class SendFlows : public Flows {
 public:
  SendFlows(dpdk::DataPlane& data_plane, std::shared_ptr<SessionEvents> events,
            const FlowsConfig& config)
      : Flows(dpdk::FlowRole::kSend, data_plane, std::move(events), config) {}
  // Makes the flows and lends them to the workers. They have nothing to send yet.
  [[nodiscard]] Expected<void> start_all(const SessionMemory& memory, protocol::AuditMode audit);
  // Finds the largest frames that reach the peer: from then on no flow sends larger ones.
  // kUnreachable, naming both addresses, when frames of a flow do not arrive whatever their size.
  [[nodiscard]] Expected<void> probe_path();
  // Marks these pages to be sent, and scans through `tracker` from then on (null: nothing is
  // tracked).
  [[nodiscard]] Expected<void> mark(std::span<const port::PageRun> pages,
                                    port::DirtySource* tracker);
  // Size of the largest IPv4 packet that every flow may send by now. Any thread.
  [[nodiscard]] std::size_t path_mtu() const;
  // Of the probes so far, the shortest; 0: none was answered. Any thread.
  [[nodiscard]] TimeNs probe_round_trip_ns() const;
  // That it is smaller than what both ends are configured for, and what to do; nothing if it is
  // not. Any thread.
  [[nodiscard]] std::optional<std::string> path_remark(const std::string& to) const;
  [[nodiscard]] Expected<ExtentDigests> fold(const page::Layout& layout);
  [[nodiscard]] std::vector<std::unique_ptr<engine::SendFlow>>& all() { return flows_; }

 private:
  std::vector<std::unique_ptr<engine::SendFlow>> flows_;
};

class ReceiveFlows : public Flows {
 public:
  ReceiveFlows(dpdk::DataPlane& data_plane, std::shared_ptr<SessionEvents> events,
               const FlowsConfig& config)
      : Flows(dpdk::FlowRole::kReceive, data_plane, std::move(events), config) {}
  [[nodiscard]] Expected<void> start_all(const SessionMemory& memory);
  [[nodiscard]] Expected<ExtentDigests> fold(const page::Layout& layout);
  [[nodiscard]] std::vector<std::unique_ptr<engine::ReceiveFlow>>& all() { return flows_; }

 private:
  std::vector<std::unique_ptr<engine::ReceiveFlow>> flows_;
};

}  // namespace sluice::agent
