#include "control/security/authorization.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <vector>

#include "control/security/credentials.h"

namespace sluice::security {
namespace {

struct Rule {
  std::string_view method;
  std::array<std::optional<Role>, 3> roles;
};

constexpr std::array kSeeing = {std::optional(Role::kViewer), std::optional(Role::kOperator),
                                std::optional(Role::kController)};
constexpr std::array kDoing = {std::optional(Role::kOperator), std::optional(Role::kController),
                               std::optional<Role>()};
constexpr std::array kPeering = {std::optional(Role::kHost), std::optional<Role>(),
                                 std::optional<Role>()};

constexpr std::array kControlling = {std::optional(Role::kController), std::optional<Role>(),
                                     std::optional<Role>()};

constexpr std::array<Rule, 25> kRules = {{
    {"/sluice.v1.Agent/GetHost", kSeeing},
    {"/sluice.v1.Agent/ListGuests", kSeeing},
    {"/sluice.v1.Agent/WatchMigration", kSeeing},
    {"/sluice.v1.Agent/StartGuest", kDoing},
    {"/sluice.v1.Agent/StopGuest", kDoing},
    {"/sluice.v1.Agent/ResumeGuest", kDoing},
    {"/sluice.v1.Agent/AdoptGuest", kDoing},
    {"/sluice.v1.Agent/Migrate", kDoing},
    // Frames on the migration network, though few.
    {"/sluice.v1.Agent/CheckPath", kDoing},
    // It reads only, but keeps the guest busy for seconds per GiB.
    {"/sluice.v1.Agent/VerifyGuest", kDoing},
    // A command of the host's own, as its agent: a plan and its journal stand behind each.
    {"/sluice.v1.Agent/RunHook", kControlling},
    {"/sluice.v1.Agent/Reboot", kControlling},
    {"/sluice.v1.Controller/GetCluster", kSeeing},
    {"/sluice.v1.Controller/GetPreview", kSeeing},
    {"/sluice.v1.Controller/ListRuns", kSeeing},
    {"/sluice.v1.Controller/GetRun", kSeeing},
    {"/sluice.v1.Controller/WatchRun", kSeeing},
    {"/sluice.v1.Controller/GetReport", kSeeing},
    {"/sluice.v1.Controller/Cordon", kDoing},
    {"/sluice.v1.Controller/Uncordon", kDoing},
    {"/sluice.v1.Controller/StartRun", kDoing},
    {"/sluice.v1.Controller/CommandRun", kDoing},
    {"/sluice.v1.Peer/Receive", kPeering},
    {"/sluice.v1.Peer/GetOutcome", kPeering},
    {"/sluice.v1.Peer/AnswerProbes", kPeering},
}};

const Rule* rule_of(std::string_view method) {
  const auto* const found = std::find_if(kRules.begin(), kRules.end(),
                                         [&](const Rule& rule) { return rule.method == method; });
  return found == kRules.end() ? nullptr : found;
}

std::string to_text(const std::array<std::optional<Role>, 3>& roles) {
  std::vector<std::string_view> names;
  for (const auto& role : roles) {
    if (role) names.push_back(to_string(*role));
  }
  return fmt::format("{}", fmt::join(names, " or "));
}

}  // namespace

bool is_known_method(std::string_view method) { return rule_of(method) != nullptr; }

Expected<void> authorize(std::string_view method, const std::optional<Identity>& who) {
  const Rule* const rule = rule_of(method);
  if (rule == nullptr)
    return fail(ErrorKind::kPermission, fmt::format("nobody may call {}", method));
  const std::string_view name = method.substr(method.rfind('/') + 1);
  if (!who) return fail(ErrorKind::kPermission, fmt::format("{} needs a certificate", name));
  if (who->role &&
      std::find(rule->roles.begin(), rule->roles.end(), who->role) != rule->roles.end())
    return {};
  return fail(ErrorKind::kPermission,
              fmt::format("certificate {} has {}; {} needs role {}", who->subject,
                          who->role ? fmt::format("role {}", to_string(*who->role)) : "no role",
                          name, to_text(rule->roles)));
}

grpc::Status Authorizer::Process(const InputMetadata& metadata, grpc::AuthContext* context,
                                 OutputMetadata* /*consumed*/, OutputMetadata* /*response*/) {
  const auto path = metadata.find(":path");
  const std::string_view method =
      path == metadata.end() ? "" : std::string_view(path->second.data(), path->second.size());
  const auto allowed = authorize(method, peer_of(*context));
  if (allowed) return grpc::Status::OK;
  log_("a call is refused: " + allowed.error().message);
  return {grpc::StatusCode::PERMISSION_DENIED, allowed.error().message};
}

}  // namespace sluice::security
