#include "control/model/inventory.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "control/model/table_reader.h"
#include "dataplane/base/parse_size.h"

namespace sluice::model {
namespace {

using planner::Cluster;
using planner::Group;
using planner::Guest;
using planner::Host;
using planner::HostId;
using planner::LinkId;
using planner::Policy;
using planner::Rule;

constexpr std::string_view kSize = "a size such as \"512M\" or \"4G\"";
constexpr std::string_view kQemu = "a version of QEMU such as \"8.2\"";
constexpr std::string_view kRate = "a rate such as \"9.3Gbit\" or \"500Mbit\"";
constexpr std::uint32_t kCountMax = 100'000;

std::optional<Policy> parse_policy(std::string_view text) {
  if (text == "live") return Policy::kLive;
  if (text == "quick") return Policy::kQuick;
  if (text == "shutdown") return Policy::kShutdown;
  if (text == "never") return Policy::kNever;
  return std::nullopt;
}

std::optional<Rule> parse_rule(std::string_view text) {
  if (text == "together") return Rule::kTogether;
  if (text == "apart") return Rule::kApartHosts;
  if (text == "apart-domains") return Rule::kApartDomains;
  if (text == "budget") return Rule::kBudgetOnly;
  return std::nullopt;
}

class InventoryReader {
 public:
  explicit InventoryReader(const std::string& source) : source_(source) {}

  Expected<Cluster> read(const toml::table& root) {
    TableReader reader(root, source_, "", error_);
    reader.refuse_unknown({"network", "hosts", "groups", "guests"});
    if (const toml::node* const network = root.get("network")) {
      if (const toml::table* const table = network->as_table()) {
        read_network(*table);
      } else {
        reader.complain(network->source(), "network must be a table");
      }
    }
    each(reader, "hosts", true, [&](const toml::table& table) { read_hosts(table); });
    each(reader, "groups", false, [&](const toml::table& table) { read_group(table); });
    each(reader, "guests", false, [&](const toml::table& table) { read_guests(table); });
    if (error_) return tl::unexpected(*error_);
    if (auto valid = planner::validate(cluster_); !valid)
      return fail(ErrorKind::kInvalid, source_ + ": " + valid.error().message);
    return std::move(cluster_);
  }

 private:
  template <typename Visit>
  void each(TableReader& reader, std::string_view key, bool required, Visit visit) {
    reader.array(key, required, [&](const toml::node& node) {
      if (const toml::table* const table = node.as_table()) {
        visit(*table);
      } else {
        reader.complain(node.source(), fmt::format("every element of {} must be a table", key));
      }
    });
  }

  void flag(TableReader& reader, std::string_view key, bool& out) {
    const toml::node* const node = reader.table().get(key);
    if (node == nullptr || error_) return;
    const auto value = node->value_exact<bool>();
    if (!value) reader.complain(node->source(), fmt::format("{} must be true or false", key));
    out = value.value_or(false);
  }

  void read_network(const toml::table& table) {
    TableReader reader(table, source_, "network.", error_);
    reader.refuse_unknown({"share_percent", "session"});
    reader.integer("share_percent", share_percent_, 1, 100);
    reader.parsed("session", cluster_.session_bytes_per_second, kRate, parse_bit_rate);
  }

  LinkId add_link(std::string name, std::uint64_t bytes_per_second) {
    cluster_.links.push_back(
        {std::move(name), std::max<std::uint64_t>(bytes_per_second * share_percent_ / 100, 1)});
    return static_cast<LinkId>(cluster_.links.size() - 1);
  }

