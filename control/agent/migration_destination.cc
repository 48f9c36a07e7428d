#include "control/agent/migration_destination.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <utility>
#include <xxhash.h>

#include "control/model/description.h"
#include "control/model/handover_steps.h"
#include "dataplane/page/digest.h"

namespace sluice::agent {
namespace {

constexpr std::size_t kMismatchesNamed = 4;

// A twin may hold firmware that it loaded when it started. Both hosts begin with memory that counts
// as zeros, and the source does not send zeros that count as such.
Expected<void> clear_memory(const SessionMemory& memory) {
  auto populated = memory.populated_runs();
  if (!populated) return tl::unexpected<Error>(populated.error());
  for (const auto& run : *populated) {
    for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
      std::byte* address = memory.ram().data() + page * kPageBytes;
      if (!page::is_zero_page(address)) std::memset(address, 0, kPageBytes);
    }
  }
  return {};
}

}  // namespace

Error wrong_host(const std::string& wanted, const std::string& here) {
  return {ErrorKind::kInvalid,
          fmt::format("this is the agent of host {}, not of {}; correct [peers] in the source's "
                      "agent.toml",
                      here, wanted)};
}

MigrationDestination::~MigrationDestination() = default;

void MigrationDestination::fail_session(const Error& error) {
  // After a commit the source asks what became of the guest as soon as it hears of a failure: the
  // answer must be final.
  const bool decided_first = state_ == model::DestinationState::kDiscarded;
  if (decided_first) discard_twin(error.message);
  report(error);
  if (!decided_first) discard_twin(error.message);
}

void MigrationDestination::run() {
  // Memory or threads may run out at any step. gRPC would swallow that, and leave flows to workers
  // and a twin to nobody.
  try {
    serve();
  } catch (const std::exception& exception) {
    if (state_ == model::DestinationState::kRunning) {
      agent_.outcomes.mark_running(session_);
      return finish();
    }
    fail_session({ErrorKind::kFailed, fmt::format("host {} cannot go on with this migration: {}",
                                                  agent_.config.host, exception.what())});
  }
}

void MigrationDestination::finish() {
  guest_.release();
  end_session();
}

void MigrationDestination::serve() {
  v1::SourceMessage message;
  while (source_.read(message)) {
    if (message.has_abort()) {
      discard_twin(fmt::format("{} gave up: {}", from_, message.abort().reason()));
      return;
    }
    if (auto handled = handle(message); !handled) return fail_session(handled.error());
    if (state_ == model::DestinationState::kRunning) {
      guest_.guest().announce();
      return finish();
    }
    if (state_ == model::DestinationState::kDiscarded) return;
  }
  discard_twin("the connection to the source ended before the commit");
}

Expected<void> MigrationDestination::handle(v1::SourceMessage& message) {
  switch (message.message_case()) {
    case v1::SourceMessage::kPrepare: {
      auto prepared = prepare(message.prepare());
      wipe(*message.mutable_prepare()->mutable_secret());
      return prepared;
    }
    case v1::SourceMessage::kProve:
      return prove(message.prove());
    case v1::SourceMessage::kLoadState:
      return load_state(message.load_state());
    case v1::SourceMessage::kCommit:
      return commit(message.commit());
    default:
      return fail(ErrorKind::kInvalid, "the source sent a message that this agent does not know");
  }
}

Expected<void> MigrationDestination::advance(model::DestinationEvent event) {
  const auto to = model::next(state_, event);
  if (!to) {
    return fail(ErrorKind::kInvalid,
                fmt::format("message out of turn: event {} while {}", model::to_string(event),
                            model::to_string(state_.load())));
  }
  state_ = *to;
  spdlog::info("arrival session={:016x} guest={} from={} state=\"{}\"", session_, guest_.name(),
               from_, model::to_string(*to));
  agent_.holds.reached(model::step_name(event));
  return {};
}

