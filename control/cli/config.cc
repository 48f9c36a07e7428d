#include "control/cli/config.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fstream>
#include <sstream>
#include <string_view>
#include <toml++/toml.h>

namespace sluice::cli {
namespace {

std::string place(const std::string& path, const toml::source_region& region) {
  return fmt::format("{}:{}:{}", path, region.begin.line, region.begin.column);
}

Expected<Config> read_hosts(const std::string& path, const toml::table& root) {
  for (const auto& [key, value] : root) {
    if (key != "hosts" && key != "security") {
      return fail(ErrorKind::kInvalid,
                  fmt::format("{}: \"{}\" is not known; expected tables [hosts] and [security]",
                              place(path, key.source()), key.str()));
    }
  }
  const toml::table* const hosts = root["hosts"].as_table();
  if (hosts == nullptr || hosts->empty()) {
    return fail(
        ErrorKind::kInvalid,
        path + ": no hosts; add a table [hosts] with lines such as h1 = \"unix:/run/h1.sock\"");
  }
  Config config;
  config.path = path;
  for (const auto& [key, value] : *hosts) {
    const auto address = value.value<std::string>();
    if (!address || address->empty()) {
      return fail(
          ErrorKind::kInvalid,
          fmt::format(
              "{}: host {} needs its agent's address as text, such as \"unix:/run/{}.sock\"",
              place(path, value.source()), key.str(), key.str()));
    }
    config.hosts.push_back({std::string(key.str()), *address});
  }
  auto security = security::read_security(root.get("security"), path);
  if (!security) return tl::unexpected(security.error());
  config.security = std::move(*security);
  std::sort(config.hosts.begin(), config.hosts.end(),
            [](const HostAddress& a, const HostAddress& b) { return a.name < b.name; });
  return config;
}

Expected<Config> read_config(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(ErrorKind::kNotFound, "configuration " + path + " cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  try {
    return read_hosts(path, toml::parse(text.str(), path));
  } catch (const toml::parse_error& error) {
    return fail(ErrorKind::kInvalid,
                place(path, error.source()) + ": " + std::string(error.description()));
  }
}

}  // namespace

std::vector<std::string> default_config_paths(const Environment& environment) {
  std::vector<std::string> paths;
  if (const char* const home = environment("HOME"))
    paths.push_back(std::string(home) + "/.config/sluice/sluice.toml");
  paths.emplace_back("/etc/sluice/sluice.toml");
  paths.emplace_back("/run/sluice/sluice.toml");
  return paths;
}

Expected<Config> load_config(const std::optional<std::string>& named,
                             const Environment& environment,
                             const std::vector<std::string>& defaults) {
  if (named) return read_config(*named);
  if (const char* const path = environment("SLUICE_CONFIG")) return read_config(path);
  for (const std::string& path : defaults) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return read_config(path);
  }
  return fail(
      ErrorKind::kNotFound,
      fmt::format("no configuration that names the hosts; give --config FILE, set SLUICE_CONFIG or "
                  "write one of: {}",
                  fmt::join(defaults, ", ")));
}

}  // namespace sluice::cli
