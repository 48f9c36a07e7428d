// The guest stands still from here on: no sleep, no round trip that is not needed.
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <thread>
#include <xxhash.h>

#include "control/agent/migration_source.h"
#include "control/model/handover_steps.h"
#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

constexpr TimeNs kAnswerTimeoutNs = 30 * kSecondNs;
// How long the caller of a migration waits for an answer about a broken commit; the agent goes on
// asking after that.
constexpr TimeNs kSettleTimeoutNs = 5 * kSecondNs;
constexpr auto kSettleInterval = std::chrono::milliseconds(200);
// Holes nearer to each other than this are sent as one run: populated pages in between go once
// more, at no harm.
constexpr std::uint64_t kHoleMergeGapPages = 64;
constexpr std::size_t kMismatchesNamed = 4;

TimeNs latest(const std::vector<engine::Event>& events) {
  TimeNs at = 0;
  for (const auto& event : events) at = std::max(at, event.at_ns);
  return at;
}

std::string extents_text(const std::vector<std::uint64_t>& extents) {
  return fmt::format("extent{} {}", extents.size() == 1 ? "" : "s", fmt::join(extents, ", "));
}

}  // namespace

Expected<void> MigrationSource::pause() {
  if (auto stopping = advance(model::SourceEvent::kStop); !stopping) return stopping;
  if (request_.quick) summary_.set_stop_reason(model::to_string(model::StopReason::kQuickMode));
  if (const auto interrupted = events_->interruption()) return tl::unexpected<Error>(*interrupted);
  allocated_before_pause_ = memory_->allocated_pages();
  paused_ = true;
  auto stopped = guest_.guest().pause_for_switchover();
  if (!stopped) return tl::unexpected<Error>(stopped.error());
  marks_.ram_final_ns = monotonic_now_ns();
  marks_.stopped_ns = std::min(*stopped, marks_.ram_final_ns);
  return advance(model::SourceEvent::kPaused);
}

Expected<void> MigrationSource::final_pass() {
  if (request_.quick) {
    auto populated = memory_->populated_runs();
    if (!populated) return tl::unexpected<Error>(populated.error());
    populated_ = std::move(*populated);
    if (auto marked = flows_->mark(populated_, nullptr); !marked) return marked;
  }
  engine::Command command;
  command.kind = engine::CommandKind::kFinalPass;
  auto scanned = flows_->run(command, engine::EventKind::kFinalScanned);
  if (!scanned) return tl::unexpected<Error>(scanned.error());
  marks_.scanned_ns = std::max(latest(*scanned), marks_.ram_final_ns);
  auto settled = flows_->await(engine::EventKind::kSettled);
  if (!settled) return tl::unexpected<Error>(settled.error());
  if (auto sent = send_punched_holes(); !sent) return sent;
  if (auto sent = send_untracked_writes(); !sent) return sent;
  marks_.copied_ns = std::max(monotonic_now_ns(), marks_.scanned_ns);
  return advance(model::SourceEvent::kSettled);
}

Expected<void> MigrationSource::send_pages(PageNumber first, std::uint64_t count) {
  engine::Command command;
  command.kind = engine::CommandKind::kSendPages;
  command.page = first;
  command.pages = count;
  if (auto settled = flows_->run(command, engine::EventKind::kSettled); !settled)
    return tl::unexpected<Error>(settled.error());
  return {};
}

// The tracker does not see a hole that is punched into memory (drivers/tracker); devices that punch
// are refused before a migration begins, so this finds something only when such a device was
// overlooked. Looking through all of memory takes as long as a scan, so it is done only if the
// file's size on tmpfs says that something changed.
Expected<void> MigrationSource::send_punched_holes() {
  if (request_.quick || memory_->allocated_pages() >= allocated_before_pause_) return {};
  auto now = memory_->populated_runs();
  if (!now) return tl::unexpected<Error>(now.error());
  const auto holes = pages_missing(populated_, *now, kHoleMergeGapPages);
  if (!holes.empty()) {
    summary_.add_remarks(
        fmt::format("{} pages were given back by the guest while it moved", count_pages(holes)));
  }
  for (const auto& run : holes) {
    if (auto sent = send_pages(run.first, run.count); !sent) return sent;
  }
  return {};
}

