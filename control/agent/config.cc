#include "control/agent/config.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <fmt/format.h>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <netinet/in.h>
#include <optional>
#include <sstream>
#include <toml++/toml.h>
#include <utility>

#include "control/agent/flow_plan.h"
#include "control/model/table_reader.h"
#include "dataplane/base/parse_size.h"

namespace sluice::agent {
namespace {

using model::TableReader;

// What is left is for heartbeats and whatever else shares the link.
constexpr double kShareDefault = 0.9;

// "10G" bits a second: network rates are decimal.
std::optional<std::uint64_t> parse_bit_rate(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc{}) return std::nullopt;
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  std::uint64_t factor = 1;
  if (suffix == "K") {
    factor = 1'000;
  } else if (suffix == "M") {
    factor = 1'000'000;
  } else if (suffix == "G") {
    factor = 1'000'000'000;
  } else if (!suffix.empty()) {
    return std::nullopt;
  }
  if (number > std::numeric_limits<std::uint64_t>::max() / factor) return std::nullopt;
  return number * factor;
}

std::optional<dpdk::Hugepages> parse_hugepages(std::string_view text) {
  if (text == "auto") return dpdk::Hugepages::kAuto;
  if (text == "yes") return dpdk::Hugepages::kYes;
  if (text == "no") return dpdk::Hugepages::kNo;
  return std::nullopt;
}

enum class ListenKind : std::uint8_t { kMalformed = 1, kWildcard, kGood };

// Only literal addresses: a name, or one of gRPC's own URI schemes, could mean every network.
ListenKind kind_of_listen(const std::string& text) {
  if (text.starts_with("unix:"))
    return text.size() > 5 ? ListenKind::kGood : ListenKind::kMalformed;
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return ListenKind::kMalformed;
  unsigned port = 0;
  const auto [end, status] =
      std::from_chars(text.data() + colon + 1, text.data() + text.size(), port);
  if (status != std::errc{} || end != text.data() + text.size() || port == 0 || port > 65'535)
    return ListenKind::kMalformed;
  std::string host = text.substr(0, colon);
  if (host.empty() || host == "*") return ListenKind::kWildcard;
  in_addr ipv4{};
  if (inet_pton(AF_INET, host.c_str(), &ipv4) == 1)
    return ipv4.s_addr == INADDR_ANY ? ListenKind::kWildcard : ListenKind::kGood;
  in6_addr ipv6{};
  if (host.size() < 2 || host.front() != '[' || host.back() != ']') return ListenKind::kMalformed;
  host = host.substr(1, host.size() - 2);
  if (inet_pton(AF_INET6, host.c_str(), &ipv6) != 1) return ListenKind::kMalformed;
  std::array<unsigned char, 4> mapped{};
  std::copy_n(std::begin(ipv6.s6_addr) + 12, 4, mapped.begin());
  const bool zero_mapped = IN6_IS_ADDR_V4MAPPED(&ipv6) && mapped == std::array<unsigned char, 4>{};
  return IN6_IS_ADDR_UNSPECIFIED(&ipv6) || zero_mapped ? ListenKind::kWildcard : ListenKind::kGood;
}

void read_listen(TableReader& reader, Config& config) {
  reader.array("listen", true, [&](const toml::node& node) {
    const auto value = node.value_exact<std::string>();
    const auto kind = value ? kind_of_listen(*value) : ListenKind::kMalformed;
    if (kind == ListenKind::kMalformed) {
      reader.complain(
          node.source(),
          "listen must hold \"unix:PATH\", \"192.0.2.1:PORT\" or \"[2001:db8::1]:PORT\"");
    } else if (kind == ListenKind::kWildcard) {
      reader.complain(node.source(),
                      fmt::format("listen = \"{}\" means every network of this host; "
                                  "name the address to listen on",
                                  *value));
    } else {
      config.listen.push_back(*value);
    }
  });
}

void read_peers(const toml::node* node, TableReader& root, Config& config) {
  if (node == nullptr) return;
  const auto* peers = node->as_table();
  if (peers == nullptr) return root.complain(node->source(), "peers must be a table");
  for (const auto& [host, address] : *peers) {
    const auto value = address.value_exact<std::string>();
    if (!value || value->find(':') == std::string::npos) {
      return root.complain(address.source(),
                           fmt::format("peers.{} must be \"ADDRESS:PORT\"", host.str()));
    }
    config.peers.emplace(host.str(), *value);
  }
}

// What migrations may take of the link: `rate` is the link's, or what it carries for this host.
void read_cap(const toml::table& table, TableReader& reader, dpdk::DataPlaneConfig& out) {
  std::uint64_t rate = 0;
  double share = kShareDefault;
  reader.parsed("rate", rate, "bits a second as in \"10G\"", parse_bit_rate);
  reader.positive("share", share, 1);
  if (const auto* node = table.get("share"); node != nullptr && rate == 0) {
    reader.complain(node->source(),
                    "dataplane.share is a share of dataplane.rate, which is not given");
  }
  out.cap_bits_per_second = static_cast<std::uint64_t>(static_cast<double>(rate) * share);
}

void read_neighbours(const toml::node* node, TableReader& root, Config& config) {
  if (node == nullptr) return;
  const auto* neighbours = node->as_table();
  if (neighbours == nullptr) return root.complain(node->source(), "neighbours must be a table");
  for (const auto& [key, value] : *neighbours) {
    const auto address = wire::parse_ip(key.str());
    if (!address || !address->is_specified() || address->is_multicast()) {
      return root.complain(
          key.source(),
          fmt::format("neighbours.\"{}\": the key must be a host's IPv4 or IPv6 address",
                      key.str()));
    }
    const auto text = value.value_exact<std::string>();
    const auto mac = text ? wire::parse_mac(*text) : std::nullopt;
    if (!mac || !wire::is_unicast(*mac)) {
      return root.complain(value.source(),
                           fmt::format("neighbours.\"{}\" must be the MAC address of one host, as "
                                       "in \"02:00:5e:00:00:01\"",
                                       key.str()));
    }
    config.data_plane.neighbours.emplace(*address, *mac);
  }
}

void read_data_plane(const toml::node* node, TableReader& root, const std::string& source,
                     std::optional<Error>& error, Config& config) {
  const auto* table = node == nullptr ? nullptr : node->as_table();
  if (table == nullptr)
    return root.complain(root.table().source(), "the table [dataplane] is missing");
  TableReader reader(*table, source, "dataplane.", error);
  auto& out = config.data_plane;
  reader.refuse_unknown({"port", "role", "address", "gateway", "mtu", "queues", "rate", "share",
                         "dscp", "hugepages", "memory", "workers", "udp_port"});
  reader.text("port", out.port, true);
  reader.parsed("role", out.memif_server, "\"server\" or \"client\"",
                [](std::string_view text) -> std::optional<bool> {
                  if (text == "server") return true;
                  if (text == "client") return false;
                  return std::nullopt;
                });
  reader.parsed("address", out.address,
                "an IPv4 or IPv6 address with prefix length, as in \"198.51.100.1/24\"",
                wire::parse_prefix, true);
  reader.parsed("gateway", out.gateway, "an IPv4 or IPv6 address", wire::parse_ip);
  if (!error && out.gateway &&
      (!out.address.contains(*out.gateway) || *out.gateway == out.address.address)) {
    reader.complain(table->get("gateway")->source(),
                    fmt::format("dataplane.gateway = \"{}\" must be another host of the network of "
                                "dataplane.address, {}/{}",
                                wire::to_string(*out.gateway), wire::to_string(out.address.address),
                                out.address.length));
  }
  reader.integer("mtu", out.mtu, wire::kMtuMin, dpdk::kPortMtuMax);
  reader.integer("queues", out.queues, 1, kQueuesMax);
  reader.integer("udp_port", out.udp_port, 1, 65'000);
  reader.integer("dscp", config.dscp, 0, 63);
  read_cap(*table, reader, out);
  reader.parsed("hugepages", out.hugepages, "\"auto\", \"yes\" or \"no\"", parse_hugepages);
  reader.parsed("memory", out.memory_bytes, "a size as in \"256M\"", parse_bytes);
  reader.array("workers", false, [&](const toml::node& core) {
    const auto value = core.value_exact<std::int64_t>();
    if (value && *value >= 0 && *value < 4096) {
      out.cores.push_back(static_cast<unsigned>(*value));
    } else {
      reader.complain(core.source(), "dataplane.workers must hold numbers of cores");
    }
  });
  if (!error && !out.cores.empty() && out.cores.size() != out.queues) {
    reader.complain(
        table->source(),
        fmt::format("dataplane.workers names {} cores for {} queues; one each is needed",
                    out.cores.size(), out.queues));
  }
}

void read_test(const toml::node* node, TableReader& root, const std::string& source,
               std::optional<Error>& error, Config& config) {
  if (node == nullptr) return;
  const auto* table = node->as_table();
  if (table == nullptr) return root.complain(node->source(), "test must be a table");
  TableReader reader(*table, source, "test.", error);
  reader.refuse_unknown({"hold_dir", "boot_id_file"});
  reader.text("boot_id_file", config.boot_id_file);
  reader.text("hold_dir", config.hold_dir);
  if (!error && !config.hold_dir.empty() && config.hold_dir.front() != '/')
    reader.complain(table->get("hold_dir")->source(), "test.hold_dir must be an absolute path");
}

void read_qemu(TableReader& root, std::optional<Error>& error, Config& config) {
  root.subtable("qemu", [&](TableReader& reader) {
    reader.refuse_unknown({"binaries", "arrivals_may_run_programs"});
    reader.boolean("arrivals_may_run_programs", config.qemu.arrivals_may_run_programs);
    if (!reader.table().contains("binaries")) return;
    config.qemu.binaries.clear();
    reader.array("binaries", true, [&](const toml::node& node) {
      config.qemu.binaries.push_back(node.value_exact<std::string>().value_or(""));
      if (!error && !config.qemu.binaries.back().starts_with("/"))
        reader.complain(node.source(), "qemu.binaries must hold absolute paths");
    });
  });
}

void read_patching(TableReader& root, std::optional<Error>& error, Config& config) {
  root.subtable("patching", [&](TableReader& reader) {
    reader.refuse_unknown({"state_dir", "hooks_dir", "reboot_command"});
    reader.text("state_dir", config.state_dir);
    reader.text("hooks_dir", config.hooks_dir);
    if (!reader.table().contains("reboot_command")) return;
    config.reboot_command.clear();
    reader.array("reboot_command", true, [&](const toml::node& node) {
      config.reboot_command.push_back(node.value_exact<std::string>().value_or(""));
    });
    if (!error && config.reboot_command.front().substr(0, 1) != "/") {
      reader.complain(reader.table().get("reboot_command")->source(),
                      "patching.reboot_command must begin with the absolute path of a program");
    }
  });
}

void read_inventory(TableReader& root, Config& config) {
  root.subtable("inventory", [&](TableReader& reader) {
    reader.refuse_unknown({"version_file", "cpu_level", "sample_interval_s"});
    reader.text("version_file", config.version_file);
    reader.integer("cpu_level", config.cpu_level, 1, 4);
    reader.integer("sample_interval_s", config.sample_interval_s, 0, 86'400);
  });
}

}  // namespace

Expected<Config> parse_config(std::string_view text, const std::string& source) {
  const auto parsed = model::parse_toml(text, source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  const toml::table& root = *parsed;
  Config config;
  std::optional<Error> error;
  TableReader reader(root, source, "", error);
  reader.refuse_unknown({"host", "run_dir", "listen", "memory", "peers", "dataplane", "inventory",
                         "neighbours", "patching", "qemu", "security", "test"});
  reader.text("host", config.host, true);
  reader.text("run_dir", config.run_dir, true);
  if (!error && config.run_dir.front() != '/')
    reader.complain(root.get("run_dir")->source(), "run_dir must be an absolute path");
  read_listen(reader, config);
  reader.parsed("memory", config.memory_bytes, "a size as in \"8G\"", parse_bytes);
  read_peers(root.get("peers"), reader, config);
  read_neighbours(root.get("neighbours"), reader, config);
  if (!error) read_data_plane(root.get("dataplane"), reader, source, error, config);
  read_qemu(reader, error, config);
  read_patching(reader, error, config);
  read_inventory(reader, config);
  if (!error) read_test(root.get("test"), reader, source, error, config);
  if (!error) {
    auto security =
        security::read_security(root.get("security"), source, security::ConfigOwner::kAgent);
    if (security) {
      config.security = std::move(*security);
    } else {
      error = security.error();
    }
  }
  config.data_plane.file_prefix = "sluice-" + config.host;
  if (error) return tl::unexpected<Error>(*error);
  return config;
}

Expected<Config> load_config(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(ErrorKind::kNotFound, fmt::format("{} cannot be read", path));
  std::ostringstream text;
  text << file.rdbuf();
  return parse_config(text.str(), path);
}

}  // namespace sluice::agent
