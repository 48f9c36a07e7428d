#include "control/agent/migration_source.h"

#include <algorithm>
#include <fmt/format.h>
#include <random>
#include <spdlog/spdlog.h>
#include <utility>

#include "control/model/handover_steps.h"
#include "drivers/base/clock.h"
#include "drivers/dpdk/crypto.h"

namespace sluice::agent {
namespace {

// How long a destination is given to end its twin.
constexpr TimeNs kAbortTimeoutNs = 1 * kSecondNs;

std::uint64_t new_session() {
  std::random_device device;
  const auto high = static_cast<std::uint64_t>(device());
  const std::uint64_t session = high << 32 | device();
  return session == 0 ? 1 : session;
}

// Frames were sent, of every size that a path may have, and none was ever acknowledged.
bool nothing_answered(SendFlows& flows) {
  const auto& all = flows.all();
  return total(all).frames > 0 && std::all_of(all.begin(), all.end(), [](const auto& flow) {
           return flow->probe.smoothed_rtt_ns.load(std::memory_order_relaxed) ==
                  protocol::kInitialRttNs;
         });
}

std::uint64_t microseconds(TimeNs ns) { return ns / kMicrosecondNs; }

}  // namespace

MigrationSource::MigrationSource(AgentContext& agent, MigrationRequest request, GuestClaim guest,
                                 Migration& migration)
    : agent_(agent),
      request_(std::move(request)),
      guest_(std::move(guest)),
      migration_(migration),
      began_ns_(monotonic_now_ns()) {
  while (!events_) {
    session_ = new_session();
    events_ = agent.router.open(session_, guest_.name());
  }
  summary_.set_guest(guest_.name());
  summary_.set_from(agent_.config.host);
  summary_.set_to(request_.to);
  summary_.set_bytes_guest(guest_.guest().description().definition.memory_bytes);
  summary_.set_proof_algorithm(page::kDigestAlgorithm);
  summary_.set_encryption(request_.plaintext ? "none" : dpdk::kCipherName);
  guest_.on_exit([events = events_, name = guest_.name()] {
    events->interrupt({ErrorKind::kFailed, fmt::format("guest {} has exited", name)});
  });
}

MigrationSource::~MigrationSource() = default;

void MigrationSource::interrupt(const Error& error) {
  events_->interrupt(error);
  const std::lock_guard lock(peer_mutex_);
  if (peer_) {
    peer_->interrupt(error);
  } else {
    interruption_ = error;
  }
}

void MigrationSource::lose_peer(const Error& error) {
  // After the commit the stream's end may be the regular one, and commit() says what it came to.
  if (state_ < model::SourceState::kCommitted) {
    spdlog::warn("migration session={:016x} guest={} interrupted: {}", session_, guest_.name(),
                 error.message);
  }
  events_->interrupt(error);
}

void MigrationSource::cancel(const std::string& reason) {
  // From the commit on only the destination's word counts.
  if (state_ >= model::SourceState::kCommitted) return;
  cancelled_ = true;
  interrupt({ErrorKind::kFailed, reason});
}

Expected<void> MigrationSource::advance(model::SourceEvent event) {
  const auto from = state_.load();
  const auto to = model::next(from, event);
  if (!to) {
    return fail(ErrorKind::kFailed, fmt::format("event {} is illegal while {}",
                                                model::to_string(event), model::to_string(from)));
  }
  state_ = *to;
  spdlog::info("migration session={:016x} guest={} state=\"{}\" ms={:.1f}", session_, guest_.name(),
               model::to_string(*to), static_cast<double>(monotonic_now_ns() - began_ns_) / 1e6);
  progress_->set_phase(model::to_string(*to));
  agent_.holds.reached(model::step_name(event));
  return {};
}

std::optional<MigrationSource::Unsettled> MigrationSource::run() {
  progress_ = std::make_unique<ProgressReporter>(migration_, request_.to, began_ns_);
  progress_->set_phase(model::to_string(state_.load()));
  const auto moved = move_guest();
  const bool forgotten = state_ == model::SourceState::kForgotten;
  const bool unknown = forgotten || state_ == model::SourceState::kUnknown;
  std::optional<OutcomeAnswer> answer;
  bool settled = false;
  if (!moved && !unknown) {
    answer = OutcomeAnswer::kNeverOwned;
    settled = cancel_migration(moved.error());
  }
  fill_summary();
  if (state_ == model::SourceState::kReleasing) {
    answer = OutcomeAnswer::kOwned;
    settled = release_guest();
  } else if (unknown) {
    if (forgotten) answer = OutcomeAnswer::kForgotten;
    summary_.set_status("unknown");
    summary_.set_error(moved.error().message);
    summary_.set_error_kind(static_cast<std::uint32_t>(ErrorKind::kUnknownOutcome));
    end_session();
  }
  std::optional<Unsettled> unsettled;
  if (!settled) {
    const auto record = handover_record();
    unsettled = Unsettled{std::move(guest_), record, answer};
  }
  progress_.reset();
  guest_.release();
  spdlog::info(
      "migration session={:016x} guest={} status={} downtime_us={} seconds={:.3f} error=\"{}\"",
      session_, summary_.guest(), summary_.status(), summary_.downtime_us(), summary_.seconds(),
      summary_.error());
  migration_.finish(summary_);
  return unsettled;
}

HandoverRecord MigrationSource::handover_record() const {
  return {session_, summary_.guest(), request_.to, request_.address, records_id_};
}

std::string forgotten_text(const HandoverRecord& record) {
  return fmt::format(
      "host {0} has lost its records since guest {1} was committed to it: {1} may have run there "
      "and "
      "is gone; its older copy stays paused here. If it may run on as it stood then: sluice guest "
      "resume {1}; if not: sluice guest stop {1}",
      record.to, record.guest);
}

Expected<void> MigrationSource::move_guest() {
  return prepare()
      .and_then([&] { return track(); })
      .and_then([&] { return request_.quick ? Expected<void>{} : stream(); })
      .and_then([&] { return pause(); })
      .and_then([&] { return final_pass(); })
      .and_then([&] { return prove(); })
      .and_then([&] { return hand_over_state(); })
      .and_then([&] { return commit(); });
}

// The destination runs the guest: what is left here must go, whatever else fails. False if it is
// there still.
bool MigrationSource::release_guest() {
  end_session();
  const auto destroyed = guest_.destroy();
  if (destroyed) {
    // Not before: an agent that finds a guest handed over without a record lets it run again.
    agent_.handovers.remove(session_);
    (void)advance(model::SourceEvent::kReleased);
  } else {
    spdlog::error("guest {} runs on {}, but its copy here could not be ended: {}", summary_.guest(),
                  request_.to, destroyed.error().message);
    summary_.add_remarks(
        fmt::format("the source's copy could not be ended: {}; its agent tries again",
                    destroyed.error().message));
  }
  summary_.set_status("completed");
  return destroyed.has_value();
}

// Before the commit point, or after the destination said that it never owned the guest: the guest
// goes on here. False if it could not be made to.
bool MigrationSource::cancel_migration(const Error& error) {
  std::string message = error.message;
  if (error.kind == ErrorKind::kUnreachable && flows_ && nothing_answered(*flows_)) {
    message += "; " + nothing_arrives(flows_->config());
  }
  if (state_ != model::SourceState::kCancelled) (void)advance(model::SourceEvent::kFailure);
  bool settled = true;
  if (paused_ && guest_.guest().alive()) {
    if (auto resumed = guest_.guest().cancel_handover(); !resumed) {
      message += fmt::format("; and guest {} could not be resumed: {}; its agent tries again",
                             guest_.name(), resumed.error().message);
      settled = !guest_.guest().alive();
    }
  }
  if (peer_) {
    v1::SourceMessage abort;
    abort.mutable_abort()->set_reason(message);
    // A summary that says "failed" is read as "nothing is left on the other host".
    if (peer_->send(abort)) peer_->await_end(monotonic_now_ns() + kAbortTimeoutNs);
  }
  if (settled) agent_.handovers.remove(session_);
  end_session();
  summary_.set_status(cancelled_ ? "cancelled" : "failed");
  summary_.set_error(message);
  summary_.set_error_kind(static_cast<std::uint32_t>(error.kind));
  spdlog::warn("migration session={:016x} guest={} cancelled: {}", session_, guest_.name(),
               message);
  return settled;
}

void MigrationSource::end_session() {
  {
    const std::lock_guard lock(peer_mutex_);
    peer_.reset();
  }
  const bool stopped = !flows_ || flows_->stop();
  if (flows_) {
    fill_flow_figures();
    summary_.set_busy_core_seconds_from(flows_->busy_core_seconds());
    summary_.set_mtu(static_cast<std::uint32_t>(flows_->path_mtu()));
    if (const auto remark = flows_->path_remark(request_.to)) {
      summary_.add_remarks(*remark);
      spdlog::warn("migration session={:016x} guest={} {}", session_, summary_.guest(), *remark);
    }
  }
  progress_->watch(nullptr);
  if (!stopped) {
    // A worker may still touch all three.
    (void)flows_.release();
    (void)tracker_.release();
    (void)memory_.release();
    return;
  }
  if (tracker_) {
    if (auto detached = tracker_->detach(); !detached)
      spdlog::warn("guest {}: {}", summary_.guest(), detached.error().message);
  }
  flows_.reset();
  tracker_.reset();
  memory_.reset();
}

void MigrationSource::fill_summary() {
  const TimeNs end = marks_.running_ns != 0 ? marks_.running_ns : monotonic_now_ns();
  summary_.set_seconds(static_cast<double>(end - began_ns_) / 1e9);
  if (marks_.running_ns != 0) fill_downtime();
}

void MigrationSource::fill_flow_figures() {
  for (const auto& [reason, count] : flows_->frames_dropped())
    (*summary_.mutable_frames_dropped())[reason] += count;
  const SendTotals totals = total(flows_->all());
  summary_.set_pages_sent(totals.raw_pages);
  summary_.set_zero_pages(totals.zero_pages);
  summary_.set_bytes_wire(totals.wire_bytes);
  summary_.set_frames_sent(totals.frames);
  summary_.set_frames_lost(totals.frames_lost);
  summary_.set_retransmitted_pages(totals.resent_pages);
  summary_.set_proof_audited_pages(totals.audited_pages);
  const TimeNs end = marks_.copied_ns != 0 ? marks_.copied_ns : monotonic_now_ns();
  if (stream_began_ns_ != 0 && end > stream_began_ns_) {
    summary_.set_goodput_gbps(static_cast<double>(totals.payload_bytes() * 8) /
                              static_cast<double>(end - stream_began_ns_));
  }
}

// Rounded so that the parts still add up: each is the difference of two rounded ends.
void MigrationSource::fill_downtime() {
  const auto since_stop = [&](TimeNs mark) { return microseconds(mark - marks_.stopped_ns); };
  auto& downtime = *summary_.mutable_downtime();
  downtime.set_stop_us(since_stop(marks_.ram_final_ns));
  downtime.set_final_scan_us(since_stop(marks_.scanned_ns) - since_stop(marks_.ram_final_ns));
  downtime.set_final_copy_us(since_stop(marks_.copied_ns) - since_stop(marks_.scanned_ns));
  downtime.set_proof_us(since_stop(marks_.proven_ns) - since_stop(marks_.copied_ns));
  downtime.set_state_us(since_stop(marks_.state_loaded_ns) - since_stop(marks_.proven_ns));
  downtime.set_resume_us(since_stop(marks_.running_ns) - since_stop(marks_.state_loaded_ns));
  summary_.set_downtime_us(since_stop(marks_.running_ns));
  const TimeNs limit_ns = request_.policy.downtime_limit_ns;
  if (!request_.quick && marks_.running_ns - marks_.stopped_ns > limit_ns) {
    summary_.add_remarks(fmt::format("the downtime was {:.1f} ms, above the limit of {:.1f} ms",
                                     static_cast<double>(summary_.downtime_us()) / 1e3,
                                     static_cast<double>(limit_ns) / 1e6));
  }
  spdlog::info(
      "migration session={:016x} guest={} downtime_us={} stop={} final_scan={} final_copy={} "
      "proof={} state={} resume={}",
      session_, summary_.guest(), summary_.downtime_us(), downtime.stop_us(),
      downtime.final_scan_us(), downtime.final_copy_us(), downtime.proof_us(), downtime.state_us(),
      downtime.resume_us());
  agent_.floors.measured(
      guest_.guest().description().definition.driver,
      (marks_.ram_final_ns - marks_.stopped_ns) + (marks_.running_ns - marks_.proven_ns),
      request_.proof == v1::PROOF_MODE_FULL ? 0 : marks_.proven_ns - marks_.copied_ns);
}

}  // namespace sluice::agent
