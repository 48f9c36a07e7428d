// What the holder of a certificate may do; authorization.h says which calls that is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::security {

enum class Role : std::uint8_t {
  kHost = 1,    // an agent: speaks to other agents, in the name of its own host alone
  kViewer,      // sees hosts, guests and migrations
  kOperator,    // does to guests what the command line can do
  kController,  // the controller: as an operator, and presents itself as a server
};

// A certificate names its role as a URI among its subject's alternative names: this prefix and the
// role, as in "sluice:role/operator".
inline constexpr std::string_view kRoleUriPrefix = "sluice:role/";

// "host", "viewer", "operator" or "controller".
[[nodiscard]] std::string_view to_string(Role role);
[[nodiscard]] std::optional<Role> parse_role(std::string_view text);

}  // namespace sluice::security
