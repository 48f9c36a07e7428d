#include "control/controller/config.h"

#include <fmt/format.h>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "control/model/table_reader.h"
#include "dataplane/base/parse_size.h"

namespace sluice::controller {
namespace {

using model::TableReader;

std::optional<patch::GuestPolicy> parse_policy(std::string_view text) {
  if (text == "live") return patch::GuestPolicy::kLive;
  if (text == "quick") return patch::GuestPolicy::kQuick;
  if (text == "shutdown") return patch::GuestPolicy::kShutdown;
  if (text == "never") return patch::GuestPolicy::kNever;
  return std::nullopt;
}

std::optional<planner::Rule> parse_rule(std::string_view text) {
  if (text == "apart") return planner::Rule::kApartHosts;
  if (text == "apart-domains") return planner::Rule::kApartDomains;
  if (text == "together") return planner::Rule::kTogether;
  if (text == "budget") return planner::Rule::kBudgetOnly;
  return std::nullopt;
}

// Calls read(name, TableReader&) for every table in the table `key`.
template <typename Read>
void each_table(TableReader& root, std::string_view key, Read read) {
  root.subtable(key, [&](TableReader& tables) {
    for (const auto& entry : tables.table()) {
      const std::string name(entry.first.str());
      tables.subtable(name, [&](TableReader& table) { read(name, table); });
    }
  });
}

void read_hosts(TableReader& root, Config& config) {
  if (!root.table().contains("hosts")) {
    return root.complain(
        root.table().source(),
        "the table [hosts] is missing, with lines such as h1 = \"192.0.2.1:7400\"");
  }
  root.subtable("hosts", [&](TableReader& hosts) {
    if (hosts.table().empty()) {
      return hosts.complain(
          hosts.table().source(),
          "the table [hosts] is empty; it needs lines such as h1 = \"192.0.2.1:7400\"");
    }
    for (const auto& [name, node] : hosts.table()) {
      std::string address;
      hosts.text(name.str(), address, true);
      config.hosts.push_back({std::string(name.str()), address});
    }
  });
}

// What stands in `list` of `table`: names of guests or hosts.
std::vector<std::string> read_names(TableReader& table, std::string_view list) {
  std::vector<std::string> names;
  table.array(list, true, [&](const toml::node& name) {
    names.push_back(name.value_exact<std::string>().value_or(""));
    if (names.back().empty())
      table.complain(name.source(), fmt::format("{} must hold names in quotes", list));
  });
  return names;
}

void read_domains(TableReader& root, Config& config) {
  root.subtable("domains", [&](TableReader& domains) {
    std::uint32_t number = 0;
    for (const auto& [domain, node] : domains.table()) {
      for (const auto& host : read_names(domains, domain.str())) {
        const bool known = std::any_of(config.hosts.begin(), config.hosts.end(),
                                       [&](const auto& other) { return other.name == host; });
        if (!known || !config.failure_domains.emplace(host, number).second) {
          domains.complain(node.source(),
                           fmt::format("domains.{}: {} is not a host of [hosts], or is in two "
                                       "domains",
                                       std::string_view(domain.str()), host));
        }
      }
      ++number;
    }
  });
}

void read_labels(TableReader& root, Config& config) {
  each_table(root, "labels", [&](const std::string& host, TableReader& labels) {
    const bool known = std::any_of(config.hosts.begin(), config.hosts.end(),
                                   [&](const auto& other) { return other.name == host; });
    if (!known) {
      labels.complain(labels.table().source(),
                      fmt::format("labels.{}: there is no such host in [hosts]", host));
    }
    for (const auto& [key, node] : labels.table())
      labels.text(key.str(), config.labels[host][std::string(key.str())], true);
  });
}

void read_guests(TableReader& root, Config& config) {
  each_table(root, "guests", [&](const std::string& name, TableReader& guest) {
    guest.refuse_unknown({"policy"});
    guest.parsed("policy", config.policies[name], "live, quick, shutdown or never", parse_policy,
                 true);
  });
  each_table(root, "groups", [&](const std::string& name, TableReader& table) {
    table.refuse_unknown({"rule", "guests", "limit", "moving_max"});
    GroupConfig group;
    group.group.name = name;
    table.parsed("rule", group.group.rule, "apart, apart-domains, together or budget", parse_rule,
                 true);
    table.integer("limit", group.group.limit, 1, 1'000'000);
    table.integer("moving_max", group.group.moving_max, 0, 1'000'000);
    group.guests = read_names(table, "guests");
    config.groups.push_back(std::move(group));
  });
}

}  // namespace

Expected<Config> parse_config(std::string_view text, const std::string& source) {
  const auto parsed = model::parse_toml(text, source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  Config config;
  std::optional<Error> error;
  TableReader root(*parsed, source, "", error);
  root.refuse_unknown({"name", "listen", "journal", "state_dir", "hooks_dir", "hosts", "security",
                       "placement", "guests", "groups", "domains", "labels"});
  root.text("name", config.name, true);
  root.array("listen", true, [&](const toml::node& node) {
    config.listen.push_back(node.value_exact<std::string>().value_or(""));
    if (config.listen.back().empty())
      root.complain(node.source(), "listen must hold addresses such as \"192.0.2.9:7500\"");
  });
  root.text("journal", config.journal);
  root.text("state_dir", config.state_dir);
  root.text("hooks_dir", config.hooks_dir);
  read_hosts(root, config);
  read_domains(root, config);
  read_labels(root, config);
  root.subtable("placement", [&](TableReader& reader) {
    reader.refuse_unknown({"reserve", "guest_overhead"});
    reader.parsed("reserve", config.reserve_bytes, "a size as in \"1G\"", parse_bytes);
    reader.parsed("guest_overhead", config.guest_overhead_bytes, "a size as in \"64M\"",
                  parse_bytes);
  });
  read_guests(root, config);
  if (error) return tl::unexpected<Error>(*error);
  auto security = security::read_security(parsed->get("security"), source);
  if (!security) return tl::unexpected<Error>(security.error());
  config.security = std::move(*security);
  return config;
}

Expected<Config> load_config(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(ErrorKind::kNotFound, path + " cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_config(text.str(), path);
}

}  // namespace sluice::controller
