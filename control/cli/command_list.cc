// hosts, guests
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <future>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "control/cli/commands.h"
#include "control/cli/json_output.h"
#include "control/cli/quantity.h"
#include "control/cli/render_table.h"

namespace sluice::cli {
namespace {

// Hosts that did not answer are named beside the result; only if none did has the command failed.
template <typename Reply>
int report_silent(const std::vector<Answer<Reply>>& answers, const Terminal& terminal) {
  std::size_t silent = 0;
  for (const auto& [agent, reply] : answers) {
    if (reply) continue;
    ++silent;
    terminal.err << "sluice: " << reply.error().message << std::endl;
  }
  return silent == answers.size() ? kExitFailed : kExitDone;
}

template <typename Reply>
Json silent_json(const std::vector<Answer<Reply>>& answers) {
  Json list = Json::array();
  for (const auto& [agent, reply] : answers) {
    if (!reply) list.push_back({{"host", agent->host()}, {"error", reply.error().message}});
  }
  return list;
}

// What agents remark, each once with the hosts that it is about.
using Remarks = std::vector<std::pair<std::string, std::vector<std::string>>>;
void add_remark(Remarks& remarks, const std::string& host, const std::string& remark) {
  const auto same = std::find_if(remarks.begin(), remarks.end(),
                                 [&](const auto& other) { return other.first == remark; });
  if (same != remarks.end()) {
    same->second.push_back(host);
  } else {
    remarks.emplace_back(remark, std::vector{host});
  }
}

std::string remark_lines(const Remarks& remarks) {
  std::string lines;
  for (const auto& [remark, hosts] : remarks)
    lines += fmt::format("{}: {}\n", fmt::join(hosts, ", "), remark);
  return lines;
}

// By name; nothing without a controller that answers, whose silence hides nothing of the hosts.
using Service = std::map<std::string, v1::ClusterHost>;
Service service_of(const std::optional<Expected<v1::ClusterInfo>>& cluster,
                   const Terminal& terminal) {
  Service service;
  if (!cluster) return service;
  if (!*cluster) {
    terminal.err << "sluice: " << cluster->error().message << std::endl;
    return service;
  }
  for (const v1::ClusterHost& host : (*cluster)->hosts()) service[host.name()] = host;
  return service;
}

std::string service_text(const Service& service, const std::string& host) {
  const auto found = service.find(host);
  if (found == service.end()) return "unknown";
  if (found->second.quarantined()) return "quarantined";
  // As of one that obeys another controller.
  if (!found->second.reachable()) return "not heard by the controller";
  const std::string& by = found->second.cordoned_by();
  if (by.empty()) return "yes";
  return by == "operator" ? "cordoned" : "cordoned by run " + by;
}

Json to_json(const v1::HostInfo& host, const Service& service) {
  Json document = cli::to_json(host);
  if (const auto found = service.find(host.name()); found != service.end()) {
    document["cordoned_by"] = found->second.cordoned_by();
    document["quarantined"] = found->second.quarantined();
  }
  return document;
}

// "-": nobody has measured it yet.
std::string dirtied_text(const v1::GuestInfo& guest) {
  if (!guest.has_figures()) return "-";
  return format_bytes(guest.figures().dirty_bytes_per_second()) + "/s";
}

std::string working_set_text(const v1::GuestInfo& guest) {
  return guest.has_figures() ? format_bytes(guest.figures().working_set_bytes()) : "-";
}

}  // namespace

int list_hosts(Fleet& fleet, const Terminal& terminal) {
  std::future<Expected<v1::ClusterInfo>> asked;
  if (ControllerClient* const controller = fleet.controller())
    asked = std::async(std::launch::async, [controller] { return controller->get_cluster(); });
  const auto answers = fleet.hosts();
  std::optional<Expected<v1::ClusterInfo>> cluster;
  if (asked.valid()) cluster = asked.get();
  const Service service = service_of(cluster, terminal);
  if (terminal.json) {
    Json list = Json::array();
    for (const auto& [agent, reply] : answers) {
      if (reply) list.push_back(to_json(*reply, service));
    }
    terminal.out << Json{{"hosts", list}, {"unreachable", silent_json(answers)}}.dump()
                 << std::endl;
    return report_silent(answers, terminal);
  }
  std::vector<std::vector<std::string>> rows = {
      {"HOST", "GUESTS", "MEMORY", "USED", "PORT", "MTU", "CORES", "ADDRESS", "VERSION"}};
  if (!service.empty()) rows[0].insert(rows[0].begin() + 1, "IN SERVICE");
  Remarks remarks;
  for (const auto& [agent, reply] : answers) {
    if (!reply) continue;
    const v1::HostInfo& host = *reply;
    rows.push_back({host.name(), std::to_string(host.guests()), format_bytes(host.memory_bytes()),
                    format_bytes(host.memory_used_bytes()), host.port(), std::to_string(host.mtu()),
                    fmt::format("{}", fmt::join(host.worker_cores(), ",")), host.data_address(),
                    host.version()});
    if (!service.empty())
      rows.back().insert(rows.back().begin() + 1, service_text(service, host.name()));
    for (const std::string& remark : host.remarks()) add_remark(remarks, host.name(), remark);
  }
  if (rows.size() > 1) terminal.out << render_table(rows) << remark_lines(remarks) << std::flush;
  return report_silent(answers, terminal);
}

int list_guests(Fleet& fleet, const Terminal& terminal) {
  const auto answers = fleet.guests();
  if (terminal.json) {
    Json list = Json::array();
    for (const auto& [agent, reply] : answers) {
      if (!reply) continue;
      for (const v1::GuestInfo& guest : reply->guests()) list.push_back(to_json(guest));
    }
    terminal.out << Json{{"guests", list}, {"unreachable", silent_json(answers)}}.dump()
                 << std::endl;
    return report_silent(answers, terminal);
  }
  std::vector<std::vector<std::string>> rows = {
      {"GUEST", "HOST", "STATE", "MEMORY", "DIRTIED", "WORKING SET", "DRIVER", "PID", "MACHINE"}};
  for (const auto& [agent, reply] : answers) {
    if (!reply) continue;
    for (const v1::GuestInfo& guest : reply->guests()) {
      rows.push_back(
          {guest.name(), guest.host(),
           guest.moving_to().empty() ? guest.state() : guest.state() + " to " + guest.moving_to(),
           format_bytes(guest.memory_bytes()), dirtied_text(guest), working_set_text(guest),
           guest.driver(), std::to_string(guest.pid()), guest.machine_type()});
    }
  }
  if (rows.size() > 1) terminal.out << render_table(rows) << std::flush;
  if (rows.size() == 1 && !answers.empty()) {
    const int status = report_silent(answers, terminal);
    if (status == kExitDone) terminal.out << "no guests" << std::endl;
    return status;
  }
  return report_silent(answers, terminal);
}

}  // namespace sluice::cli