// What came into memory by DMA while the guest ran is known only from the contents.
Expected<void> MigrationSource::send_untracked_writes() {
  if (request_.quick || !untracked_writes_) return {};
  auto sent = flows_->fold(memory_->layout());
  if (!sent) return tl::unexpected<Error>(sent.error());
  auto populated = memory_->populated_runs();
  if (!populated) return tl::unexpected<Error>(populated.error());
  const auto now = hash_memory(memory_->ram(), *populated);
  const auto extents = differing_extents(now, *sent, now.size());
  for (std::size_t i = 0; i < extents.size();) {
    std::size_t end = i + 1;
    while (end < extents.size() && extents[end] == extents[end - 1] + 1) ++end;
    if (auto corrected = send_pages(extents[i] * kExtentPages, (end - i) * kExtentPages);
        !corrected)
      return corrected;
    i = end;
  }
  summary_.add_remarks(
      fmt::format("the guest has a disk with direct I/O, whose reads no tracker sees: all of its "
                  "memory was compared after the stop, {} MiB were sent again",
                  extents.size() * kExtentBytes >> 20));
  return {};
}

Expected<void> MigrationSource::prove() {
  auto sent = flows_->fold(memory_->layout());
  if (!sent) return tl::unexpected<Error>(sent.error());
  v1::SourceMessage message;
  message.mutable_prove()->set_mode(request_.proof);
  for (const auto& flow : flows_->all()) {
    auto& digests = *message.mutable_prove()->add_flow()->mutable_digest();
    digests.Add(flow->digests.begin(), flow->digests.end());
  }
  if (auto asked = peer_->send(message); !asked) return asked;
  // While the destination hashes its own.
  if (request_.proof == v1::PROOF_MODE_FULL) {
    if (auto same = check_whole_memory(*sent); !same) return same;
  }
  auto reply = peer_->await(v1::DestinationMessage::kProven, monotonic_now_ns() + kAnswerTimeoutNs);
  if (!reply) return tl::unexpected<Error>(reply.error());
  marks_.proven_ns = std::max(reply->arrived_ns, marks_.copied_ns);
  const auto& proven = reply->message.proven();
  summary_.set_proof_extents(proven.extents());
  summary_.set_proof_match(proven.match());
  if (!proven.match()) {
    const std::vector<std::uint64_t> extents(proven.mismatching_extent().begin(),
                                             proven.mismatching_extent().end());
    return fail(ErrorKind::kFailed,
                fmt::format("the proof does not match: {} of guest {} differ{} on {}",
                            extents_text(extents), guest_.name(), extents.size() == 1 ? "s" : "",
                            request_.to));
  }
  return advance(model::SourceEvent::kProofMatched);
}

// What was sent must be what is in memory now; otherwise something writes that the tracker cannot
// see.
Expected<void> MigrationSource::check_whole_memory(const ExtentDigests& sent) {
  auto populated = memory_->populated_runs();
  if (!populated) return tl::unexpected<Error>(populated.error());
  const auto extents =
      differing_extents(hash_memory(memory_->ram(), *populated), sent, kMismatchesNamed);
  if (extents.empty()) return {};
  return fail(
      ErrorKind::kFailed,
      fmt::format("the proof does not match: {} of guest {} changed without the tracker seeing it",
                  extents_text(extents), guest_.name()));
}

