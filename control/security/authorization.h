// Which role may call which method: one table for all services, enforced ahead of every call. A
// method that is not in the table is refused to everybody.
#pragma once

#include <functional>
#include <grpcpp/security/auth_metadata_processor.h>
#include <optional>
#include <string>
#include <string_view>

#include "control/security/certificate.h"
#include "dataplane/base/expected.h"

namespace sluice::security {

// kPermission unless the holder of this certificate may call `method`, as in
// "/sluice.v1.Agent/Migrate". `who` is nothing when the certificate could not be read. Any thread.
[[nodiscard]] Expected<void> authorize(std::string_view method, const std::optional<Identity>& who);
// Whether any role may call it.
[[nodiscard]] bool is_known_method(std::string_view method);

// gRPC's hook for it; of servers with TLS only.
class Authorizer final : public grpc::AuthMetadataProcessor {
 public:
  // `log` gets one line for every call that is refused.
  explicit Authorizer(std::function<void(const std::string&)> log) : log_(std::move(log)) {}

  [[nodiscard]] bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* consumed, OutputMetadata* response) override;

 private:
  const std::function<void(const std::string&)> log_;
};

}  // namespace sluice::security
