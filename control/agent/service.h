// What the command line asks of an agent.
#pragma once

#include <cstdint>
#include <string>

#include "control/agent/agent.h"
#include "control/agent/controller_fence.h"
#include "control/agent/rebooter.h"
#include "control/hooks/hook_runner.h"
#include "control/proto/sluice.grpc.pb.h"
#include "drivers/guest/guest.h"
#include "drivers/guest/qemu/installed_qemu.h"

namespace sluice::agent {

class AgentService final : public v1::Agent::Service {
 public:
  AgentService(Agent& agent, std::string boot_id, ControllerFence::Obeyed obeyed);

  grpc::Status GetHost(grpc::ServerContext* context, const v1::GetHostRequest* request,
                       v1::HostInfo* reply) override;
  grpc::Status ListGuests(grpc::ServerContext* context, const v1::ListGuestsRequest* request,
                          v1::GuestList* reply) override;
  grpc::Status StartGuest(grpc::ServerContext* context, const v1::StartGuestRequest* request,
                          v1::GuestInfo* reply) override;
  grpc::Status ResumeGuest(grpc::ServerContext* context, const v1::ResumeGuestRequest* request,
                           v1::GuestInfo* reply) override;
  grpc::Status StopGuest(grpc::ServerContext* context, const v1::StopGuestRequest* request,
                         v1::GuestInfo* reply) override;
  grpc::Status AdoptGuest(grpc::ServerContext* context, const v1::AdoptGuestRequest* request,
                          v1::GuestInfo* reply) override;
  grpc::Status Migrate(grpc::ServerContext* context, const v1::MigrateRequest* request,
                       grpc::ServerWriter<v1::MigrateUpdate>* writer) override;
  grpc::Status WatchMigration(grpc::ServerContext* context,
                              const v1::WatchMigrationRequest* request,
                              grpc::ServerWriter<v1::MigrateUpdate>* writer) override;
  grpc::Status VerifyGuest(grpc::ServerContext* context, const v1::VerifyGuestRequest* request,
                           v1::VerifyGuestResult* reply) override;
  grpc::Status CheckPath(grpc::ServerContext* context, const v1::CheckPathRequest* request,
                         v1::PathReport* reply) override;
  grpc::Status RunHook(grpc::ServerContext* context, const v1::RunHookRequest* request,
                       v1::HookResult* reply) override;
  grpc::Status Reboot(grpc::ServerContext* context, const v1::RebootRequest* request,
                      v1::RebootResult* reply) override;

  // Waits for hooks no more: they go on, and the next agent finds them. One of them may be what
  // ends this agent, and waits for its end.
  void stop() { hooks_.stop(); }

 private:
  [[nodiscard]] grpc::Status describe(const std::string& name, v1::GuestInfo* reply);

  // Refuses controllers that another one has taken over from; people do not say one.
  [[nodiscard]] grpc::Status admit(const grpc::ServerContext& context);

  Agent& agent_;
  const std::string boot_id_;
  Rebooter rebooter_;
  ControllerFence fence_;
  hooks::HookRunner hooks_;
  guest::qemu::InstalledQemu usual_qemu_{guest::kUsualQemu};
};

}  // namespace sluice::agent
