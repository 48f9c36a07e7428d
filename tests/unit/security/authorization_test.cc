#include "control/security/authorization.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "control/proto/sluice.pb.h"

namespace sluice::security {
namespace {

std::vector<std::string> methods_of(const std::string& service) {
  std::vector<std::string> methods;
  const auto* const file = v1::HostInfo::descriptor()->file();
  for (int i = 0; i < file->service_count(); ++i) {
    const auto* const found = file->service(i);
    if (!service.empty() && found->name() != service) continue;
    for (int j = 0; j < found->method_count(); ++j)
      methods.push_back("/" + found->full_name() + "/" + found->method(j)->name());
  }
  return methods;
}

Identity holder(std::optional<Role> role) {
  return {.subject = "CN=ann", .issuer = "CN=CA", .expires = "", .names = {}, .role = role};
}

bool may(Role role, const std::string& method) {
  return authorize(method, holder(role)).has_value();
}

TEST(Authorization, EveryMethodOfEveryServiceHasARule) {
  const auto methods = methods_of("");
  ASSERT_GE(methods.size(), 10U);
  for (const auto& method : methods) EXPECT_TRUE(is_known_method(method)) << method;
}

TEST(Authorization, OnlyHostsSpeakToHosts) {
  for (const auto& method : methods_of("Peer")) {
    EXPECT_TRUE(may(Role::kHost, method)) << method;
    for (const Role role : {Role::kViewer, Role::kOperator, Role::kController})
      EXPECT_FALSE(may(role, method)) << method << " " << to_string(role);
  }
}

TEST(Authorization, ViewersSeeAndChangeNothing) {
  const std::vector<std::string> seeing = {
      "/sluice.v1.Agent/GetHost", "/sluice.v1.Agent/ListGuests", "/sluice.v1.Agent/WatchMigration"};
  const std::vector<std::string> controlling = {"/sluice.v1.Agent/RunHook",
                                                "/sluice.v1.Agent/Reboot"};
  for (const auto& method : methods_of("Agent")) {
    const bool only_controller =
        std::find(controlling.begin(), controlling.end(), method) != controlling.end();
    EXPECT_EQ(may(Role::kViewer, method),
              std::find(seeing.begin(), seeing.end(), method) != seeing.end())
        << method;
    EXPECT_EQ(may(Role::kOperator, method), !only_controller) << method;
    EXPECT_TRUE(may(Role::kController, method)) << method;
    EXPECT_FALSE(may(Role::kHost, method)) << method;
  }
  for (const auto& method : methods_of("Controller")) {
    const bool sees = method.find("/Get") != std::string::npos ||
                      method.find("/List") != std::string::npos ||
                      method.find("/Watch") != std::string::npos;
    EXPECT_EQ(may(Role::kViewer, method), sees) << method;
    EXPECT_TRUE(may(Role::kOperator, method)) << method;
    EXPECT_FALSE(may(Role::kHost, method)) << method;
  }
}

TEST(Authorization, NobodyCallsWhatIsNotInTheTable) {
  EXPECT_FALSE(may(Role::kOperator, "/sluice.v1.Agent/Explode"));
  EXPECT_FALSE(may(Role::kOperator, ""));
  EXPECT_FALSE(authorize("/sluice.v1.Agent/GetHost", std::nullopt));
  EXPECT_FALSE(authorize("/sluice.v1.Agent/GetHost", holder(std::nullopt)));
}

TEST(Authorization, ARefusalNamesSubjectRoleAndWhatIsNeeded) {
  const auto refused = authorize("/sluice.v1.Agent/Migrate", holder(Role::kViewer));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kPermission);
  for (const char* word : {"CN=ann", "role viewer", "Migrate", "operator"})
    EXPECT_NE(refused.error().message.find(word), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace sluice::security
