// sluiced: the host agent.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <grpc/support/log.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <linux/magic.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <thread>
#include <unistd.h>

#include "control/agent/agent.h"
#include "control/agent/capabilities.h"
#include "control/agent/config.h"
#include "control/agent/peer_service.h"
#include "control/agent/service.h"
#include "control/model/channel.h"
#include "control/model/version.h"
#include "control/security/credentials.h"
#include "drivers/guest/qemu/cpu_level.h"
#include "drivers/guest/qemu/warden.h"

namespace sluice::agent {
namespace {

// Shares of this machine's memory that are not offered: the agents, the kernel, QEMU's own.
constexpr std::uint64_t kOfferedPercent = 80;
// Together two seconds.
constexpr int kRunDirLockTries = 40;
constexpr std::chrono::milliseconds kRunDirLockPause{50};

// gRPC's own errors, such as a TLS handshake that failed, are lines of the agent's log.
void log_grpc_error(gpr_log_func_args* message) {
  const std::string_view text = message->message;
  const auto says = [&](std::string_view word) {
    return text.find(word) != std::string_view::npos;
  };
  if (says("peer did not return a certificate")) {
    spdlog::warn("a connection is refused: the client presented no certificate");
  } else if (says("wrong version number") || says("http request")) {
    spdlog::warn("a connection is refused: the client does not speak TLS");
  } else {
    spdlog::warn("gRPC: {}", text);
  }
}

void set_up_log() {
  auto logger = spdlog::stderr_logger_mt("sluiced");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(log_grpc_error);
}

Expected<std::shared_ptr<const security::Credentials>> load_credentials(
    const Config& config, const std::string& config_file) {
  auto credentials = security::Credentials::load(
      config.security,
      fmt::format("to make some: sluice pki init /etc/sluice/pki && sluice pki host {} --dir "
                  "/etc/sluice/pki (or write tls = false there, for a network of your own)",
                  config.host));
  if (!credentials) {
    return fail(credentials.error().kind,
                fmt::format("{}: {}", config_file, credentials.error().message));
  }
  if (auto own = (*credentials)->require_host(config.host, security::Role::kHost); !own)
    return tl::unexpected<Error>(own.error());
  if (!(*credentials)->tls()) {
    spdlog::warn(
        "TLS IS OFF ([security] tls = false): whoever reaches this agent's addresses can "
        "move and stop its guests");
  }
  return credentials;
}

// Two agents with one run directory would fight over its guests. Held until the process ends.
Expected<void> lock_run_dir(const std::string& run_dir) {
  std::error_code error;
  // Monitors of guests, records and sockets: for the owner alone. One that is there already keeps
  // its mode.
  if (std::filesystem::create_directories(run_dir, error))
    std::filesystem::permissions(run_dir, std::filesystem::perms::owner_all, error);
  const std::string path = run_dir + "/agent.lock";
  const int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0)
    return fail(ErrorKind::kPermission, fmt::format("{} cannot be written; run as root", path));
  // An agent that was killed holds its lock until the kernel has taken its memory apart.
  for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (tries == kRunDirLockTries) {
      close(fd);
      return fail(ErrorKind::kBusy,
                  fmt::format("another agent uses run_dir {}; end it first", run_dir));
    }
    std::this_thread::sleep_for(kRunDirLockPause);
  }
  return {};
}

// Records are written while a guest stands still.
void warn_unless_in_memory(const std::string& run_dir) {
  struct statfs found {};
  if (statfs(run_dir.c_str(), &found) != 0) return;
  if (found.f_type == TMPFS_MAGIC || found.f_type == RAMFS_MAGIC) return;
  spdlog::warn(
      "run_dir {} is on a disk: every handover waits for it, and what an unclean end of the host "
      "leaves of its records is not known; put it on tmpfs, below /run",
      run_dir);
}

std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string read_boot_id(const std::string& path) {
  std::ifstream file(path);
  std::string id;
  file >> id;
  return id;
}

