#include "control/agent/progress.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(200);
// Rates over less than this say nothing.
constexpr TimeNs kRateWindowNs = 100 * kMillisecondNs;

std::uint64_t value(const std::atomic<std::uint64_t>& counter) {
  return counter.load(std::memory_order_relaxed);
}

}  // namespace

SendTotals total(const std::vector<std::unique_ptr<engine::SendFlow>>& flows) {
  SendTotals totals;
  for (const auto& flow : flows) {
    const auto& probe = flow->probe;
    totals.frames += value(probe.frames_sent);
    totals.wire_bytes += value(probe.bytes_sent) + value(probe.frames_sent) * flow->packet.bytes();
    totals.raw_pages += value(probe.raw_pages_sent);
    totals.zero_pages += value(probe.zero_pages_sent);
    totals.resent_pages += value(probe.pages_resent_after_loss);
    totals.frames_lost += value(probe.frames_lost);
    totals.unsent_pages +=
        value(probe.pending_pages) + value(probe.deferred_pages) + value(probe.in_flight_pages);
    totals.audited_pages += value(probe.audited_pages);
    totals.harvest_ns_max = std::max(totals.harvest_ns_max, value(probe.harvest_ns));
  }
  return totals;
}

ProgressReporter::ProgressReporter(Migration& migration, std::string to, TimeNs began_ns)
    : migration_(migration),
      to_(std::move(to)),
      began_ns_(began_ns),
      thread_([this](const std::stop_token& stop) { loop(stop); }) {}

void ProgressReporter::watch(SendFlows* flows) {
  const std::lock_guard lock(mutex_);
  flows_ = flows;
}

void ProgressReporter::set_phase(const std::string& phase) {
  {
    const std::lock_guard lock(mutex_);
    progress_.set_phase(phase);
    phase_changed_ = true;
  }
  changed_.notify_all();
}

void ProgressReporter::set_iteration(std::uint32_t iteration) {
  const std::lock_guard lock(mutex_);
  progress_.set_iteration(iteration);
}

void ProgressReporter::set_estimates(std::uint64_t dirty_bytes_per_second,
                                     TimeNs predicted_downtime_ns) {
  const std::lock_guard lock(mutex_);
  progress_.set_dirty_bytes_per_second(dirty_bytes_per_second);
  progress_.set_predicted_downtime_us(predicted_downtime_ns / kMicrosecondNs);
}

v1::MigrateProgress ProgressReporter::measure(TimeNs now) {
  progress_.set_seconds(static_cast<double>(now - began_ns_) / static_cast<double>(kSecondNs));
  if (flows_ == nullptr) return progress_;
  const SendTotals totals = total(flows_->all());
  progress_.set_sent_bytes(totals.payload_bytes());
  progress_.set_remaining_bytes(totals.unsent_pages * kPageBytes);
  progress_.set_mtu(static_cast<std::uint32_t>(flows_->path_mtu()));
  progress_.clear_remarks();
  if (auto remark = flows_->path_remark(to_)) progress_.add_remarks(std::move(*remark));
  if (now - measured_ns_ >= kRateWindowNs) {
    const auto bits = static_cast<double>((totals.payload_bytes() - measured_bytes_) * 8);
    if (measured_ns_ != 0) progress_.set_rate_gbps(bits / static_cast<double>(now - measured_ns_));
    measured_ns_ = now;
    measured_bytes_ = totals.payload_bytes();
  }
  return progress_;
}

void ProgressReporter::loop(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    changed_.wait_for(lock, stop, kInterval, [&] { return phase_changed_; });
    phase_changed_ = false;
    if (progress_.phase().empty()) continue;
    const auto progress = measure(monotonic_now_ns());
    lock.unlock();
    migration_.publish(progress);
    lock.lock();
  }
}

}  // namespace sluice::agent
