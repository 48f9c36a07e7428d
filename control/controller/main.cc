// sluice-controller: drains and patches hosts.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <pthread.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <thread>

#include "control/controller/adoption.h"
#include "control/controller/config.h"
#include "control/controller/controller.h"
#include "control/controller/service.h"
#include "control/model/channel.h"
#include "control/model/version.h"
#include "control/security/credentials.h"
#include "control/store/journal_lock.h"
#include "control/store/sqlite_journal.h"

namespace sluice::controller {
namespace {

void set_up_log() {
  auto logger = spdlog::stderr_logger_mt("sluice-controller");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

Expected<std::shared_ptr<const security::Credentials>> load_credentials(
    const Config& config, const std::string& config_file) {
  auto credentials = security::Credentials::load(
      config.security,
      fmt::format("to make some: sluice pki client {} --role controller --dir /etc/sluice/pki",
                  config.name));
  if (!credentials) {
    return fail(credentials.error().kind,
                fmt::format("{}: {}", config_file, credentials.error().message));
  }
  if (auto own = (*credentials)->require_host(config.name, security::Role::kController); !own)
    return tl::unexpected<Error>(own.error());
  if (!(*credentials)->tls()) {
    spdlog::warn(
        "TLS IS OFF ([security] tls = false): whoever reaches this controller commands it");
  }
  return credentials;
}

Expected<std::unique_ptr<grpc::Server>> serve(const Config& config,
                                              const security::Credentials& credentials,
                                              ControllerService& service) {
  grpc::ServerBuilder builder;
  model::set_keepalive(builder);
  const auto server_credentials =
      credentials.for_server([](const std::string& line) { spdlog::warn("{}", line); });
  std::vector<int> ports(config.listen.size(), 0);
  for (std::size_t i = 0; i < config.listen.size(); ++i)
    builder.AddListeningPort(config.listen[i], server_credentials, &ports[i]);
  builder.RegisterService(&service);
  // Sockets are made for their owner alone.
  const mode_t mask = umask(0177);
  auto server = builder.BuildAndStart();
  umask(mask);
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (!server || ports[i] == 0) {
      return fail(ErrorKind::kFailed,
                  fmt::format("cannot listen on {}; is the address this host's, and free?",
                              config.listen[i]));
    }
  }
  return server;
}

// Ends the process at once: threads that wait for agents are not waited for, agents go on, and the
// journal holds all that a successor must know.
[[noreturn]] void end(int status) {
  spdlog::shutdown();
  std::fflush(nullptr);
  std::_Exit(status);
}

Expected<void> adopt(const Config& config, const security::Credentials& credentials,
                     store::SqliteJournal& journal) {
  const auto lines = adopt_agents(config, credentials, journal);
  if (!lines) return tl::unexpected<Error>(lines.error());
  for (const auto& line : *lines) std::printf("%s\n", line.c_str());
  return {};
}

Expected<void> run_controller(const std::string& config_file, bool adopts) {
  // Before there is any thread: one of gRPC's that takes a signal dies of it, and all with it.
  const sigset_t signals = block_signals();
  const auto config = load_config(config_file);
  if (!config) return tl::unexpected<Error>(config.error());
  const auto credentials = load_credentials(*config, config_file);
  if (!credentials) return tl::unexpected<Error>(credentials.error());
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(config->journal).parent_path(),
                                      ignored);
  const auto lock = store::JournalLock::take(config->journal, config->name);
  if (!lock) return tl::unexpected<Error>(lock.error());
  const auto journal = store::SqliteJournal::open(config->journal);
  if (!journal) return tl::unexpected<Error>(journal.error());
  if (adopts) {
    // Nothing is under way that must not be broken off.
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    return adopt(*config, **credentials, **journal);
  }
  if (auto prepared = hooks::HookRunner::prepare(config->state_dir); !prepared) return prepared;

  std::stop_source stop;
  std::thread([signals, stop]() mutable {
    int number = 0;
    sigwait(&signals, &number);
    spdlog::info("signal {}: runs stand still until a controller is back", number);
    stop.request_stop();
  }).detach();
  auto controller = Controller::start(*config, **credentials, **journal, stop.get_token(),
                                      [](const std::string& message) {
                                        spdlog::critical("{}", message);
                                        end(1);
                                      });
  if (!controller && stop.stop_requested()) return {};
  if (!controller) return tl::unexpected<Error>(controller.error());
  ControllerService service(**controller);
  auto server = serve(*config, **credentials, service);
  if (!server) return tl::unexpected<Error>(server.error());
  spdlog::info("sluice-controller {} ({}) name={} journal={} listen={}", model::version(),
               model::revision(), config->name, config->journal, fmt::join(config->listen, ","));
  while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  (*server)->Shutdown(std::chrono::system_clock::now());
  controller->release()->resign();
  end(0);
}

}  // namespace
}  // namespace sluice::controller

int main(int argc, char** argv) try {
  CLI::App app{"The controller of Sluice: drains and patches hosts"};
  std::string config_file = "/etc/sluice/controller.toml";
  app.add_option("--config", config_file, "Configuration file")->capture_default_str();
  bool adopts = false;
  app.add_flag(
      "--adopt-agents", adopts,
      "Give the hosts of [hosts] to this journal, whose controllers they then obey instead "
      "of those that they know, which must be gone for good; then end");
  app.set_version_flag("--version",
                       fmt::format("sluice-controller {} ({})", sluice::model::version(),
                                   sluice::model::revision()));
  CLI11_PARSE(app, argc, argv);
  sluice::controller::set_up_log();
  const auto result = sluice::controller::run_controller(config_file, adopts);
  if (result) return 0;
  std::fprintf(stderr, "sluice-controller: %s\n", result.error().message.c_str());
  return 1;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "sluice-controller: %s\n", failure.what());
  return 1;
}
