// doctor: what an operator should know of hosts and of the paths between them
#include <fmt/format.h>
#include <utility>

#include "control/cli/commands.h"
#include "control/cli/json_output.h"

namespace sluice::cli {
namespace {

struct Host {
  AgentClient* agent;
  Expected<v1::HostInfo> info;
};

struct Path {
  std::string from;
  std::string to;
  Expected<v1::PathReport> report;
};

Path check(AgentClient& from, const std::string& to) {
  return {from.host(), to, from.check_path(to)};
}

bool is_good(const Path& path) { return path.report && path.report->remark().empty(); }

std::string text_of(const Host& host) {
  if (!host.info) return fmt::format("{}: {}\n", host.agent->host(), host.info.error().message);
  const v1::HostInfo& info = *host.info;
  std::string text =
      fmt::format("{}: {} ({}), {}, MTU {}, queues: {}\n", info.name(), info.port(),
                  info.port_driver(), info.data_address(), info.mtu(), info.queues());
  for (const std::string& remark : info.remarks()) text += fmt::format("  {}\n", remark);
  return text;
}

std::string text_of(const Path& path) {
  const std::string way = path.from + " -> " + path.to;
  if (!path.report) return fmt::format("{}: {}\n", way, path.report.error().message);
  const v1::PathReport& report = *path.report;
  const std::string found =
      report.remark().empty()
          ? fmt::format("frames of {} arrive, as configured", report.configured_mtu())
          : report.remark();
  const std::string round_trip =
      report.round_trip_us() == 0 ? ""
                                  : fmt::format("; round trip {:.2f} ms",
                                                static_cast<double>(report.round_trip_us()) / 1e3);
  std::string text = fmt::format("{}: {}{}\n", way, found, round_trip);
  if (!is_good(path)) {
    text += fmt::format(
        "  migrations go in frames of {} until every switch port on the way forwards {}, which is "
        "{} "
        "with\n  Ethernet's header and a VLAN tag; if that is not to be had, set dataplane.mtu = "
        "{} on "
        "{} or {}\n",
        report.mtu(), report.configured_mtu(), report.configured_mtu() + 18, report.mtu(),
        path.from, path.to);
  }
  return text;
}

Json to_json(const Host& host) {
  if (host.info) return cli::to_json(*host.info);
  return {{"name", host.agent->host()}, {"error", host.info.error().message}};
}

Json to_json(const Path& path) {
  if (!path.report)
    return {{"from", path.from}, {"to", path.to}, {"error", path.report.error().message}};
  const v1::PathReport& report = *path.report;
  return {{"from", path.from},
          {"to", path.to},
          {"mtu", report.mtu()},
          {"configured_mtu", report.configured_mtu()},
          {"round_trip_ms", static_cast<double>(report.round_trip_us()) / 1e3},
          {"remark", report.remark()}};
}

// All of them but `peer`, or the one that is named.
Expected<std::vector<Host>> hosts_to_look_at(Fleet& fleet, const DoctorOptions& options) {
  std::vector<Host> hosts;
  if (!options.on.empty()) {
    const auto agent = fleet.host(options.on);
    if (!agent) return tl::unexpected<Error>(agent.error());
    hosts.push_back({*agent, (*agent)->get_host()});
    return hosts;
  }
  for (auto& [agent, reply] : fleet.hosts()) {
    if (agent->host() != options.peer) hosts.push_back({agent, std::move(reply)});
  }
  return hosts;
}

}  // namespace

int examine(Fleet& fleet, const Terminal& terminal, const DoctorOptions& options) {
  auto hosts = hosts_to_look_at(fleet, options);
  if (!hosts) return terminal.fail(hosts.error());
  std::vector<Path> paths;
  if (!options.peer.empty()) {
    const auto peer = fleet.host(options.peer);
    if (!peer) return terminal.fail(peer.error());
    // One after the other: two checks of one link would disturb each other's round trips.
    for (const Host& host : *hosts) {
      if (!host.info) continue;
      paths.push_back(check(*host.agent, options.peer));
      paths.push_back(check(**peer, host.agent->host()));
    }
    hosts->push_back({*peer, (*peer)->get_host()});
  }
  bool all_good = true;
  Json document = {{"hosts", Json::array()}, {"paths", Json::array()}};
  std::string text;
  for (const Host& host : *hosts) {
    all_good = all_good && host.info.has_value();
    text += text_of(host);
    document["hosts"].push_back(to_json(host));
  }
  for (const Path& path : paths) {
    all_good = all_good && is_good(path);
    text += text_of(path);
    document["paths"].push_back(to_json(path));
  }
  terminal.out << (terminal.json ? document.dump() + "\n" : text) << std::flush;
  return all_good ? kExitDone : kExitFailed;
}

}  // namespace sluice::cli