Expected<std::unique_ptr<grpc::Server>> serve(const Config& config,
                                              const security::Credentials& credentials,
                                              AgentService& agent_service,
                                              PeerService& peer_service) {
  grpc::ServerBuilder builder;
  model::set_keepalive(builder);
  const auto server_credentials =
      credentials.for_server([](const std::string& line) { spdlog::warn("{}", line); });
  std::vector<int> ports(config.listen.size(), 0);
  for (std::size_t i = 0; i < config.listen.size(); ++i)
    builder.AddListeningPort(config.listen[i], server_credentials, &ports[i]);
  builder.RegisterService(&agent_service);
  builder.RegisterService(&peer_service);
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

// Returns once SIGTERM or SIGINT has come; both are blocked in every thread.
void wait_for_signal(const sigset_t& signals) {
  int number = 0;
  sigwait(&signals, &number);
  spdlog::info("signal {}: guests run on, the agent ends", number);
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

Expected<void> run_agent(const std::string& config_file) {
  // Before any file is opened: one that root may read only by its capabilities is missed at once.
  if (auto kept = keep_needed_capabilities(); !kept) return kept;
  // Before there is any thread: one of gRPC's that takes a signal dies of it, and all with it.
  const sigset_t signals = block_signals();
  auto config = load_config(config_file);
  if (!config) return tl::unexpected<Error>(config.error());
  if (config->cpu_level == 0)
    config->cpu_level = guest::qemu::cpu_level_of(read_text("/proc/cpuinfo"));
  const auto credentials = load_credentials(*config, config_file);
  if (!credentials) return tl::unexpected<Error>(credentials.error());
  if (auto locked = lock_run_dir(config->run_dir); !locked) return locked;
  warn_unless_in_memory(config->run_dir);
  if (!config->hold_dir.empty()) {
    spdlog::critical(
        "TEST: [test] hold_dir = \"{}\": handovers can be held at any step; never use "
        "this where guests matter",
        config->hold_dir);
  }
  const std::string boot_id = read_boot_id(config->boot_id_file);
  auto handovers = HandoverRecords::open(config->run_dir, boot_id);
  if (!handovers) return tl::unexpected<Error>(handovers.error());
  auto outcomes = OutcomeRecords::open(config->run_dir, boot_id);
  if (!outcomes) return tl::unexpected<Error>(outcomes.error());

  const auto obeyed = ControllerFence::load(config->state_dir);
  if (!obeyed) return tl::unexpected<Error>(obeyed.error());

  EventRouter router;
  auto data_plane = dpdk::DataPlane::start(
      config->data_plane, [&](const engine::Event& event) { router.deliver(event); });
  if (!data_plane) return tl::unexpected<Error>(data_plane.error());
  for (const auto& remark : (*data_plane)->info().remarks) spdlog::info("data plane: {}", remark);

  const guest::HostContext host{config->run_dir, config->host, config->qemu, config->cpu_level};
  Drivers drivers;
  drivers.emplace("memory", guest::make_memory_driver(host));
  drivers.emplace("qemu", guest::make_qemu_driver(host));
  GuestRegistry registry(config->host, config->memory_bytes != 0
                                           ? config->memory_bytes
                                           : total_memory_bytes() / 100 * kOfferedPercent);
  Agent agent(*config, **data_plane, router, registry, drivers, *handovers, **outcomes,
              **credentials);
  AgentService agent_service(agent, boot_id, *obeyed);
  PeerService peer_service(agent.context());
  auto server = serve(*config, **credentials, agent_service, peer_service);
  if (!server) return tl::unexpected<Error>(server.error());
  spdlog::info("sluiced {} ({}) host={} port={} listen={}", model::version(), model::revision(),
               config->host, config->data_plane.port, fmt::join(config->listen, ","));
  wait_for_signal(signals);
  agent.stop();
  agent_service.stop();
  (*server)->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  (*server)->Wait();
  return {};
}

}  // namespace
}  // namespace sluice::agent

int main(int argc, char** argv) try {
  if (sluice::guest::qemu::is_warden_invocation(argc, argv)) {
    return sluice::guest::qemu::warden_main(argc, argv);
  }
  CLI::App app{"The host agent of Sluice: runs and moves this host's guests"};
  std::string config_file = "/etc/sluice/agent.toml";
  app.add_option("--config", config_file, "Configuration file")->capture_default_str();
  app.set_version_flag("--version", fmt::format("sluiced {} ({})", sluice::model::version(),
                                                sluice::model::revision()));
  CLI11_PARSE(app, argc, argv);
  sluice::agent::set_up_log();
  const auto result = sluice::agent::run_agent(config_file);
  if (result) return 0;
  std::fprintf(stderr, "sluiced: %s\n", result.error().message.c_str());
  return 1;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "sluiced: %s\n", failure.what());
  return 1;
}
