// An agent that does what a test tells it to, on a unix socket, in this process.
#pragma once

#include <chrono>
#include <functional>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/model/channel.h"
#include "control/proto/sluice.grpc.pb.h"
#include "control/security/credentials.h"

namespace sluice::cli {

class FakeAgent final : public v1::Agent::Service {
 public:
  using UpdateWriter = grpc::ServerWriter<v1::MigrateUpdate>;
  // How a migration goes; the default completes and moves the guest to `destination`, if that is
  // set.
  using Script = std::function<grpc::Status(FakeAgent&, const v1::MigrateRequest&, UpdateWriter&)>;

  FakeAgent(std::string name, const std::string& directory,
            const security::Credentials& credentials)
      : name_(std::move(name)), address_("unix:" + directory + "/" + name_ + ".sock") {
    grpc::ServerBuilder builder;
    model::set_keepalive(builder);
    builder.AddListeningPort(address_, credentials.for_server([](const std::string&) {}));
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeAgent() override { stop(); }

  void stop() { server_->Shutdown(std::chrono::system_clock::now()); }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] const std::string& name() const { return name_; }

  void add_guest(const std::string& guest, const std::string& state = "running") {
    const std::scoped_lock lock(mutex_);
    v1::GuestInfo& info = guests_[guest];
    info.set_name(guest);
    info.set_host(name_);
    info.set_driver("memory");
    info.set_state(state);
    info.set_memory_bytes(64 << 20);
  }
  void remove_guest(const std::string& guest) {
    const std::scoped_lock lock(mutex_);
    guests_.erase(guest);
  }
  [[nodiscard]] bool has_guest(const std::string& guest) {
    const std::scoped_lock lock(mutex_);
    return guests_.contains(guest);
  }
  // With the last question.
  [[nodiscard]] std::string told() {
    const std::scoped_lock lock(mutex_);
    return told_;
  }
  [[nodiscard]] std::size_t guest_count() {
    const std::scoped_lock lock(mutex_);
    return guests_.size();
  }

  // Set before the command that meets them.
  FakeAgent* destination = nullptr;
  Script script;
  v1::VerifyGuestResult verify_result;
  std::function<void(grpc::ServerContext&)> on_get_host;  // may keep the question waiting
  v1::HostInfo more;                                      // of what it says about its host
  // How it answers when a guest is to be started or stopped, instead of doing it; nothing: it does.
  std::function<std::optional<grpc::Status>(const std::string& guest)> on_start_or_stop;
  std::function<std::optional<grpc::Status>()> on_reboot;  // the same
  std::function<std::optional<grpc::Status>()> on_hook;    // the same
  // By peer: the remark of a check of the path to it, empty if it is good. Others are unreachable.
  std::map<std::string, std::string> paths;

  // What came in.
  std::vector<v1::MigrateRequest> migrations;
  int watched = 0;  // migrations that were watched
  std::vector<std::string> hook_keys;
  std::vector<std::string> reboots;  // the boot ids
  v1::StartGuestRequest started;
  std::string adopted;

  // False once nobody listens any more.
  static bool send_progress(UpdateWriter& writer, const std::string& phase, unsigned iteration) {
    v1::MigrateUpdate update;
    update.mutable_progress()->set_phase(phase);
    update.mutable_progress()->set_iteration(iteration);
    update.mutable_progress()->set_sent_bytes(4096);
    return writer.Write(update);
  }
  void send_summary(UpdateWriter& writer, const v1::MigrateRequest& request,
                    const std::string& status, const std::string& error = "") {
    v1::MigrateUpdate update;
    v1::MigrateSummary& summary = *update.mutable_summary();
    summary.set_guest(request.guest());
    summary.set_from(name_);
    summary.set_to(request.to());
    summary.set_status(status);
    summary.set_error(error);
    summary.set_goodput_gbps(static_cast<double>(migrations.size()));
    summary.set_downtime_us(1000 * migrations.size());
    summary.set_proof_match(status == "completed");
    writer.Write(update);
  }

