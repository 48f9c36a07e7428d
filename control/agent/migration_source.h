// The source's side of one migration, from the first question to the release of the guest. The
// order of its steps is that of control/model/handover.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/agent/context.h"
#include "control/agent/flows.h"
#include "control/agent/guest_registry.h"
#include "control/agent/migration.h"
#include "control/agent/peer_stream.h"
#include "control/agent/progress.h"
#include "control/agent/session_memory.h"
#include "control/model/convergence.h"
#include "control/model/dirtying.h"
#include "control/model/handover.h"
#include "drivers/tracker/dirty_tracker.h"

namespace sluice::agent {

struct MigrationRequest {
  std::string to;
  std::string address;  // of the destination's agent
  model::StopPolicy policy;
  bool quick = false;
  v1::ProofMode proof = v1::PROOF_MODE_SENT;
  bool plaintext = false;  // frames in the clear, if both hosts allow it
  bool by_controller = false;
};

// When each part of the downtime ended, CLOCK_MONOTONIC.
struct DowntimeMarks {
  TimeNs stopped_ns = 0;
  TimeNs ram_final_ns = 0;
  TimeNs scanned_ns = 0;
  TimeNs copied_ns = 0;
  TimeNs proven_ns = 0;
  TimeNs state_loaded_ns = 0;
  TimeNs running_ns = 0;
};

// For whom `record`'s destination has lost its records: what is the case, and what to do.
[[nodiscard]] std::string forgotten_text(const HandoverRecord& record);

class MigrationSource {
 public:
  // `guest` is the right to move the guest.
  MigrationSource(AgentContext& agent, MigrationRequest request, GuestClaim guest,
                  Migration& migration);
  ~MigrationSource();
  MigrationSource(const MigrationSource&) = delete;
  MigrationSource& operator=(const MigrationSource&) = delete;

  // Does all of it and publishes the summary. What it returns has to be settled later: the claim on
  // a guest whose outcome is unknown, or of which it is known and could not be done, with its
  // record.
  struct Unsettled {
    GuestClaim guest;
    HandoverRecord record;
    // What is known already and remains to be done; nothing: the destination must be asked.
    // kForgotten: an operator decides.
    std::optional<OutcomeAnswer> answer;
    std::string complaint = {};  // why it is not done, as last logged
  };
  [[nodiscard]] std::optional<Unsettled> run();
  // Any thread: ends the migration if its commit point has not been reached; the guest then runs on
  // here.
  void cancel(const std::string& reason);

 private:
  [[nodiscard]] Expected<void> move_guest();
  [[nodiscard]] Expected<void> advance(model::SourceEvent event);
  void interrupt(const Error& error);
  // The stream's thread: the destination has failed, or the stream has ended.
  void lose_peer(const Error& error);

  // preparing (migration_source_prepare.cc)
  [[nodiscard]] Expected<void> prepare();
  [[nodiscard]] Expected<v1::Prepared> ask_for_twin(const Secret& secret);
  [[nodiscard]] Expected<void> start_flows();
  [[nodiscard]] Expected<void> track();
  void publish_plan();

  // streaming (migration_source_stream.cc)
  [[nodiscard]] Expected<void> stream();
  [[nodiscard]] Expected<model::Iteration> run_iteration(std::uint32_t number,
                                                         TimeNs& scanned_at_ns);
  [[nodiscard]] double measured_rate(const SendTotals& before, const SendTotals& after,
                                     TimeNs duration_ns);
  void note_decision(const model::StopDecision& decision);
  void note_figures();

  // the guest stands still (migration_source_switchover.cc)
  [[nodiscard]] Expected<void> pause();
  [[nodiscard]] Expected<void> final_pass();
  // Sends these pages of the page space and waits until they are acknowledged.
  [[nodiscard]] Expected<void> send_pages(PageNumber first, std::uint64_t count);
  [[nodiscard]] Expected<void> send_punched_holes();
  [[nodiscard]] Expected<void> send_untracked_writes();
  [[nodiscard]] Expected<void> prove();
  [[nodiscard]] Expected<void> check_whole_memory(const ExtentDigests& sent);
  [[nodiscard]] Expected<void> hand_over_state();
  [[nodiscard]] Expected<void> commit();
  void settle_commit(const Error& reason);
  [[nodiscard]] HandoverRecord handover_record() const;
  [[nodiscard]] std::string unsettled_text(const Error& reason) const;

  // the end (migration_source.cc)
  [[nodiscard]] bool release_guest();
  [[nodiscard]] bool cancel_migration(const Error& error);
  void end_session();
  void fill_summary();
  void fill_flow_figures();
  void fill_downtime();

  AgentContext& agent_;
  const MigrationRequest request_;
  GuestClaim guest_;
  Migration& migration_;
  std::uint64_t session_ = 0;
  const TimeNs began_ns_;

  // Written by the migration's thread, read by cancel().
  std::atomic<model::SourceState> state_{model::SourceState::kPreparing};
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<SessionEvents> events_;
  std::mutex peer_mutex_;  // of the pointer: cancel() uses it from another thread
  std::unique_ptr<PeerStream> peer_;
  std::optional<Error> interruption_;  // before there was a peer; under peer_mutex_

  std::unique_ptr<SessionMemory> memory_;
  std::unique_ptr<tracker::DirtyTracker> tracker_;
  std::vector<port::PageRun> populated_;
  std::unique_ptr<SendFlows> flows_;
  std::uint64_t allocated_before_pause_ = 0;
  bool untracked_writes_ = false;  // by the guest's devices: see Guest::has_untracked_writes()

  std::uint64_t records_id_ = 0;  // the destination's: see HandoverRecord
  bool paused_ = false;
  DowntimeMarks marks_;
  TimeNs stream_began_ns_ = 0;
  TimeNs attached_ns_ = 0;
  double bytes_per_second_ = 0;
  std::vector<model::Dirtied> dirtied_;  // in each iteration that looked
  v1::MigrateSummary summary_;
  std::unique_ptr<ProgressReporter> progress_;
};

}  // namespace sluice::agent
