#include "control/agent/service.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "control/model/status.h"
#include "control/model/version.h"
#include "drivers/guest/definition.h"
#include "drivers/guest/memory/memory_guest.h"

namespace sluice::agent {
namespace {

void fill(const GuestView& view, const std::string& host, v1::GuestInfo& info) {
  info.set_name(view.name);
  info.set_host(host);
  info.set_driver(view.driver);
  info.set_state(view.state);
  info.set_memory_bytes(view.memory_bytes);
  info.set_moving_to(view.moving_to);
  info.set_pid(view.pid);
  info.set_machine_type(view.machine_type);
}

// Writes updates until the end or until the caller goes away, which ends the watching and not the
// migration.
void stream_updates(const Migration& migration, grpc::ServerContext& context,
                    grpc::ServerWriter<v1::MigrateUpdate>& writer) {
  migration.follow([&](const v1::MigrateUpdate& update) {
    return !context.IsCancelled() && writer.Write(update);
  });
}

}  // namespace

grpc::Status AgentService::GetHost(grpc::ServerContext* /*context*/,
                                   const v1::GetHostRequest* /*request*/, v1::HostInfo* reply) {
  const auto& context = agent_.context();
  const auto& info = context.data_plane.info();
  reply->set_name(context.config.host);
  reply->set_version(fmt::format("{} ({})", model::version(), model::revision()));
  reply->set_port(context.config.data_plane.port);
  reply->set_port_driver(info.driver);
  reply->set_data_address(wire::ipv4_to_string(info.ipv4));
  reply->set_mtu(static_cast<std::uint32_t>(info.mtu));
  reply->set_queues(info.queues);
  reply->set_steering(info.steering);
  for (const auto core : info.cores) reply->add_worker_cores(core);
  reply->set_hugepages(info.hugepages);
  reply->set_zero_copy(info.zero_copy);
  reply->set_memory_bytes(context.registry.capacity_bytes());
  reply->set_memory_used_bytes(context.registry.used_bytes());
  reply->set_guests(static_cast<std::uint32_t>(context.registry.list().size()));
  for (const auto& [host, address] : context.config.peers) reply->add_peers(host);
  for (const auto& remark : info.remarks) reply->add_remarks(remark);
  reply->set_boot_id(boot_id_);
  return grpc::Status::OK;
}

grpc::Status AgentService::ListGuests(grpc::ServerContext* /*context*/,
                                      const v1::ListGuestsRequest* /*request*/,
                                      v1::GuestList* reply) {
  for (const auto& view : agent_.context().registry.list())
    fill(view, agent_.context().config.host, *reply->add_guests());
  return grpc::Status::OK;
}

grpc::Status AgentService::describe(const std::string& name, v1::GuestInfo* reply) {
  for (const auto& view : agent_.context().registry.list()) {
    if (view.name == name) fill(view, agent_.context().config.host, *reply);
  }
  return grpc::Status::OK;
}

grpc::Status AgentService::StartGuest(grpc::ServerContext* /*context*/,
                                      const v1::StartGuestRequest* request, v1::GuestInfo* reply) {
  auto& context = agent_.context();
  const auto definition = guest::parse_definition(request->definition_toml(), request->file_name());
  if (!definition) return model::to_status(definition.error());
  const auto driver = context.drivers.find(definition->driver);
  if (driver == context.drivers.end()) {
    return model::to_status(
        Error{ErrorKind::kUnsupported, fmt::format("{} cannot run guests of driver \"{}\"",
                                                   context.config.host, definition->driver)});
  }
  {
    auto claim = context.registry.create(definition->name, definition->memory_bytes, "",
                                         [&] { return driver->second->start(*definition); });
    if (!claim) return model::to_status(claim.error());
  }
  spdlog::info("guest {} started", definition->name);
  return describe(definition->name, reply);
}

grpc::Status AgentService::StopGuest(grpc::ServerContext* /*context*/,
                                     const v1::StopGuestRequest* request, v1::GuestInfo* reply) {
  auto claim = agent_.context().registry.claim(request->name(), ClaimPurpose::kStop);
  if (!claim) return model::to_status(claim.error());
  (void)describe(request->name(), reply);
  reply->set_state("gone");
  const auto destroyed = claim->destroy();
  if (destroyed) spdlog::info("guest {} stopped", request->name());
  return model::to_status(destroyed);
}

grpc::Status AgentService::AdoptGuest(grpc::ServerContext* /*context*/,
                                      const v1::AdoptGuestRequest* request, v1::GuestInfo* reply) {
  auto& context = agent_.context();
  const auto driver = context.drivers.find("qemu");
  if (driver == context.drivers.end())
    return model::to_status(Error{ErrorKind::kUnsupported, "this agent cannot run QEMU guests"});
  auto adopted = driver->second->adopt(request->qmp_socket());
  if (!adopted) return model::to_status(adopted.error());
  const std::string name = (*adopted)->description().definition.name;
  if (auto added = context.registry.add(std::move(*adopted)); !added)
    return model::to_status(added.error());
  spdlog::info("guest {} adopted", name);
  return describe(name, reply);
}

grpc::Status AgentService::Migrate(grpc::ServerContext* context, const v1::MigrateRequest* request,
                                   grpc::ServerWriter<v1::MigrateUpdate>* writer) {
  const auto migration = agent_.migrate(*request);
  if (!migration) return model::to_status(migration.error());
  stream_updates(**migration, *context, *writer);
  return grpc::Status::OK;
}

grpc::Status AgentService::WatchMigration(grpc::ServerContext* context,
                                          const v1::WatchMigrationRequest* request,
                                          grpc::ServerWriter<v1::MigrateUpdate>* writer) {
  const auto migration = agent_.migration_of(request->guest());
  if (!migration) return model::to_status(migration.error());
  stream_updates(**migration, *context, *writer);
  return grpc::Status::OK;
}

grpc::Status AgentService::VerifyGuest(grpc::ServerContext* /*context*/,
                                       const v1::VerifyGuestRequest* request,
                                       v1::VerifyGuestResult* reply) {
  auto claim = agent_.context().registry.claim(request->name(), ClaimPurpose::kInspect);
  if (!claim) return model::to_status(claim.error());
  const auto result = guest::verify_guest(claim->guest());
  if (!result) return model::to_status(result.error());
  reply->set_pages(result->pages);
  reply->set_mismatches(result->mismatches);
  reply->set_writes(result->writes);
  return grpc::Status::OK;
}

}  // namespace sluice::agent
