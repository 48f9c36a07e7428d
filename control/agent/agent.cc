#include "control/agent/agent.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

namespace sluice::agent {
Agent::Agent(const Config& config, dpdk::DataPlane& data_plane, EventRouter& router,
             GuestRegistry& registry, Drivers& drivers, HandoverRecords& handovers,
             OutcomeRecords& outcomes, const security::Credentials& credentials)
    : holds_(config.hold_dir),
      owned_twins_(outcomes),
      cordon_(config.host),
      context_{config,   data_plane, router, registry,     drivers, handovers,
               outcomes, floors_,    holds_, owned_twins_, cordon_, credentials},
      settler_(context_),
      meter_(registry, std::chrono::seconds(config.sample_interval_s)) {
  rediscover();
}

Agent::~Agent() { stop(); }

// ---- what an earlier agent left ----

void Agent::rediscover() {
  const auto handovers = context_.handovers.read_all();
  for (const auto& complaint : handovers.unreadable) spdlog::error("{}", complaint);
  for (const auto& complaint : context_.outcomes.unreadable()) spdlog::error("{}", complaint);
  for (auto& [name, driver] : context_.drivers) {
    for (auto& guest : driver->rediscover()) restore(std::move(guest), handovers);
  }
  const auto guests = context_.registry.list();
  for (const auto& twin : context_.outcomes.owned_but_not_running()) {
    if (std::any_of(guests.begin(), guests.end(),
                    [&](const auto& guest) { return guest.name == twin.guest; }))
      continue;
    if (has_files(twin.guest)) {
      spdlog::error(
          "guest {} was committed to this host and does not answer: its source keeps its copy "
          "paused; make it answer and start this agent again",
          twin.guest);
      continue;
    }
    spdlog::error("guest {} was committed to this host and has exited: it may have run",
                  twin.guest);
    context_.outcomes.conclude(twin.guest);
  }
  for (const auto& record : handovers.records) ask_about(record, guests);
}

// A QEMU that does not answer just now has its files still.
bool Agent::has_files(const std::string& guest) const {
  return std::filesystem::exists(context_.config.run_dir + "/guests/" + guest);
}

void Agent::restore(std::unique_ptr<guest::Guest> guest, const FoundHandovers& handovers) {
  const std::string name = guest->description().definition.name;
  const guest::Phase phase = guest->phase();
  std::optional<std::uint64_t> session;  // in which it was committed to this host
  for (const auto& twin : context_.outcomes.owned_but_not_running()) {
    if (twin.guest == name) session = twin.session;
  }
  if (phase == guest::Phase::kIncoming && !session && context_.outcomes.unreadable().empty()) {
    spdlog::warn("guest {} waited for a commit that cannot come any more: its twin is ended", name);
    if (auto ended = guest->destroy(); !ended)
      spdlog::error("guest {}: {}", name, ended.error().message);
    return;
  }
  spdlog::info("guest {} found, pid {}", name, guest->pid());
  if (auto added = context_.registry.add(std::move(guest)); !added) {
    spdlog::error("guest {}: {}", name, added.error().message);
    return;
  }
  if (phase == guest::Phase::kIncoming) return restore_twin(name, session);
  // It runs here, or has done so.
  if (session) context_.outcomes.conclude(name);
  if (phase == guest::Phase::kHandedOver) restore_handed_over(name, handovers);
}

void Agent::restore_twin(const std::string& name, std::optional<std::uint64_t> session) {
  const auto purpose = session ? ClaimPurpose::kIncoming : ClaimPurpose::kForgotten;
  auto claim = context_.registry.claim(name, purpose, context_.config.host);
  if (!claim) {
    spdlog::error("guest {}: {}", name, claim.error().message);
  } else if (session) {
    spdlog::warn("guest {} was committed to this host before the agent ended: it is resumed", name);
    owned_twins_.take(std::move(*claim), *session);
  } else {
    spdlog::error("guest {} may have been committed to this host: it waits for an operator", name);
    settler_.add(
        {std::move(*claim), {0, name, context_.config.host, "", 0}, OutcomeAnswer::kForgotten});
  }
}

// Without a record it was never committed, unless its record is one of those that are unreadable.
void Agent::restore_handed_over(const std::string& name, const FoundHandovers& handovers) {
  if (std::any_of(handovers.records.begin(), handovers.records.end(),
                  [&](const auto& record) { return record.guest == name; }))
    return;
  const bool lost = !handovers.unreadable.empty();
  const auto purpose = lost ? ClaimPurpose::kForgotten : ClaimPurpose::kMove;
  auto claim = context_.registry.claim(name, purpose, context_.config.host);
  if (!claim) {
    spdlog::error("guest {}: {}", name, claim.error().message);
    return;
  }
  if (lost) spdlog::error("guest {} may have been handed over: it waits for an operator", name);
  settler_.add({std::move(*claim),
                {0, name, context_.config.host, "", 0},
                lost ? OutcomeAnswer::kForgotten : OutcomeAnswer::kNeverOwned});
}

void Agent::ask_about(const HandoverRecord& record, const std::vector<GuestView>& guests) {
  const auto found = std::find_if(guests.begin(), guests.end(),
                                  [&](const auto& guest) { return guest.name == record.guest; });
  // A later agent must find the record.
  if (found == guests.end() && has_files(record.guest)) return;
  // Its copy here went with the earlier agent, or has been let run since: what runs here is not
  // the copy that was handed over, and must not be ended for it.
  if (found == guests.end() || found->state != "handed-over") {
    context_.handovers.remove(record.session);
    return;
  }
  auto claim = context_.registry.claim(record.guest, ClaimPurpose::kMove, record.to);
  if (!claim) {
    spdlog::error("guest {}: {}", record.guest, claim.error().message);
    return;
  }
  spdlog::warn("guest {} was being handed over to {} when the agent ended: asking {}", record.guest,
               record.to, record.to);
  settler_.add({std::move(*claim), record, std::nullopt});
}

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