void MigrationDestination::reply(const v1::DestinationMessage& message) {
  const std::lock_guard lock(write_mutex_);
  // A stream that is broken shows at the next read.
  (void)source_.write(message);
}

void MigrationDestination::report(const Error& error) {
  v1::DestinationMessage message;
  message.mutable_failed()->set_error_kind(static_cast<std::uint32_t>(error.kind));
  message.mutable_failed()->set_message(error.message);
  reply(message);
}

// ---- preparing and receiving ----

Expected<void> MigrationDestination::prepare(const v1::Prepare& request) {
  if (session_ != 0) return fail(ErrorKind::kInvalid, "message out of turn: prepare came twice");
  if (request.to() != agent_.config.host)
    return tl::unexpected<Error>(wrong_host(request.to(), agent_.config.host));
  if (auto speaks = source_.speaks_for(request.from()); !speaks) {
    spdlog::warn("a migration is refused: {}", speaks.error().message);
    return speaks;
  }
  if (request.secret().empty() && !agent_.config.security.allow_plaintext)
    return tl::unexpected<Error>(plaintext_refused(agent_.config.host));
  // While a cluster's agents are being upgraded its controller must still be able to empty hosts of
  // older ones, who do not say for whom they act.
  const bool by_controller = !request.has_by_controller() || request.by_controller();
  if (auto admitted = agent_.cordon.admit(by_controller, Cordon::Clock::now()); !admitted)
    return admitted;
  if (request.session() == 0) return fail(ErrorKind::kInvalid, "session 0 is not valid");
  const auto description = model::parse_description(request.guest_description_json());
  if (!description) return tl::unexpected<Error>(description.error());
  if (!agent_.outcomes.begin(request.session(), description->definition.name, request.from())) {
    return fail(ErrorKind::kBusy,
                fmt::format("session {:016x} was used before", request.session()));
  }
  session_ = request.session();
  from_ = request.from();
  return make_twin(request, *description).and_then([&] { return receive(request); });
}

Expected<void> MigrationDestination::make_twin(const v1::Prepare& request,
                                               const guest::Description& description) {
  const auto& definition = description.definition;
  events_ = agent_.router.open(session_, definition.name);
  if (!events_) {
    return fail(ErrorKind::kBusy,
                fmt::format("session {:016x} is under way on {}", session_, agent_.config.host));
  }
  const auto driver = agent_.drivers.find(definition.driver);
  if (driver == agent_.drivers.end()) {
    return fail(ErrorKind::kUnsupported, fmt::format("{} cannot run guests of driver \"{}\"",
                                                     agent_.config.host, definition.driver));
  }
  auto claim = agent_.registry.create(definition.name, definition.memory_bytes, from_, [&] {
    return driver->second->prepare_incoming(description);
  });
  if (!claim) return tl::unexpected<Error>(claim.error());
  guest_ = std::move(*claim);
  // An earlier guest of this name is gone.
  if (auto concluded = agent_.outcomes.conclude(guest_.name()); !concluded) return concluded;
  guest_.on_exit([this] {
    const Error error{ErrorKind::kFailed,
                      fmt::format("the twin of guest {} on {} has exited; its log says why",
                                  guest_.name(), agent_.config.host)};
    events_->interrupt(error);
    report(error);
  });
  auto memory = SessionMemory::map(guest_.guest().memory(), agent_.data_plane, /*sending=*/false);
  if (!memory) return tl::unexpected<Error>(memory.error());
  memory_ = std::move(*memory);
  const std::vector<std::uint64_t> offered(request.region_pages().begin(),
                                           request.region_pages().end());
  if (offered != memory_->region_pages()) {
    return fail(ErrorKind::kUnsupported,
                fmt::format("the twin's memory differs in size from guest {}'s", guest_.name()));
  }
  return clear_memory(*memory_);
}

