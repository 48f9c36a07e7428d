// Everything of an agent but its guests: a real data plane that nobody is connected to, real
// records, a real registry.
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "control/agent/agent.h"
#include "tests/integration/agent/fake_guest.h"
#include "tests/integration/test_pki.h"

namespace sluice::agent::test {

inline constexpr const char* kBoot = "boot-1";

// What another thread brings about; false if it does not within ten seconds.
template <typename Condition>
[[nodiscard]] bool becomes_true(Condition condition) {
  // Not asked again once it was true: it may be something that is done once.
  for (int attempt = 0; attempt < 500; ++attempt) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_("/dev/shm/sluice-handover-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The EAL starts once in a process.
struct SharedDataPlane {
  TemporaryDirectory directory;
  sluice::test::TestPki pki{directory.path() + "/pki"};
  EventRouter router;
  std::unique_ptr<dpdk::DataPlane> data_plane;

  static SharedDataPlane& get() {
    static SharedDataPlane shared;
    return shared;
  }

 private:
  SharedDataPlane() {
    dpdk::DataPlaneConfig config;
    config.port = "memif:" + directory.path() + "/memif.sock";
    config.memif_server = true;
    config.address = *wire::parse_prefix("10.77.98.1/24");
    config.hugepages = dpdk::Hugepages::kNo;
    config.memory_bytes = 64UL << 20;
    config.file_prefix = "sluice-handover-test-" + std::to_string(getpid());
    auto started = dpdk::DataPlane::start(
        config, [this](const engine::Event& event) { router.deliver(event); });
    if (!started) {
      std::fprintf(stderr, "%s\n", started.error().message.c_str());
      std::abort();
    }
    data_plane = std::move(*started);
  }
};

// One agent's life. Several may follow each other in one run directory, as after crashes.
class FakeHost {
 public:
  FakeHost(const std::string& run_dir, const std::string& peer_address,
           std::vector<std::pair<std::string, std::shared_ptr<FakeFate>>> survivors = {},
           std::uint64_t capacity_bytes = 1UL << 30)
      : handovers_(*HandoverRecords::open(run_dir, kBoot)),
        outcomes_(*OutcomeRecords::open(run_dir, kBoot)),
        registry_("here", capacity_bytes) {
    config_.host = "here";
    config_.run_dir = run_dir;
    config_.state_dir = run_dir + "/state";
    config_.hooks_dir = run_dir + "/hooks";
    config_.reboot_command = {"/bin/true"};
    config_.peers["there"] = peer_address;
    auto driver = std::make_unique<FakeDriver>();
    driver->found = std::move(survivors);
    driver_ = driver.get();
    drivers_.emplace("fake", std::move(driver));
    auto& shared = SharedDataPlane::get();
    agent_ = std::make_unique<Agent>(config_, *shared.data_plane, shared.router, registry_,
                                     drivers_, handovers_, *outcomes_, *credentials_);
  }

  [[nodiscard]] Agent& agent() { return *agent_; }
  [[nodiscard]] Config& config() { return config_; }
  [[nodiscard]] FakeDriver& driver() { return *driver_; }
  [[nodiscard]] GuestRegistry& registry() { return registry_; }
  [[nodiscard]] OutcomeRecords& outcomes() { return *outcomes_; }
  [[nodiscard]] HandoverRecords& handovers() { return handovers_; }

 private:
  Config config_;
  const std::shared_ptr<const security::Credentials> credentials_ =
      SharedDataPlane::get().pki.credentials("here");
  HandoverRecords handovers_;
  std::unique_ptr<OutcomeRecords> outcomes_;
  GuestRegistry registry_;
  Drivers drivers_;
  FakeDriver* driver_ = nullptr;
  std::unique_ptr<Agent> agent_;
};

}  // namespace sluice::agent::test
