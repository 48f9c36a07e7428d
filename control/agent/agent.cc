#include "control/agent/agent.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>

namespace sluice::agent {
namespace {

constexpr auto kSettleInterval = std::chrono::seconds(1);

}  // namespace

// ---- settling unknown outcomes ----

Settler::Settler(AgentContext& agent)
    : agent_(agent), thread_([this](const std::stop_token& stop) { loop(stop); }) {}

void Settler::add(MigrationSource::Unsettled unsettled) {
  if (unsettled.forgotten) unsettled.guest.set_purpose(ClaimPurpose::kForgotten);
  {
    const std::lock_guard lock(mutex_);
    (unsettled.forgotten ? forgotten_ : open_).push_back(std::move(unsettled));
  }
  changed_.notify_all();
}

Expected<void> Settler::obey(const std::string& guest, Order order) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(forgotten_.begin(), forgotten_.end(), [&](const auto& unsettled) {
    return unsettled.record.guest == guest;
  });
  if (found == forgotten_.end())
    return fail(ErrorKind::kNotFound, fmt::format("guest {} does not wait for an operator", guest));
  spdlog::warn("guest {}: an operator says that it is to {}", guest,
               order == Order::kResume ? "run on here" : "end");
  auto done = order == Order::kResume ? take_back(*found) : end(*found);
  forgotten_.erase(found);
  return done;
}

void Settler::loop(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    changed_.wait(lock, stop, [&] { return !open_.empty(); });
    auto asked = std::move(open_);
    open_.clear();
    lock.unlock();
    std::erase_if(asked,
                  [&](auto& unsettled) { return stop.stop_requested() || settle(unsettled); });
    lock.lock();
    std::move(asked.begin(), asked.end(), std::back_inserter(open_));
    changed_.wait_for(lock, stop, kSettleInterval, [] { return false; });
  }
}

bool Settler::settle(MigrationSource::Unsettled& unsettled) {
  const auto& record = unsettled.record;
  const auto outcome = ask_outcome(record, agent_.credentials);
  if (!outcome) return false;
  Expected<void> done;
  switch (*outcome) {
    case OutcomeAnswer::kOwned:
      spdlog::warn("guest {} is owned by {}: the copy here is ended", record.guest, record.to);
      done = end(unsettled);
      break;
    case OutcomeAnswer::kNeverOwned:
      spdlog::warn("guest {} was never owned by {}: it runs on here", record.guest, record.to);
      done = take_back(unsettled);
      break;
    case OutcomeAnswer::kForgotten:
      spdlog::error("{}", forgotten_text(record));
      unsettled.forgotten = true;
      add(std::move(unsettled));
      return true;
    case OutcomeAnswer::kUndecided:
      return false;
  }
  if (!done) spdlog::error("guest {}: {}", record.guest, done.error().message);
  return true;
}

// The guest runs on here.
Expected<void> Settler::take_back(MigrationSource::Unsettled& unsettled) {
  auto done = unsettled.guest.guest().cancel_handover();
  agent_.handovers.remove(unsettled.record.session);
  unsettled.guest.release();
  return done;
}

Expected<void> Settler::end(MigrationSource::Unsettled& unsettled) {
  auto done = unsettled.guest.destroy();
  // An agent that finds a guest handed over without a record lets it run again.
  if (done) agent_.handovers.remove(unsettled.record.session);
  return done;
}

// ---- the agent ----

Agent::Agent(const Config& config, dpdk::DataPlane& data_plane, EventRouter& router,
             GuestRegistry& registry, Drivers& drivers, HandoverRecords& handovers,
             OutcomeRecords& outcomes, const security::Credentials& credentials)
    : holds_(config.hold_dir),
      context_{config,    data_plane, router,  registry, drivers,
               handovers, outcomes,   floors_, holds_,   credentials},
      settler_(context_) {
  rediscover();
}

Agent::~Agent() { stop(); }

void Agent::rediscover() {
  for (auto& [name, driver] : context_.drivers) {
    for (auto& guest : driver->rediscover()) restore(std::move(guest));
  }
  const auto guests = context_.registry.list();
  for (const auto& record : context_.handovers.read_all()) {
    const auto found = std::find_if(guests.begin(), guests.end(),
                                    [&](const auto& guest) { return guest.name == record.guest; });
    // A QEMU that does not answer just now has its files still: a later agent must find the record.
    if (found == guests.end() &&
        std::filesystem::exists(context_.config.run_dir + "/guests/" + record.guest))
      continue;
    // Its copy here went with the earlier agent, or has been let run since: what runs here is not
    // the copy that was handed over, and must not be ended for it.
    if (found == guests.end() || found->state != "handed-over") {
      context_.handovers.remove(record.session);
      continue;
    }
    auto claim = context_.registry.claim(record.guest, ClaimPurpose::kMove, record.to);
    if (!claim) continue;
    spdlog::warn("guest {} was being handed over to {} when the agent ended: asking {}",
                 record.guest, record.to, record.to);
    settler_.add({std::move(*claim), record});
  }
}

// Before a guest that was found is listed: what its records say must be done with it.
void Agent::restore(std::unique_ptr<guest::Guest> guest) {
  const std::string name = guest->description().definition.name;
  Expected<void> done;
  if (guest->phase() == guest::Phase::kIncoming) {
    const auto owned = context_.outcomes.owned_but_not_running();
    if (std::find(owned.begin(), owned.end(), name) == owned.end()) {
      spdlog::warn("guest {} waited for a commit that cannot come any more: its twin is ended",
                   name);
      if (done = guest->destroy(); !done) spdlog::error("guest {}: {}", name, done.error().message);
      return;
    }
    spdlog::warn("guest {} was committed to this host before the agent ended: it is resumed", name);
    done = guest->resume();
    if (done) context_.outcomes.conclude(name);
  } else if (guest->phase() == guest::Phase::kHandedOver) {
    const auto records = context_.handovers.read_all();
    const bool handed_over = std::any_of(records.begin(), records.end(),
                                         [&](const auto& record) { return record.guest == name; });
    if (!handed_over) done = guest->cancel_handover();
  }
  if (!done) spdlog::error("guest {}: {}", name, done.error().message);
  spdlog::info("guest {} found, pid {}", name, guest->pid());
  if (auto added = context_.registry.add(std::move(guest)); !added)
    spdlog::error("guest {}: {}", name, added.error().message);
}

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

Expected<std::shared_ptr<Migration>> Agent::migrate(const v1::MigrateRequest& request) {
  auto checked = check(request);
  if (!checked) return tl::unexpected<Error>(checked.error());
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
