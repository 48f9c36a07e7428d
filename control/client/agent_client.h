// One host's agent, as the command line and the controller talk to it. Calls block; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control/client/interrupts.h"
#include "control/model/channel.h"
#include "control/model/controller_identity.h"
#include "control/proto/sluice.grpc.pb.h"
#include "dataplane/base/expected.h"

namespace sluice::client {

struct HostAddress {
  std::string name;
  std::string address;  // as gRPC names targets
};

class AgentClient {
 public:
  // A controller says with every call which one it is; people do not.
  AgentClient(HostAddress host, const security::Credentials& credentials,
              std::optional<model::ControllerIdentity> controller = {});

  [[nodiscard]] const std::string& host() const { return host_.name; }

  // Short questions: an agent that does not answer within two seconds is kUnreachable.
  [[nodiscard]] Expected<v1::HostInfo> get_host();
  [[nodiscard]] Expected<v1::GuestList> list_guests();

  [[nodiscard]] Expected<v1::GuestInfo> start_guest(const std::string& definition_toml,
                                                    const std::string& file_name);
  // Lets a guest run again whose destination has lost its records: an operator's word.
  [[nodiscard]] Expected<v1::GuestInfo> resume_guest(const std::string& name,
                                                     bool destination_is_gone = false);
  [[nodiscard]] Expected<v1::GuestInfo> stop_guest(const std::string& name,
                                                   bool destination_is_gone = false);
  [[nodiscard]] Expected<v1::GuestInfo> adopt_guest(const std::string& qmp_socket);
  [[nodiscard]] Expected<v1::VerifyGuestResult> verify_guest(const std::string& name);

  // For controllers alone. get_host(), and why people may bring no guests there; empty: they may.
  [[nodiscard]] Expected<v1::HostInfo> get_host_and_tell(const std::string& out_of_service);
  // Waits for the hook's end, a little longer than its own timeout.
  [[nodiscard]] Expected<v1::HookResult> run_hook(const v1::RunHookRequest& request);
  // What of the frames to another host arrives. Half a minute at most.
  [[nodiscard]] Expected<v1::PathReport> check_path(const std::string& to);
  [[nodiscard]] Expected<v1::RebootResult> reboot(const std::string& boot_id);

  // Called for plans and progress, in order, from the calling thread.
  using OnUpdate = std::function<void(const v1::MigrateUpdate&)>;

  // Both return when the summary has come, or nothing when `interrupts` (may be nullptr) is raised
  // before: the migration goes on without a listener. A refusal is the agent's own error. A
  // connection that is lost is settled by asking the agent again, and is kUnknownOutcome unless it
  // says that the guest runs there and does not move.
  using Summary = Expected<std::optional<v1::MigrateSummary>>;
  [[nodiscard]] Summary migrate(const v1::MigrateRequest& request, const OnUpdate& on_update,
                                Interrupts* interrupts);
  [[nodiscard]] Summary watch(const std::string& guest, const OnUpdate& on_update,
                              Interrupts* interrupts);

 private:
  using Reader = grpc::ClientReader<v1::MigrateUpdate>;
  [[nodiscard]] Summary follow(grpc::ClientContext& context, std::unique_ptr<Reader> reader,
                               const std::string& guest, const OnUpdate& on_update,
                               Interrupts* interrupts);
  // A context that says who calls and ends after `timeout`, if there is one.
  void prepare(grpc::ClientContext& context, std::optional<std::chrono::seconds> timeout) const;
  template <typename Request, typename Reply>
  using Method = grpc::Status (v1::Agent::Stub::*)(grpc::ClientContext*, const Request&, Reply*);
  template <typename Request, typename Reply>
  [[nodiscard]] Expected<Reply> call(Method<Request, Reply> method, const Request& request,
                                     std::chrono::seconds timeout);
  [[nodiscard]] Error error_of(const grpc::Status& status) const;
  // What a migration that can no longer be followed came to, as far as this host knows.
  [[nodiscard]] Error settle(const std::string& guest, const Error& lost);

  HostAddress host_;
  std::optional<model::ControllerIdentity> controller_;
  model::Connection connection_;
  std::unique_ptr<v1::Agent::Stub> stub_;
};

}  // namespace sluice::client
