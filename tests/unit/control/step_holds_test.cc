#include "control/agent/step_holds.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <thread>

namespace sluice::agent {
namespace {

using std::chrono::milliseconds;

TEST(StepHolds, HoldsAtTheNamedStepAloneUntilItsFileIsGone) {
  std::string directory = testing::TempDir() + "sluice-holds-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const StepHolds holds(directory);
  std::ofstream(directory + "/hold-source-stop").close();
  holds.reached("source-paused");
  auto held = std::async(std::launch::async, [&] { holds.reached("source-stop"); });
  while (!std::filesystem::exists(directory + "/held-source-stop"))
    std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(held.wait_for(milliseconds(50)), std::future_status::timeout);
  std::filesystem::remove(directory + "/hold-source-stop");
  held.get();
  EXPECT_FALSE(std::filesystem::exists(directory + "/held-source-stop"));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace sluice::agent