Expected<void> MigrationSource::hand_over_state() {
  auto bytes = guest_.guest().save_state(memory_->state());
  if (!bytes) return tl::unexpected<Error>(bytes.error());
  if (auto saved = advance(model::SourceEvent::kStateSaved); !saved) return saved;
  const std::uint64_t pages = (*bytes + kPageBytes - 1) / kPageBytes;
  if (pages > 0) {
    const PageNumber first = memory_->layout().region(kStateRegion).first;
    if (auto sent = send_pages(first, pages); !sent) return sent;
  }
  v1::SourceMessage message;
  message.mutable_load_state()->set_bytes(*bytes);
  message.mutable_load_state()->set_xxh3(XXH3_64bits(memory_->state().data(), *bytes));
  if (const auto figures = agent_.registry.figures_of(guest_.name()))
    *message.mutable_load_state()->mutable_figures() = to_proto(*figures);
  if (auto asked = peer_->send(message); !asked) return asked;
  agent_.holds.reached(model::step_name(model::HandoverStep::kSourceStateSent));
  auto reply =
      peer_->await(v1::DestinationMessage::kStateLoaded, monotonic_now_ns() + kAnswerTimeoutNs);
  if (!reply) return tl::unexpected<Error>(reply.error());
  marks_.state_loaded_ns = std::max(reply->arrived_ns, marks_.proven_ns);
  return {};
}

Expected<void> MigrationSource::commit() {
  agent_.holds.reached(model::step_name(model::HandoverStep::kSourceBeforeRecord));
  // A commit that cannot arrive would leave the guest paused until its destination is back.
  if (const auto broken = peer_->failure()) return tl::unexpected<Error>(*broken);
  // From the record on, only the destination's word lets the guest run here again, even after a
  // crash.
  if (auto recorded = agent_.handovers.write(handover_record()); !recorded) return recorded;
  if (auto committed = advance(model::SourceEvent::kStateLoaded); !committed) return committed;
  v1::SourceMessage message;
  message.mutable_commit()->set_token(session_);
  auto running = peer_->send(message).and_then([&] {
    agent_.holds.reached(model::step_name(model::HandoverStep::kSourceCommitSent));
    return peer_->await(v1::DestinationMessage::kRunning, monotonic_now_ns() + kAnswerTimeoutNs);
  });
  if (running) {
    marks_.running_ns = std::max(running->arrived_ns, marks_.state_loaded_ns);
    summary_.set_busy_core_seconds_to(running->message.running().busy_core_seconds());
    *summary_.mutable_frames_dropped() = running->message.running().frames_dropped();
    return advance(model::SourceEvent::kRunning);
  }
  settle_commit(running.error());
  switch (state_.load()) {
    case model::SourceState::kReleasing:
      return {};
    case model::SourceState::kCancelled:
      return tl::unexpected<Error>(running.error());
    default:
      return fail(ErrorKind::kUnknownOutcome, unsettled_text(running.error()));
  }
}

std::string MigrationSource::unsettled_text(const Error& reason) const {
  if (state_ == model::SourceState::kForgotten)
    return "the outcome is unknown: " + forgotten_text(handover_record());
  return fmt::format(
      "the outcome is unknown: {} after the commit; guest {} stays paused here until host {} "
      "answers: "
      "bring its agent back, which settles it, and ask with: sluice guests",
      reason.message, guest_.name(), request_.to);
}

// Whether the destination owns the guest can only be learnt from the destination.
void MigrationSource::settle_commit(const Error& reason) {
  spdlog::warn("migration session={:016x} guest={} commit unconfirmed: {}", session_, guest_.name(),
               reason.message);
  const TimeNs deadline_ns = monotonic_now_ns() + kSettleTimeoutNs;
  while (true) {
    const auto outcome = ask_outcome(handover_record(), agent_.credentials);
    if (outcome && *outcome == OutcomeAnswer::kOwned) {
      summary_.add_remarks(
          "the destination's confirmation was lost; it was asked and owns the guest");
      (void)advance(model::SourceEvent::kRunning);
      return;
    }
    if (outcome && *outcome == OutcomeAnswer::kNeverOwned) {
      (void)advance(model::SourceEvent::kNeverOwned);
      return;
    }
    if (outcome && *outcome == OutcomeAnswer::kForgotten) {
      (void)advance(model::SourceEvent::kForgotten);
      return;
    }
    if (monotonic_now_ns() >= deadline_ns) break;
    std::this_thread::sleep_for(kSettleInterval);
  }
  (void)advance(model::SourceEvent::kUnreachable);
}

}  // namespace sluice::agent
