// The documents of hosts in service, drains and patch runs.
#include "control/cli/json_output.h"

namespace sluice::cli {

Json to_json(const v1::ClusterHost& host) {
  return {{"name", host.name()},
          {"reachable", host.reachable()},
          {"cordoned_by", host.cordoned_by()},
          {"quarantined", host.quarantined()},
          {"boot_id", host.boot_id()},
          {"kernel", host.kernel()},
          {"memory_bytes", host.memory_bytes()},
          {"memory_used_bytes", host.memory_used_bytes()},
          {"guests", Json(host.guests())},
          {"hooks", Json(host.hooks())},
          {"labels", Json(host.labels())},
          {"link_bits_per_second", host.link_bits_per_second()},
          {"cpu_level", host.cpu_level()},
          {"package_version", host.package_version()},
          {"qemu_version", host.qemu_version()}};
}

Json to_json(const v1::Preview& preview) {
  Json hosts = Json::array();
  for (const v1::PreviewHost& host : preview.hosts()) {
    Json moves = Json::array();
    for (const v1::PreviewMove& move : host.moves()) {
      moves.push_back({{"guest", move.guest()},
                       {"from", move.from()},
                       {"to", move.to()},
                       {"start_s", move.start_seconds()},
                       {"end_s", move.start_seconds() + move.seconds()},
                       {"low_s", move.low_seconds()},
                       {"high_s", move.high_seconds()},
                       {"memory_bytes", move.memory_bytes()}});
    }
    Json document = {{"host", host.host()},
                     {"estimate_s", host.seconds()},
                     {"estimate_low_s", host.low_seconds()},
                     {"estimate_high_s", host.high_seconds()},
                     {"bound_s", host.bound_seconds()},
                     {"bound_reason", host.bound_reason()},
                     {"moves", std::move(moves)},
                     {"shut_down", Json(host.shut_down())}};
    if (host.wave() != 0) document["wave"] = host.wave();
    hosts.push_back(std::move(document));
  }
  return {{"drain_only", preview.drain_only()},
          {"begins", preview.begins()},
          {"one_way", preview.one_way()},
          {"estimate_s", preview.seconds()},
          {"estimate_low_s", preview.low_seconds()},
          {"estimate_high_s", preview.high_seconds()},
          {"bound_s", preview.bound_seconds()},
          {"hosts_at_once", preview.hosts_at_once()},
          {"patch_s", preview.patch_seconds()},
          {"patch_s_from", preview.patch_seconds_from()},
          {"hosts", std::move(hosts)}};
}

Json to_json(const v1::TaskStatus& task) {
  Json document = {
      {"id", task.id()},           {"action", task.action()}, {"purpose", task.purpose()},
      {"host", task.host()},       {"state", task.state()},   {"attempt", task.attempt()},
      {"seconds", task.seconds()}, {"detail", task.detail()}, {"reason", task.reason()}};
  if (!task.guest().empty()) document["guest"] = task.guest();
  if (task.action() == "migrate") {
    document["from"] = task.from();
    document["to"] = task.to();
    document["downtime_ms"] = task.downtime_ms();
    document["expected_s"] = task.expected_seconds();
    document["goodput_gbps"] = task.goodput_gbps();
  }
  return document;
}

Json to_json(const v1::RunStatus& run) {
  Json hosts = Json::array();
  for (const v1::HostRunStatus& host : run.hosts()) {
    hosts.push_back({{"host", host.host()},
                     {"state", host.state()},
                     {"since_ms", host.since_ms()},
                     {"failure", host.failure()},
                     {"waits_for", host.waits_for()},
                     {"guests_before", host.guests_before()},
                     {"guests_now", host.guests_now()}});
  }
  Json tasks = Json::array();
  for (const v1::TaskStatus& task : run.tasks()) tasks.push_back(to_json(task));
  Json left;
  if (run.has_left()) {
    left = {{"migrations", run.left().migrations()},
            {"estimate_s", run.left().seconds()},
            {"low_s", run.left().low_seconds()},
            {"high_s", run.left().high_seconds()}};
  }
  return {{"run", run.run()},
          {"name", run.name()},
          {"status", run.state()},
          {"reason", run.reason()},
          {"waits_for", run.waits_for()},
          {"begun_by", run.begun_by()},
          {"drain_only", run.drain_only()},
          {"begun_ms", run.begun_ms()},
          {"ended_ms", run.ended_ms()},
          {"failures", run.failures()},
          {"at_rest", run.at_rest()},
          {"left", std::move(left)},
          {"hosts", std::move(hosts)},
          {"tasks", std::move(tasks)}};
}

Json event_json(const v1::RunStatus& run) {
  Json document = {{"event", "status"}};
  document.update(to_json(run));
  return document;
}

}  // namespace sluice::cli