  grpc::Status GetHost(grpc::ServerContext* context, const v1::GetHostRequest* request,
                       v1::HostInfo* reply) override {
    {
      const std::scoped_lock lock(mutex_);
      told_ = request->out_of_service();
    }
    if (on_get_host) on_get_host(*context);
    reply->set_name(name_);
    reply->set_port("memif:/run/x.sock");
    reply->set_memory_bytes(std::uint64_t{8} << 30);
    reply->add_remarks("no hugepages");
    for (const auto& [peer, remark] : paths) reply->add_peers(peer);
    reply->MergeFrom(more);
    return grpc::Status::OK;
  }
  grpc::Status RunHook(grpc::ServerContext*, const v1::RunHookRequest* request,
                       v1::HookResult* reply) override {
    hook_keys.push_back(request->key());
    if (on_hook) {
      if (const auto answer = on_hook()) return *answer;
    }
    reply->set_ok(true);
    return grpc::Status::OK;
  }
  grpc::Status Reboot(grpc::ServerContext*, const v1::RebootRequest* request,
                      v1::RebootResult* reply) override {
    if (on_reboot) {
      if (const auto answer = on_reboot()) return *answer;
    }
    reboots.push_back(request->boot_id());
    reply->set_begun(true);
    return grpc::Status::OK;
  }
  grpc::Status ListGuests(grpc::ServerContext*, const v1::ListGuestsRequest*,
                          v1::GuestList* reply) override {
    const std::scoped_lock lock(mutex_);
    for (const auto& [guest, info] : guests_) *reply->add_guests() = info;
    return grpc::Status::OK;
  }
  grpc::Status StartGuest(grpc::ServerContext*, const v1::StartGuestRequest* request,
                          v1::GuestInfo* reply) override {
    started = *request;
    const std::string& text = request->definition_toml();
    constexpr std::string_view kName = "name = ";
    const auto begin = text.find(kName);
    if (begin == std::string::npos)
      return {grpc::StatusCode::INVALID_ARGUMENT, request->file_name() + ":1:1: no name"};
    const auto quote = begin + kName.size();
    const std::string guest = text.substr(quote + 1, text.find(text[quote], quote + 1) - quote - 1);
    if (on_start_or_stop) {
      if (const auto answer = on_start_or_stop(guest)) return *answer;
    }
    add_guest(guest);
    const std::scoped_lock lock(mutex_);
    *reply = guests_[guest];
    return grpc::Status::OK;
  }
  grpc::Status StopGuest(grpc::ServerContext*, const v1::StopGuestRequest* request,
                         v1::GuestInfo* reply) override {
    if (on_start_or_stop) {
      if (const auto answer = on_start_or_stop(request->name())) return *answer;
    }
    const std::scoped_lock lock(mutex_);
    if (!guests_.contains(request->name()))
      return {grpc::StatusCode::NOT_FOUND, "no guest " + request->name()};
    *reply = guests_[request->name()];
    guests_.erase(request->name());
    return grpc::Status::OK;
  }
  grpc::Status AdoptGuest(grpc::ServerContext*, const v1::AdoptGuestRequest* request,
                          v1::GuestInfo* reply) override {
    adopted = request->qmp_socket();
    reply->set_name("adopted-1");
    reply->set_host(name_);
    return grpc::Status::OK;
  }
  grpc::Status VerifyGuest(grpc::ServerContext*, const v1::VerifyGuestRequest* request,
                           v1::VerifyGuestResult* reply) override {
    if (!has_guest(request->name()))
      return {grpc::StatusCode::NOT_FOUND, "no guest " + request->name()};
    *reply = verify_result;
    return grpc::Status::OK;
  }
  grpc::Status CheckPath(grpc::ServerContext*, const v1::CheckPathRequest* request,
                         v1::PathReport* reply) override {
    const auto found = paths.find(request->to());
    if (found == paths.end())
      return {grpc::StatusCode::UNAVAILABLE, "no frame of any size reaches " + request->to()};
    reply->set_remark(found->second);
    reply->set_mtu(found->second.empty() ? 9000 : 1500);
    reply->set_configured_mtu(9000);
    reply->set_round_trip_us(150);
    return grpc::Status::OK;
  }
  grpc::Status Migrate(grpc::ServerContext*, const v1::MigrateRequest* request,
                       UpdateWriter* writer) override {
    migrations.push_back(*request);
    if (script) return script(*this, *request, *writer);
    v1::MigrateUpdate plan;
    plan.mutable_plan()->set_guest(request->guest());
    plan.mutable_plan()->set_downtime_limit_us(50'000);
    writer->Write(plan);
    send_progress(*writer, "streaming", 1);
    send_progress(*writer, "streaming", 1);
    send_progress(*writer, "final pass", 2);
    if (destination != nullptr) {
      remove_guest(request->guest());
      destination->add_guest(request->guest());
    }
    send_summary(*writer, *request, "completed");
    return grpc::Status::OK;
  }
  grpc::Status WatchMigration(grpc::ServerContext*, const v1::WatchMigrationRequest* request,
                              UpdateWriter* writer) override {
    ++watched;
    v1::MigrateRequest as_migration;
    as_migration.set_guest(request->guest());
    as_migration.set_to("h2");
    if (script) return script(*this, as_migration, *writer);
    return {grpc::StatusCode::NOT_FOUND, request->guest() + " is not moving"};
  }

 private:
  const std::string name_;
  const std::string address_;
  std::mutex mutex_;
  std::map<std::string, v1::GuestInfo> guests_;
  std::string told_;
  std::unique_ptr<grpc::Server> server_;  // last: serves from all of the above
};

}  // namespace sluice::cli
