#include "control/cli/json_output.h"

#include <map>
#include <string>

namespace sluice::cli {
namespace {

double ms(std::uint64_t microseconds) { return static_cast<double>(microseconds) / 1e3; }

const char* name_of(v1::MigrationMode mode) {
  return mode == v1::MIGRATION_MODE_QUICK ? "quick" : "live";
}
const char* name_of(v1::ProofMode proof) { return proof == v1::PROOF_MODE_FULL ? "full" : "sent"; }

Json counts(const google::protobuf::Map<std::string, std::uint64_t>& named) {
  Json document = Json::object();
  for (const auto& [name, count] : std::map(named.begin(), named.end())) document[name] = count;
  return document;
}

}  // namespace

Json to_json(const v1::HostInfo& host) {
  return {{"name", host.name()},
          {"version", host.version()},
          {"port", host.port()},
          {"port_driver", host.port_driver()},
          {"data_address", host.data_address()},
          {"mtu", host.mtu()},
          {"queues", host.queues()},
          {"steering", host.steering()},
          {"packets_passed_on", host.packets_passed_on()},
          {"neighbour_answers", host.neighbour_answers()},
          {"neighbour_requests_ignored", host.neighbour_requests_ignored()},
          {"worker_cores", Json(host.worker_cores())},
          {"hugepages", host.hugepages()},
          {"zero_copy", host.zero_copy()},
          {"memory_bytes", host.memory_bytes()},
          {"memory_used_bytes", host.memory_used_bytes()},
          {"guests", host.guests()},
          {"peers", Json(host.peers())},
          {"remarks", Json(host.remarks())},
          {"frames_dropped", counts(host.frames_dropped())},
          {"boot_id", host.boot_id()},
          {"kernel", host.kernel()},
          {"cpu_level", host.cpu_level()},
          {"package_version", host.package_version()},
          {"qemu_version", host.qemu_version()}};
}

Json to_json(const v1::GuestInfo& guest) {
  Json document = {{"name", guest.name()},
                   {"host", guest.host()},
                   {"state", guest.state()},
                   {"driver", guest.driver()},
                   {"memory_bytes", guest.memory_bytes()},
                   {"pid", guest.pid()},
                   {"machine_type", guest.machine_type()}};
  if (!guest.moving_to().empty()) document["moving_to"] = guest.moving_to();
  if (!guest.qemu_version().empty()) document["qemu_version"] = guest.qemu_version();
  if (guest.cpu_level() != 0) document["cpu_level"] = guest.cpu_level();
  if (guest.has_figures()) {
    const v1::GuestFigures& figures = guest.figures();
    document["figures"] = {{"dirty_bytes_per_second", figures.dirty_bytes_per_second()},
                           {"working_set_bytes", figures.working_set_bytes()},
                           {"working_set_ms", figures.working_set_ms()},
                           {"populated_bytes", figures.populated_bytes()},
                           {"source", figures.source()},
                           {"age_s", figures.age_s()}};
  }
  return document;
}

Json to_json(const v1::MigratePlan& plan) {
  return {{"event", "plan"},
          {"guest", plan.guest()},
          {"from", plan.from()},
          {"to", plan.to()},
          {"memory_bytes", plan.memory_bytes()},
          {"populated_bytes", plan.populated_bytes()},
          {"flows", plan.flows()},
          {"mtu", plan.mtu()},
          {"pages_per_frame", plan.pages_per_frame()},
          {"port_driver", plan.port_driver()},
          {"downtime_limit_ms", ms(plan.downtime_limit_us())},
          {"max_iterations", plan.max_iterations()},
          {"mode", name_of(plan.mode())},
          {"proof", name_of(plan.proof())},
          {"encryption", plan.encryption()}};
}

Json to_json(const v1::MigrateProgress& progress) {
  return {{"event", "progress"},
          {"phase", progress.phase()},
          {"iteration", progress.iteration()},
          {"remaining_bytes", progress.remaining_bytes()},
          {"sent_bytes", progress.sent_bytes()},
          {"rate_gbps", progress.rate_gbps()},
          {"dirty_bytes_per_second", progress.dirty_bytes_per_second()},
          {"predicted_downtime_ms", ms(progress.predicted_downtime_us())},
          {"mtu", progress.mtu()},
          {"remarks", Json(progress.remarks())},
          {"seconds", progress.seconds()}};
}

Json to_json(const v1::MigrateSummary& summary) {
  const v1::Downtime& downtime = summary.downtime();
  Json document = {
      {"guest", summary.guest()},
      {"from", summary.from()},
      {"to", summary.to()},
      {"status", summary.status()},
      {"iterations", summary.iterations()},
      {"pages_sent", summary.pages_sent()},
      {"zero_pages", summary.zero_pages()},
      {"bytes_guest", summary.bytes_guest()},
      {"bytes_wire", summary.bytes_wire()},
      {"goodput_gbps", summary.goodput_gbps()},
      {"seconds", summary.seconds()},
      {"downtime_ms", ms(summary.downtime_us())},
      {"downtime",
       {{"stop", ms(downtime.stop_us())},
        {"final_scan", ms(downtime.final_scan_us())},
        {"final_copy", ms(downtime.final_copy_us())},
        {"proof", ms(downtime.proof_us())},
        {"state", ms(downtime.state_us())},
        {"resume", ms(downtime.resume_us())}}},
      {"proof",
       {{"extents", summary.proof_extents()},
        {"algorithm", summary.proof_algorithm()},
        {"match", summary.proof_match()},
        {"audited_pages", summary.proof_audited_pages()}}},
      {"mtu", summary.mtu()},
      {"encryption", summary.encryption()},
      {"frames_dropped", counts(summary.frames_dropped())},
      {"frames_sent", summary.frames_sent()},
      {"frames_lost", summary.frames_lost()},
      {"retransmitted_pages", summary.retransmitted_pages()},
      {"remarks", Json(summary.remarks())},
      {"busy_core_seconds",
       {{"from", summary.busy_core_seconds_from()}, {"to", summary.busy_core_seconds_to()}}}};
  if (summary.status() != "completed") document["error"] = summary.error();
  return document;
}

Json to_json(const v1::VerifyGuestResult& result) {
  return {
      {"pages", result.pages()}, {"mismatches", result.mismatches()}, {"writes", result.writes()}};
}

}  // namespace sluice::cli