  void read_hosts(const toml::table& table) {
    TableReader reader(table, source_, "hosts.", error_);
    reader.refuse_unknown({"name", "count", "memory", "reserve", "guest_overhead", "cores",
                           "cpu_level", "qemu", "numa_nodes", "domain", "domain_hosts",
                           "maintenance", "link", "uplink"});
    Host host;
    std::uint32_t count = 0;
    std::uint32_t numa_nodes = 0;
    std::uint32_t domain_hosts = 0;
    std::string domain;
    std::uint64_t link = 0;
    std::uint64_t uplink = 0;
    host.cores = kCountMax;  // not said: memory is what limits
    reader.text("name", host.name, true);
    reader.integer("count", count, 1, kCountMax);
    reader.parsed("memory", host.memory_bytes, kSize, parse_bytes, true);
    reader.parsed("reserve", host.reserve_bytes, kSize, parse_bytes);
    reader.parsed("guest_overhead", host.guest_overhead_bytes, kSize, parse_bytes);
    reader.integer("cores", host.cores, 1, kCountMax);
    reader.integer("cpu_level", host.cpu_level, 0, 1000);
    reader.parsed("qemu", host.qemu_series, kQemu, planner::parse_qemu_series);
    reader.integer("numa_nodes", numa_nodes, 1, 64);
    reader.text("domain", domain);
    reader.integer("domain_hosts", domain_hosts, 1, kCountMax);
    flag(reader, "maintenance", host.maintenance);
    reader.parsed("link", link, kRate, parse_bit_rate, true);
    reader.parsed("uplink", uplink, kRate, parse_bit_rate);
    if (error_) return;
    for (std::uint32_t node = 0; node < numa_nodes; ++node)
      host.numa_nodes.push_back({host.memory_bytes / numa_nodes, host.cores / numa_nodes});
    const std::string name = host.name;
    for (std::uint32_t i = 0; i < std::max(count, 1U); ++i) {
      if (count > 0) host.name = name + std::to_string(i + 1);
      std::string in = domain.empty() ? host.name : domain;
      if (domain_hosts > 0)
        in = (domain.empty() ? name : domain) + "-" + std::to_string(i / domain_hosts + 1);
      if (!enter_domain(host, in, uplink)) {
        reader.complain(table.get("uplink")->source(),
                        fmt::format("the domain {} has another uplink already; give both the same "
                                    "or leave one out",
                                    in));
        return;
      }
      host.transmit = add_link(host.name + " transmit", link);
      host.receive = add_link(host.name + " receive", link);
      hosts_of_[name].push_back(static_cast<HostId>(cluster_.hosts.size()));
      if (count > 0) hosts_of_[host.name].push_back(static_cast<HostId>(cluster_.hosts.size()));
      cluster_.hosts.push_back(host);
    }
  }

  // A domain with an uplink is a switch of its own under a root that does not block. False: it has
  // another one.
  bool enter_domain(Host& host, const std::string& domain, std::uint64_t uplink) {
    const auto [entry, fresh] =
        domains_.try_emplace(domain, static_cast<std::uint32_t>(domains_.size()));
    host.failure_domain = entry->second;
    if (fresh) cluster_.domain_names.push_back(domain);
    if (uplink == 0) {
      host.attached_to = root();
      return true;
    }
    const auto known = switches_.find(domain);
    if (known != switches_.end()) {
      host.attached_to = known->second;
      return uplinks_.at(domain) == uplink;
    }
    const planner::SwitchId parent = root();
    const LinkId up = add_link(domain + " up", uplink);
    const LinkId down = add_link(domain + " down", uplink);
    host.attached_to = static_cast<planner::SwitchId>(cluster_.switches.size());
    cluster_.switches.push_back({domain, parent, up, down});
    switches_.emplace(domain, host.attached_to);
    uplinks_.emplace(domain, uplink);
    return true;
  }

  planner::SwitchId root() {
    if (cluster_.switches.empty()) cluster_.switches.push_back({.name = "core"});
    return 0;
  }

  void read_group(const toml::table& table) {
    TableReader reader(table, source_, "groups.", error_);
    reader.refuse_unknown({"name", "rule", "limit", "moving_max"});
    Group group;
    reader.text("name", group.name, true);
    reader.parsed("rule", group.rule, "together, apart, apart-domains or budget", parse_rule, true);
    reader.integer("limit", group.limit, 1, kCountMax);
    reader.integer("moving_max", group.moving_max, 1, kCountMax);
    if (error_) return;
    groups_.emplace(group.name, static_cast<planner::GroupId>(cluster_.groups.size()));
    cluster_.groups.push_back(std::move(group));
  }

