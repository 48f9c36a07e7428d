#include "control/agent/agent.h"

#include <chrono>
#include <fmt/format.h>
#include <utility>

namespace sluice::agent {
Agent::Agent(const Config& config, dpdk::DataPlane& data_plane, EventRouter& router,
             GuestRegistry& registry, Drivers& drivers, HandoverRecords& handovers,
             OutcomeRecords& outcomes, const security::Credentials& credentials)
    : holds_(config.hold_dir),
      owned_twins_(outcomes),
      cordon_(config.host),
      probes_sent_(config.host),
      probes_answered_(config.host),
      context_{config,    data_plane,   router,           registry,   drivers,
               handovers, outcomes,     floors_,          holds_,     owned_twins_,
               cordon_,   probes_sent_, probes_answered_, credentials},
      settler_(context_),
      survivors_(context_, settler_),
      meter_(registry, std::chrono::seconds(config.sample_interval_s)) {}

Agent::~Agent() { stop(); }

// ---- migrations ----

Expected<MigrationRequest> Agent::check(const v1::MigrateRequest& request) const {
  const auto& config = context_.config;
  if (request.to() == config.host) {
    return fail(ErrorKind::kInvalid,
                fmt::format("guest {} is on {} already", request.guest(), config.host));
  }
  const auto peer = config.peers.find(request.to());
  if (peer == config.peers.end()) {
    return fail(ErrorKind::kNotFound,
                fmt::format("{} knows no host {}; name it under [peers] in its agent.toml",
                            config.host, request.to()));
  }
  MigrationRequest checked;
  checked.to = request.to();
  checked.address = peer->second;
  if (request.downtime_limit_us() != 0)
    checked.policy.downtime_limit_ns = request.downtime_limit_us() * kMicrosecondNs;
  if (request.max_iterations() != 0) checked.policy.iterations_max = request.max_iterations();
  checked.quick = request.mode() == v1::MIGRATION_MODE_QUICK;
  checked.proof =
      request.proof() == v1::PROOF_MODE_FULL ? v1::PROOF_MODE_FULL : v1::PROOF_MODE_SENT;
  if (request.plaintext() && !config.security.allow_plaintext)
    return tl::unexpected(plaintext_refused(config.host));
  checked.plaintext = request.plaintext();
  return checked;
}

Expected<std::shared_ptr<Migration>> Agent::migrate(const v1::MigrateRequest& request,
                                                    bool by_controller) {
  auto checked = check(request);
  if (!checked) return tl::unexpected<Error>(checked.error());
  checked->by_controller = by_controller;
  const std::lock_guard lock(mutex_);
  if (stopping_) return fail(ErrorKind::kBusy, "the agent is shutting down");
  reap_finished();
  auto claim = context_.registry.claim(request.guest(), ClaimPurpose::kMove, request.to());
  if (!claim) return tl::unexpected<Error>(claim.error());
  Running running;
  running.migration = std::make_shared<Migration>();
  running.source = std::make_shared<MigrationSource>(context_, std::move(*checked),
                                                     std::move(*claim), *running.migration);
  running.thread = std::thread([this, source = running.source, migration = running.migration] {
    if (auto unsettled = source->run()) settler_.add(std::move(*unsettled));
  });
  auto migration = running.migration;
  // The claim was free, so an earlier migration of this guest has published its summary and its
  // thread is ending.
  if (const auto earlier = migrations_.find(request.guest()); earlier != migrations_.end()) {
    earlier->second.thread.join();
    migrations_.erase(earlier);
  }
  migrations_.emplace(request.guest(), std::move(running));
  return migration;
}

Expected<std::shared_ptr<Migration>> Agent::migration_of(const std::string& guest) {
  const std::lock_guard lock(mutex_);
  const auto found = migrations_.find(guest);
  if (found == migrations_.end() || found->second.migration->finished()) {
    return fail(ErrorKind::kNotFound,
                fmt::format("guest {} is not moving away from {}", guest, context_.config.host));
  }
  return found->second.migration;
}

void Agent::reap_finished() {
  for (auto it = migrations_.begin(); it != migrations_.end();) {
    if (it->second.migration->finished()) {
      it->second.thread.join();
      it = migrations_.erase(it);
    } else {
      ++it;
    }
  }
}

void Agent::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  for (auto& [guest, running] : migrations_)
    running.source->cancel("the source's agent is shutting down");
  for (auto& [guest, running] : migrations_) running.thread.join();
  migrations_.clear();
}

}  // namespace sluice::agent
