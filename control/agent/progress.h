// Tells watchers how a migration goes: five times a second, and whenever its phase changes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "control/agent/flows.h"
#include "control/agent/migration.h"
#include "dataplane/base/units.h"

namespace sluice::agent {

// Sums of the flows' probes.
struct SendTotals {
  std::uint64_t frames = 0;
  std::uint64_t wire_bytes = 0;  // frames and the headers below them
  std::uint64_t raw_pages = 0;
  std::uint64_t zero_pages = 0;
  std::uint64_t resent_pages = 0;
  std::uint64_t frames_lost = 0;
  std::uint64_t unsent_pages = 0;  // pending, deferred and in flight
  std::uint64_t audited_pages = 0;
  std::uint64_t harvest_ns_max = 0;

  [[nodiscard]] std::uint64_t payload_bytes() const { return raw_pages * kPageBytes; }
};
[[nodiscard]] SendTotals total(const std::vector<std::unique_ptr<engine::SendFlow>>& flows);

class ProgressReporter {
 public:
  // `to` is the host that the guest moves to.
  ProgressReporter(Migration& migration, std::string to, TimeNs began_ns);
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  // Any thread. `flows` (null: none) must outlive the reporter or be taken back.
  void watch(SendFlows* flows);
  void set_phase(const std::string& phase);
  void set_iteration(std::uint32_t iteration);
  void set_estimates(std::uint64_t dirty_bytes_per_second, TimeNs predicted_downtime_ns);

 private:
  void loop(const std::stop_token& stop);
  [[nodiscard]] v1::MigrateProgress measure(TimeNs now);

  Migration& migration_;
  const std::string to_;
  const TimeNs began_ns_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool phase_changed_ = false;
  SendFlows* flows_ = nullptr;
  v1::MigrateProgress progress_;
  TimeNs measured_ns_ = 0;
  std::uint64_t measured_bytes_ = 0;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace sluice::agent
