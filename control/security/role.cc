#include "control/security/role.h"

#include <array>
#include <utility>

namespace sluice::security {
namespace {

constexpr std::array<std::pair<Role, std::string_view>, 4> kNames = {{
    {Role::kHost, "host"},
    {Role::kViewer, "viewer"},
    {Role::kOperator, "operator"},
    {Role::kController, "controller"},
}};

}  // namespace

std::string_view to_string(Role role) {
  for (const auto& [known, name] : kNames) {
    if (known == role) return name;
  }
  return "none";
}

std::optional<Role> parse_role(std::string_view text) {
  for (const auto& [role, name] : kNames) {
    if (name == text) return role;
  }
  return std::nullopt;
}

}  // namespace sluice::security
