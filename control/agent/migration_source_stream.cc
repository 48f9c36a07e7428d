// Pre-copy: iterations until stopping the guest costs less than its limit, or another iteration
// would not help.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "control/agent/migration_source.h"
#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

// Less payload than this says nothing about the rate.
constexpr std::uint64_t kRateSampleBytes = 8UL << 20;
// Assumed of a link that has carried less than that.
constexpr double kAssumedBytesPerSecond = 250e6;
// Hashing all memory again at the stop, both hosts at once; XXH3 on one core reads faster than
// this.
constexpr double kFullProofBytesPerSecond = 5e9;

}  // namespace

Expected<void> MigrationSource::stream() {
  TimeNs scanned_at_ns = attached_ns_;
  for (std::uint32_t number = 1;; ++number) {
    auto iteration = run_iteration(number, scanned_at_ns);
    if (!iteration) return tl::unexpected<Error>(iteration.error());
    const auto decision = model::decide(*iteration, request_.policy);
    const double period_s = static_cast<double>(iteration->dirty_period_ns) / 1e9;
    progress_->set_estimates(
        period_s > 0 ? static_cast<std::uint64_t>(
                           static_cast<double>(iteration->dirty_pages * kPageBytes) / period_s)
                     : 0,
        decision.predicted_downtime_ns);
    spdlog::info(
        "migration session={:016x} guest={} iteration={} ms={:.1f} dirty_pages={} unsent_pages={} "
        "gbps={:.2f} scan_us={} predicted_ms={:.2f} stop=\"{}\"",
        session_, guest_.name(), number, static_cast<double>(iteration->duration_ns) / 1e6,
        iteration->dirty_pages, iteration->unsent_pages, bytes_per_second_ * 8 / 1e9,
        iteration->scan_ns / kMicrosecondNs,
        static_cast<double>(decision.predicted_downtime_ns) / 1e6,
        model::to_string(decision.reason));
    if (iteration->harvested)
      dirtied_.push_back({iteration->dirty_pages * kPageBytes, iteration->dirty_period_ns});
    if (decision.reason == model::StopReason::kNone) continue;
    note_decision(decision);
    note_figures();
    return {};
  }
}

Expected<model::Iteration> MigrationSource::run_iteration(std::uint32_t number,
                                                          TimeNs& scanned_at_ns) {
  progress_->set_iteration(number);
  summary_.set_iterations(number);
  const SendTotals before = total(flows_->all());
  const TimeNs began_ns = monotonic_now_ns();
  engine::Command command;
  command.kind = engine::CommandKind::kRunIteration;
  command.harvest = number > 1;
  const auto done = flows_->run(command, engine::EventKind::kIterationDone);
  if (!done) return tl::unexpected<Error>(done.error());
  const TimeNs ended_ns = monotonic_now_ns();
  const SendTotals after = total(flows_->all());

  model::Iteration iteration;
  iteration.number = number;
  iteration.harvested = command.harvest;
  iteration.duration_ns = ended_ns - began_ns;
  if (command.harvest) {
    for (const auto& event : *done) iteration.dirty_pages += event.value;
    // Chunks are scanned all along the iteration; its middle stands for them.
    const TimeNs middle_ns = began_ns + iteration.duration_ns / 2;
    iteration.dirty_period_ns = middle_ns - scanned_at_ns;
    scanned_at_ns = middle_ns;
    iteration.scan_ns = after.harvest_ns_max - before.harvest_ns_max;
  }
  iteration.unsent_pages = after.unsent_pages;
  iteration.bytes_per_second = measured_rate(before, after, iteration.duration_ns);
  const auto floor = agent_.floors.of(guest_.guest().description().definition.driver);
  iteration.floor_ns = floor.fixed_ns;
  iteration.proof_ns = floor.proof_ns;
  iteration.stop_latency_ns = floor.stop_latency_ns;
  const int whole_memory_hashes =
      int{request_.proof == v1::PROOF_MODE_FULL} + int{untracked_writes_};
  iteration.proof_ns += static_cast<TimeNs>(
      whole_memory_hashes * static_cast<double>(count_pages(populated_) * kPageBytes) * 1e9 /
      kFullProofBytesPerSecond);
  return iteration;
}

double MigrationSource::measured_rate(const SendTotals& before, const SendTotals& after,
                                      TimeNs duration_ns) {
  const std::uint64_t bytes = after.payload_bytes() - before.payload_bytes();
  if (bytes >= kRateSampleBytes && duration_ns > 0)
    bytes_per_second_ = static_cast<double>(bytes) * 1e9 / static_cast<double>(duration_ns);
  return bytes_per_second_ > 0 ? bytes_per_second_ : kAssumedBytesPerSecond;
}

void MigrationSource::note_decision(const model::StopDecision& decision) {
  summary_.set_stop_reason(model::to_string(decision.reason));
  if (decision.limit_exceeded) {
    summary_.add_remarks(
        fmt::format("the downtime limit of {:.1f} ms could not be held: {:.1f} ms were predicted "
                    "when the guest was stopped ({})",
                    static_cast<double>(request_.policy.downtime_limit_ns) / 1e6,
                    static_cast<double>(decision.predicted_downtime_ns) / 1e6,
                    model::to_string(decision.reason)));
  }
}

// What the guest does to its memory is known best while it is tracked; the destination is told.
void MigrationSource::note_figures() {
  if (dirtied_.empty()) return;
  GuestFigures figures;
  figures.dirtying = model::fit_dirtying(dirtied_);
  figures.populated_bytes = count_pages(populated_) * kPageBytes;
  agent_.registry.note_figures(guest_.name(), figures);
}

}  // namespace sluice::agent
