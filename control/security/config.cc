#include "control/security/config.h"

#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::security {
namespace {

Error mistake(const std::string& source, const toml::source_region& where,
              const std::string& what) {
  return {ErrorKind::kInvalid,
          fmt::format("{}:{}:{}: {}", source, where.begin.line, where.begin.column, what)};
}

}  // namespace

Expected<SecurityConfig> read_security(const toml::node* node, const std::string& source,
                                       ConfigOwner owner) {
  SecurityConfig config;
  if (node == nullptr) return config;
  const auto* const table = node->as_table();
  if (table == nullptr)
    return tl::unexpected(mistake(source, node->source(), "security must be a table"));
  const std::array<std::pair<std::string_view, std::string*>, 3> files = {
      {{"ca", &config.ca}, {"certificate", &config.certificate}, {"key", &config.key}}};
  std::vector<std::string_view> known = {"tls"};
  if (owner == ConfigOwner::kAgent) known.emplace_back("allow_plaintext");
  for (const auto& [name, target] : files) known.push_back(name);
  for (const auto& [key, value] : *table) {
    if (key == "tls" || (key == "allow_plaintext" && owner == ConfigOwner::kAgent)) {
      const auto flag = value.value_exact<bool>();
      if (!flag) {
        return tl::unexpected(mistake(source, value.source(),
                                      fmt::format("security.{} must be true or false", key.str())));
      }
      (key == "tls" ? config.tls : config.allow_plaintext) = *flag;
      continue;
    }
    std::string* file = nullptr;
    for (const auto& [name, target] : files) {
      if (key == name) file = target;
    }
    if (file == nullptr) {
      return tl::unexpected(mistake(
          source, key.source(),
          fmt::format("unknown key security.{}; known: {}", key.str(), fmt::join(known, ", "))));
    }
    const auto path = value.value_exact<std::string>();
    if (!path || path->empty()) {
      return tl::unexpected(
          mistake(source, value.source(),
                  fmt::format("security.{} must be the path of a PEM file", key.str())));
    }
    *file = std::filesystem::path(source).parent_path() / *path;
  }
  return config;
}

}  // namespace sluice::security