Expected<void> MigrationDestination::receive(const v1::Prepare& request) {
  auto config = plan_session(agent_.data_plane, request.source(), request.mtu(), from_);
  if (!config) return tl::unexpected<Error>(config.error());
  config->session = session_;
  config->dscp = agent_.config.dscp;
  flows_ = std::make_unique<ReceiveFlows>(agent_.data_plane, events_, *config);
  if (!request.secret().empty()) {
    auto keys = Secret::from_bytes(request.secret()).and_then([&](const Secret& secret) {
      return flows_->make_keys(secret, /*source=*/false);
    });
    if (!keys) return keys;
  }
  if (auto started = flows_->start_all(*memory_); !started) return started;

  auto runs = parse_populated(request, memory_->ram_pages());
  if (!runs) return tl::unexpected<Error>(runs.error());
  populator_ =
      std::make_unique<Populator>(memory_->ram(), std::move(*runs), Populator::Access::kWrite);

  if (auto ready = advance(model::DestinationEvent::kTwinReady); !ready) return ready;
  v1::DestinationMessage message;
  *message.mutable_prepared()->mutable_destination() = describe_endpoint(agent_.data_plane.info());
  message.mutable_prepared()->set_flows(config->plan.flows);
  message.mutable_prepared()->set_records_id(agent_.outcomes.store_id());
  message.mutable_prepared()->set_mtu(static_cast<std::uint32_t>(config->mtu));
  reply(message);
  return {};
}

// ---- proof ----

Expected<ExtentDigests> MigrationDestination::expected_digests(const v1::Prove& request) const {
  std::vector<std::span<const page::ExtentDigest>> flows;
  for (int i = 0; i < request.flow_size(); ++i) {
    const auto& digests = request.flow(i).digest();
    flows.emplace_back(digests.data(), static_cast<std::size_t>(digests.size()));
  }
  bool complete = flows.size() == flows_->all().size();
  for (std::size_t i = 0; complete && i < flows.size(); ++i)
    complete = flows[i].size() == flows_->all()[i]->digests.size();
  if (!complete)
    return fail(ErrorKind::kInvalid, "the proof covers other memory than was agreed on");
  return gather(flows, memory_->layout());
}

Expected<void> MigrationDestination::prove(const v1::Prove& request) {
  if (state_ != model::DestinationState::kReceiving)
    return fail(ErrorKind::kInvalid, "message out of turn: nothing to prove");
  agent_.holds.reached(model::step_name(model::HandoverStep::kDestinationReceived));
  populator_.reset();
  const auto folded = flows_->fold(memory_->layout());
  if (!folded) return tl::unexpected<Error>(folded.error());
  const auto expected = expected_digests(request);
  if (!expected) return tl::unexpected<Error>(expected.error());
  auto differing = differing_extents(*folded, *expected, kMismatchesNamed);
  if (request.mode() == v1::PROOF_MODE_FULL && differing.empty()) {
    const auto populated = memory_->populated_runs();
    if (!populated) return tl::unexpected<Error>(populated.error());
    differing =
        differing_extents(hash_memory(memory_->ram(), *populated), *expected, kMismatchesNamed);
  }
  v1::DestinationMessage message;
  message.mutable_proven()->set_match(differing.empty());
  message.mutable_proven()->set_extents(expected->size());
  for (const auto extent : differing) message.mutable_proven()->add_mismatching_extent(extent);
  if (differing.empty()) {
    if (auto matched = advance(model::DestinationEvent::kProofMatched); !matched) return matched;
    reply(message);
    return {};
  }
  reply(message);
  discard_twin("the proof does not match");
  return {};
}

// ---- state, commit, resume ----

