#include "control/agent/step_holds.h"

#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <spdlog/spdlog.h>
#include <system_error>
#include <thread>

namespace sluice::agent {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(2);

}  // namespace

void StepHolds::hold(std::string_view step) const {
  const std::string wanted = fmt::format("{}/hold-{}", directory_, step);
  std::error_code error;
  if (!std::filesystem::exists(wanted, error)) return;
  const std::string held = fmt::format("{}/held-{}", directory_, step);
  spdlog::warn("TEST: held at {} until {} is removed", step, wanted);
  std::ofstream(held).close();
  while (std::filesystem::exists(wanted, error)) std::this_thread::sleep_for(kPollInterval);
  std::filesystem::remove(held, error);
}

}  // namespace sluice::agent
