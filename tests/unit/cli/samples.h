// Messages with a different value in every field, so that a mix-up shows.
#pragma once

#include "control/proto/sluice.pb.h"

namespace sluice::cli {

inline v1::MigrateSummary sample_summary() {
  v1::MigrateSummary summary;
  summary.set_guest("db-3");
  summary.set_from("h1");
  summary.set_to("h2");
  summary.set_status("completed");
  summary.set_iterations(3);
  summary.set_pages_sent(1'100'000);
  summary.set_zero_pages(12'345);
  summary.set_bytes_guest(std::uint64_t{4} << 30);
  summary.set_bytes_wire(4'600'000'000);
  summary.set_goodput_gbps(9.41);
  summary.set_seconds(4.21);
  summary.set_downtime_us(12'400);
  summary.mutable_downtime()->set_stop_us(100);
  summary.mutable_downtime()->set_final_scan_us(500);
  summary.mutable_downtime()->set_final_copy_us(6'200);
  summary.mutable_downtime()->set_proof_us(1'100);
  summary.mutable_downtime()->set_state_us(3'500);
  summary.mutable_downtime()->set_resume_us(1'000);
  summary.set_proof_extents(2048);
  summary.set_proof_algorithm("xxh3-64");
  summary.set_proof_match(true);
  summary.set_proof_audited_pages(70'003);
  summary.set_mtu(9000);
  summary.set_encryption("aes-256-gcm");
  (*summary.mutable_frames_dropped())["replay"] = 2;
  (*summary.mutable_frames_dropped())["bad_tag"] = 1;
  summary.set_frames_sent(550'012);
  summary.set_frames_lost(7);
  summary.set_retransmitted_pages(14);
  summary.set_busy_core_seconds_from(3.91);
  summary.set_busy_core_seconds_to(4.02);
  summary.set_stop_reason("predicted downtime");
  return summary;
}

inline v1::MigrateProgress sample_progress() {
  v1::MigrateProgress progress;
  progress.set_phase("streaming");
  progress.set_iteration(2);
  progress.set_remaining_bytes(std::uint64_t{1} << 30);
  progress.set_sent_bytes(std::uint64_t{3} << 30);
  progress.set_rate_gbps(9.4);
  progress.set_dirty_bytes_per_second(std::uint64_t{200} << 20);
  progress.set_predicted_downtime_us(12'300);
  progress.set_seconds(2.5);
  progress.set_mtu(1500);
  progress.add_remarks("check the switch ports");
  return progress;
}

inline v1::MigratePlan sample_plan() {
  v1::MigratePlan plan;
  plan.set_guest("db-3");
  plan.set_from("h1");
  plan.set_to("h2");
  plan.set_memory_bytes(std::uint64_t{4} << 30);
  plan.set_populated_bytes(std::uint64_t{3} << 29);
  plan.set_flows(1);
  plan.set_mtu(9000);
  plan.set_pages_per_frame(2);
  plan.set_port_driver("memif");
  plan.set_downtime_limit_us(50'000);
  plan.set_max_iterations(10);
  plan.set_mode(v1::MIGRATION_MODE_LIVE);
  plan.set_proof(v1::PROOF_MODE_SENT);
  plan.set_encryption("aes-256-gcm");
  return plan;
}

}  // namespace sluice::cli