Expected<void> MigrationDestination::load_state(const v1::LoadState& request) {
  if (auto arrived = advance(model::DestinationEvent::kStateArrived); !arrived) return arrived;
  if (request.bytes() > memory_->state().size())
    return fail(ErrorKind::kInvalid, "the device state is larger than its region");
  const auto state = memory_->state().first(request.bytes());
  if (XXH3_64bits(state.data(), state.size()) != request.xxh3())
    return fail(ErrorKind::kFailed, "the device state that arrived is not what was sent");
  if (auto loaded = guest_.guest().load_state(state); !loaded) return loaded;
  if (request.has_figures())
    agent_.registry.note_figures(guest_.name(), from_proto(request.figures()));
  // After the commit the twin is the guest: it must not die with this agent.
  if (auto kept = guest_.guest().keep_after_agent_exit(session_); !kept) return kept;
  if (auto ready = advance(model::DestinationEvent::kStateLoaded); !ready) return ready;
  v1::DestinationMessage message;
  message.mutable_state_loaded();
  reply(message);
  return {};
}

Expected<void> MigrationDestination::commit(const v1::Commit& request) {
  if (state_ != model::DestinationState::kReady || request.token() != session_)
    return fail(ErrorKind::kFailed, "commit refused: no twin waits for this token");
  agent_.holds.reached(model::step_name(model::HandoverStep::kDestinationCommitHeard));
  if (!guest_.guest().alive())
    return fail(ErrorKind::kFailed, "commit refused: the twin of the guest has exited");
  if (auto owned = agent_.outcomes.own(session_); !owned) return owned;
  if (auto owner = advance(model::DestinationEvent::kCommit); !owner) return owner;
  if (auto resumed = resume_guest(); !resumed) return resumed;
  v1::DestinationMessage message;
  message.mutable_running()->set_busy_core_seconds(flows_->busy_core_seconds());
  for (const auto& [reason, count] : flows_->frames_dropped())
    (*message.mutable_running()->mutable_frames_dropped())[reason] = count;
  reply(message);
  agent_.holds.reached(model::step_name(model::HandoverStep::kDestinationRunningSaid));
  agent_.outcomes.mark_running(session_);
  return {};
}

Expected<void> MigrationDestination::resume_guest() {
  auto resumed = guest_.guest().resume();
  if (resumed) return advance(model::DestinationEvent::kResumed);
  spdlog::error("guest {} does not resume: {}", guest_.name(), resumed.error().message);
  // A twin that may have run is the guest; one that stood still all the while is not, and the
  // source may have it back.
  if (resumed.error().kind != ErrorKind::kFailed) return tl::unexpected<Error>(resumed.error());
  if (auto never = advance(model::DestinationEvent::kNeverRan); !never) return never;
  agent_.outcomes.disown(session_);
  return tl::unexpected<Error>(resumed.error());
}

// ---- the end ----

void MigrationDestination::discard_twin(const std::string& reason) {
  const auto state = state_.load();
  if (state == model::DestinationState::kOwned) {
    // The guest may be ours; only its session ends here.
    spdlog::error("arrival session={:016x} guest={} from={} owned but not running: {}", session_,
                  guest_.name(), from_, reason);
    end_session();
    agent_.owned_twins.take(std::move(guest_), session_);
    return;
  }
  if (state != model::DestinationState::kDiscarded)
    (void)advance(model::DestinationEvent::kFailure);
  spdlog::warn("arrival session={:016x} guest={} from={} discarded: {}", session_, guest_.name(),
               from_, reason);
  end_session();
  if (guest_.valid()) {
    if (auto destroyed = guest_.destroy(); !destroyed) {
      spdlog::error("guest {}: its twin could not be ended: {}", guest_.name(),
                    destroyed.error().message);
    }
  }
  // Last: while the twin is there the outcome stays undecided.
  if (session_ != 0) agent_.outcomes.discard(session_);
}

void MigrationDestination::end_session() {
  populator_.reset();
  if (flows_ && !flows_->stop()) {
    (void)flows_.release();
    (void)memory_.release();
    return;
  }
  flows_.reset();
  memory_.reset();
}

}  // namespace sluice::agent
