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

// A key of the top level that must be text if it is there.
Expected<void> read_text(const std::string& path, const toml::table& root, const char* key,
                         const char* example, std::string& out) {
  const toml::node* const node = root.get(key);
  if (node == nullptr) return {};
  const auto text = node->value_exact<std::string>();
  if (!text || text->empty()) {
    return fail(ErrorKind::kInvalid, fmt::format("{}: {} must be text, such as \"{}\"",
                                                 place(path, node->source()), key, example));
  }
  out = *text;
  return {};
}

Expected<Config> read_root(const std::string& path, const toml::table& root) {
  for (const auto& [key, value] : root) {
    if (key != "hosts" && key != "security" && key != "controller" && key != "controller_name") {
      return fail(ErrorKind::kInvalid,
                  fmt::format("{}: \"{}\" is not known; expected tables [hosts] and [security], "
                              "and before them controller and controller_name",
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
  if (auto read = read_text(path, root, "controller", "10.0.0.2:7500", config.controller); !read)
    return tl::unexpected(read.error());
  if (auto read = read_text(path, root, "controller_name", "c1", config.controller_name); !read)
    return tl::unexpected(read.error());
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
  return parse_config(text.str(), path);
}

}  // namespace

Expected<Config> parse_config(const std::string& text, const std::string& path) {
  try {
    return read_root(path, toml::parse(text, path));
  } catch (const toml::parse_error& error) {
    return fail(ErrorKind::kInvalid,
                place(path, error.source()) + ": " + std::string(error.description()));
  }
}

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
