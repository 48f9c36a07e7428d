// Preparing: the destination's twin, the guest's memory, dirty tracking.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "control/agent/migration_source.h"
#include "control/model/description.h"
#include "control/model/handover_steps.h"
#include "control/model/version.h"
#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

constexpr TimeNs kPrepareTimeoutNs = 30 * kSecondNs;

}  // namespace

Expected<void> MigrationSource::prepare() {
  if (auto movable = guest_.guest().check_movable(); !movable) return movable;
  const auto untracked = guest_.guest().has_untracked_writes();
  if (!untracked) return tl::unexpected<Error>(untracked.error());
  untracked_writes_ = *untracked;
  auto memory = SessionMemory::map(guest_.guest().memory(), agent_.data_plane, /*sending=*/true);
  if (!memory) return tl::unexpected<Error>(memory.error());
  memory_ = std::move(*memory);
  auto populated = memory_->populated_runs();
  if (!populated) return tl::unexpected<Error>(populated.error());
  populated_ = std::move(*populated);
  // While the destination prepares, and no longer: a hole that the guest punches while it is
  // tracked must stay one, or the final pass would not see it.
  const Populator populator(memory_->ram(), populated_, Populator::Access::kRead);

  auto peer = PeerStream::open(request_.to, request_.address, agent_.credentials,
                               [this](const Error& error) { lose_peer(error); });
  if (!peer) return tl::unexpected<Error>(peer.error());
  {
    const std::lock_guard lock(peer_mutex_);
    peer_ = std::move(*peer);
    if (interruption_) return tl::unexpected<Error>(*interruption_);
  }
  auto secret = Secret::make();
  if (!secret) return tl::unexpected<Error>(secret.error());
  auto prepared = ask_for_twin(*secret);
  if (!prepared) return tl::unexpected<Error>(prepared.error());

  records_id_ = prepared->records_id();
  auto config =
      plan_session(agent_.data_plane, prepared->destination(), prepared->mtu(), request_.to);
  if (!config) return tl::unexpected<Error>(config.error());
  if (prepared->flows() != config->plan.flows) {
    return fail(ErrorKind::kUnsupported,
                fmt::format("{} wants {} flows where this agent counts {}; both agents must be of "
                            "one version, and both ports memif or neither",
                            request_.to, prepared->flows(), config->plan.flows));
  }
  config->session = session_;
  config->dscp = agent_.config.dscp;
  flows_ = std::make_unique<SendFlows>(agent_.data_plane, events_, *config);
  if (!request_.plaintext) {
    if (auto keys = flows_->make_keys(*secret, /*source=*/true); !keys) return keys;
  }
  if (auto started = start_flows(); !started) return started;
  publish_plan();
  return advance(model::SourceEvent::kPrepared);
}

// A link that is not as it should be is found here, before anything is done to the guest.
Expected<void> MigrationSource::start_flows() {
  auto audit = protocol::AuditMode::kOff;
  if (!request_.quick)
    audit = untracked_writes_ ? protocol::AuditMode::kResend : protocol::AuditMode::kJudge;
  if (auto started = flows_->start_all(*memory_, audit); !started) return started;
  // Without content there is next to nothing that could get lost.
  if (!populated_.empty()) {
    if (auto probed = flows_->probe_path(); !probed) return probed;
  }
  progress_->watch(flows_.get());
  return {};
}

Expected<v1::Prepared> MigrationSource::ask_for_twin(const Secret& secret) {
  v1::SourceMessage message;
  auto& prepare = *message.mutable_prepare();
  prepare.set_session(session_);
  prepare.set_from(agent_.config.host);
  prepare.set_guest_description_json(model::to_json(guest_.guest().description()));
  for (const auto pages : memory_->region_pages()) prepare.add_region_pages(pages);
  for (const auto& run : populated_) {
    auto& sent = *prepare.add_populated();
    sent.set_first(run.first);
    sent.set_count(run.count);
  }
  *prepare.mutable_source() = describe_endpoint(agent_.data_plane.info());
  prepare.set_mtu(static_cast<std::uint32_t>(agent_.data_plane.info().mtu));
  prepare.set_version(model::version());
  prepare.set_to(request_.to);
  prepare.set_by_controller(request_.by_controller);
  if (!request_.plaintext) prepare.set_secret(secret.bytes().data(), secret.bytes().size());
  const auto sent = peer_->send(message);
  wipe(*prepare.mutable_secret());
  return sent
      .and_then([&] {
        agent_.holds.reached(model::step_name(model::HandoverStep::kSourcePrepareSent));
        return peer_->await(v1::DestinationMessage::kPrepared,
                            monotonic_now_ns() + kPrepareTimeoutNs);
      })
      .map([](const PeerStream::Reply& reply) { return reply.message.prepared(); });
}

void MigrationSource::publish_plan() {
  const auto& info = agent_.data_plane.info();
  v1::MigratePlan plan;
  plan.set_guest(guest_.name());
  plan.set_from(agent_.config.host);
  plan.set_to(request_.to);
  plan.set_memory_bytes(memory_->ram().size());
  plan.set_populated_bytes(count_pages(populated_) * kPageBytes);
  plan.set_flows(flows_->config().plan.flows);
  plan.set_mtu(static_cast<std::uint32_t>(flows_->path_mtu()));
  plan.set_pages_per_frame(static_cast<std::uint32_t>(wire::raw_pages_per_frame(
      wire::ipv4_mtu(flows_->path_mtu(), info.address.address), flows_->protection())));
  plan.set_port_driver(info.driver);
  plan.set_downtime_limit_us(request_.policy.downtime_limit_ns / kMicrosecondNs);
  plan.set_max_iterations(request_.policy.iterations_max);
  plan.set_mode(request_.quick ? v1::MIGRATION_MODE_QUICK : v1::MIGRATION_MODE_LIVE);
  plan.set_proof(request_.proof);
  plan.set_encryption(summary_.encryption());
  migration_.publish(plan);
}

Expected<void> MigrationSource::track() {
  if (request_.quick) {
    // The guest stands still before anything is read: nothing to track.
    if (auto tracked = advance(model::SourceEvent::kTracked); !tracked) return tracked;
    stream_began_ns_ = monotonic_now_ns();
    return {};
  }
  const auto memory = guest_.guest().memory();
  auto tracker = tracker::DirtyTracker::attach(memory.pid, {memory.guest_address, memory.bytes});
  if (!tracker) return tl::unexpected<Error>(tracker.error());
  tracker_ = std::move(*tracker);
  attached_ns_ = monotonic_now_ns();
  spdlog::info("migration session={:016x} guest={} tracked stopped_us={} baseline_us={}", session_,
               guest_.name(), tracker_->figures().target_stopped_ns / kMicrosecondNs,
               tracker_->figures().baseline_ns / kMicrosecondNs);
  // Only now: what is written from here on is reported by the tracker.
  auto populated = memory_->populated_runs();
  if (!populated) return tl::unexpected<Error>(populated.error());
  populated_ = std::move(*populated);
  if (auto marked = flows_->mark(populated_, tracker_.get()); !marked) return marked;
  stream_began_ns_ = monotonic_now_ns();
  return advance(model::SourceEvent::kTracked);
}

}  // namespace sluice::agent