  void read_guests(const toml::table& table) {
    TableReader reader(table, source_, "guests.", error_);
    reader.refuse_unknown({"name", "count", "on", "memory", "populated", "dirty_rate",
                           "working_set", "working_set_ms", "cores", "cpu_level",
                           "cpu_level_from_host", "qemu", "one_numa_node", "policy", "groups"});
    Guest guest;
    std::uint32_t count = 0;
    std::string on;
    guest.cores = 1;
    reader.text("name", guest.name, true);
    reader.integer("count", count, 1, kCountMax);
    reader.text("on", on, true);
    reader.parsed("memory", guest.memory_bytes, kSize, parse_bytes, true);
    guest.populated_bytes = guest.memory_bytes;
    reader.parsed("populated", guest.populated_bytes, kSize, parse_bytes);
    reader.parsed("dirty_rate", guest.dirty_bytes_per_second, kSize, parse_bytes);
    reader.parsed("working_set", guest.working_set_bytes, kSize, parse_bytes);
    reader.integer("working_set_ms", guest.working_set_ms, 1, 86'400'000);
    reader.integer("cores", guest.cores, 0, kCountMax);
    reader.integer("cpu_level", guest.cpu_level, 0, 1000);
    flag(reader, "cpu_level_from_host", guest.cpu_level_from_host);
    reader.parsed("qemu", guest.qemu_series, kQemu, planner::parse_qemu_series);
    flag(reader, "one_numa_node", guest.one_numa_node);
    reader.parsed("policy", guest.policy, "live, quick, shutdown or never", parse_policy);
    reader.array("groups", false, [&](const toml::node& node) {
      const auto group = groups_.find(node.value_exact<std::string>().value_or(""));
      if (group == groups_.end()) {
        reader.complain(node.source(), "there is no such group; add it as [[groups]]");
      } else if (std::find(guest.groups.begin(), guest.groups.end(), group->second) ==
                 guest.groups.end()) {
        guest.groups.push_back(group->second);
      }
    });
    if (error_) return;
    const auto hosts = hosts_of_.find(on);
    if (hosts == hosts_of_.end()) {
      reader.complain(table.get("on")->source(),
                      fmt::format("there is no host {}; add it as [[hosts]]", on));
      return;
    }
    add_guests(guest, hosts->second, count);
  }

  void add_guests(Guest guest, const std::vector<HostId>& hosts, std::uint32_t count) {
    const std::string name = guest.name;
    const bool numbered = count > 0 || hosts.size() > 1;
    const bool of_its_host = guest.qemu_series == 0;
    for (const HostId host : hosts) {
      for (std::uint32_t i = 0; i < std::max(count, 1U); ++i) {
        if (numbered) guest.name = name + std::to_string(++guests_of_[name]);
        guest.host = host;
        if (of_its_host) guest.qemu_series = cluster_.hosts[host].qemu_series;
        guest.numa_node = kNoNode;
        if (guest.one_numa_node) guest.numa_node = roomiest_node(host, guest);
        cluster_.guests.push_back(guest);
      }
    }
  }

  // An inventory does not say on which node a guest is: the one with the most room left is as good
  // as any.
  std::uint32_t roomiest_node(HostId host, const Guest& guest) {
    const auto& nodes = cluster_.hosts[host].numa_nodes;
    if (nodes.empty()) return kNoNode;
    auto& used_bytes = used_node_bytes_[host];
    used_bytes.resize(nodes.size());
    const auto least = std::min_element(used_bytes.begin(), used_bytes.end());
    *least += guest.memory_bytes;
    return static_cast<std::uint32_t>(least - used_bytes.begin());
  }

  static constexpr std::uint32_t kNoNode = planner::kNone;

  const std::string& source_;
  std::optional<Error> error_;
  Cluster cluster_;
  std::uint64_t share_percent_ = 100;
  std::map<std::string, std::vector<HostId>>
      hosts_of_;  // by the name of a host or of an entry with a count
  std::map<std::string, std::uint32_t> domains_;
  std::map<std::string, planner::SwitchId> switches_;
  std::map<std::string, std::uint64_t> uplinks_;  // of the same domains, bytes per second
  std::map<std::string, planner::GroupId> groups_;
  std::map<std::string, std::uint64_t> guests_of_;  // numbered so far
  std::map<HostId, std::vector<std::uint64_t>> used_node_bytes_;
};

}  // namespace

std::optional<std::uint64_t> parse_bit_rate(std::string_view text) {
  double number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc{}) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double scale = unit == "Gbit" ? 1e9 : unit == "Mbit" ? 1e6 : 0;
  const double bytes = number * scale / 8;
  if (!(bytes >= 1 && bytes <= 1e15)) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

Expected<planner::Cluster> parse_inventory(std::string_view text, const std::string& source) {
  const auto table = parse_toml(text, source);
  if (!table) return tl::unexpected(table.error());
  return InventoryReader(source).read(*table);
}

}  // namespace sluice::model
