// Who waits for a guest that does not say how it is.
#include "control/agent/guest_registry.h"

#include <chrono>
#include <future>
#include <gtest/gtest.h>
#include <thread>

#include "tests/integration/agent/fake_guest.h"

namespace sluice::agent {
namespace {

using guest::Phase;
using test::FakeFate;
using test::FakeGuest;

class SilentGuestTest : public testing::Test {
 protected:
  SilentGuestTest() {
    EXPECT_TRUE(registry_.add(std::make_unique<FakeGuest>("quick", quick_)));
    EXPECT_TRUE(registry_.add(std::make_unique<FakeGuest>("silent", silent_)));
    silent_->fall_silent();
    lister_ = std::async(std::launch::async, [&] { return registry_.list(); });
    silent_->await_question();
  }

  ~SilentGuestTest() override { silent_->speak_again(); }

  static std::string state_of(const std::vector<GuestView>& views, const std::string& name) {
    for (const auto& view : views) {
      if (view.name == name) return view.state;
    }
    return "absent";
  }

  std::shared_ptr<FakeFate> quick_ = std::make_shared<FakeFate>(Phase::kRunning);
  std::shared_ptr<FakeFate> silent_ = std::make_shared<FakeFate>(Phase::kRunning);
  GuestRegistry registry_{"here", 1UL << 30};
  std::future<std::vector<GuestView>> lister_;  // asks the silent guest
};

TEST_F(SilentGuestTest, HoldsUpNobodyElse) {
  EXPECT_EQ(registry_.count(), 2U);
  EXPECT_EQ(registry_.used_bytes(), 2 * test::kFakeBytes);
  EXPECT_TRUE(registry_.claim("quick", ClaimPurpose::kInspect));
  EXPECT_EQ(state_of(registry_.list(), "quick"), "running");
}

TEST_F(SilentGuestTest, IsListedAsLastSeen) {
  ASSERT_TRUE(silent_->call("stop", Phase::kPaused));
  EXPECT_EQ(state_of(registry_.list(), "silent"), "running");
  silent_->speak_again();
  EXPECT_EQ(state_of(lister_.get(), "silent"), "paused");
}

TEST_F(SilentGuestTest, IsNotBusyForThoseWhoClaimIt) {
  auto claim = std::async(std::launch::async,
                          [&] { return registry_.claim("silent", ClaimPurpose::kStop); });
  EXPECT_EQ(claim.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  silent_->speak_again();
  EXPECT_TRUE(claim.get());
}

TEST_F(SilentGuestTest, IsForgottenIfItDiesWhileItIsAsked) {
  silent_->die();
  silent_->speak_again();
  while (registry_.count() != 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_TRUE(silent_->called("destroy"));
}

}  // namespace
}  // namespace sluice::agent
