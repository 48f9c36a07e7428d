// What is measured of guests while they are at rest.
#include "control/agent/guest_meter.h"

#include <gtest/gtest.h>
#include <thread>

#include "tests/integration/agent/fake_guest.h"

namespace sluice::agent {
namespace {

using guest::Phase;
using std::chrono::seconds;
using test::FakeFate;
using test::FakeGuest;

constexpr std::uint64_t kSecond = 1'000'000'000;
const WaitedShare::Time begin{};

TEST(WaitedShare, IsOfTheTimeThatWasWantedBetweenTwoNotes) {
  WaitedShare share;
  EXPECT_FALSE(share.share());
  share.note(begin, {{7, {10 * kSecond, 5 * kSecond}}});
  EXPECT_FALSE(share.share()) << "what was before is not of this minute";
  share.note(begin + seconds(5), {{7, {13 * kSecond, 6 * kSecond}}});
  ASSERT_TRUE(share.share());
  EXPECT_DOUBLE_EQ(*share.share(), 0.25);
}

TEST(WaitedShare, CountsThreadsThatComeAndGo) {
  WaitedShare share;
  share.note(begin, {{7, {0, 0}}});
  share.note(begin + seconds(5), {{7, {1 * kSecond, 1 * kSecond}}, {8, {90 * kSecond, 0}}});
  share.note(begin + seconds(10), {{8, {92 * kSecond, 0}}});
  ASSERT_TRUE(share.share());
  EXPECT_DOUBLE_EQ(*share.share(), 0.25);
  // Another thread of this number.
  share.note(begin + seconds(15), {{8, {1 * kSecond, 8 * kSecond}}});
  EXPECT_DOUBLE_EQ(*share.share(), 0.25);
}

TEST(WaitedShare, DoesNotJumpWhenAThreadEnds) {
  WaitedShare share;
  share.note(begin, {{7, {10 * kSecond, 10 * kSecond}}, {8, {50 * kSecond, 0}}});
  share.note(begin + seconds(5), {{7, {13 * kSecond, 11 * kSecond}}, {8, {51 * kSecond, 0}}});
  ASSERT_TRUE(share.share());
  EXPECT_DOUBLE_EQ(*share.share(), 0.2);
  share.note(begin + seconds(10), {{7, {16 * kSecond, 13 * kSecond}}});
  EXPECT_DOUBLE_EQ(*share.share(), 0.3) << "thread 8 had run for 51 s, which are not taken back";
}

TEST(WaitedShare, ForgetsWhatIsOlderThanAMinute) {
  WaitedShare share;
  share.note(begin, {{7, {0, 0}}});
  share.note(begin + seconds(30), {{7, {0, 10 * kSecond}}});
  share.note(begin + seconds(60), {{7, {10 * kSecond, 10 * kSecond}}});
  EXPECT_DOUBLE_EQ(*share.share(), 0.5);
  share.note(begin + seconds(95), {{7, {20 * kSecond, 10 * kSecond}}});
  EXPECT_DOUBLE_EQ(*share.share(), 0.0);
}

TEST(WaitedShare, SaysNothingOfGuestsThatWantNothing) {
  WaitedShare share;
  share.note(begin, {{7, {0, 0}}});
  share.note(begin + seconds(5), {{7, {1000, 9000}}});
  EXPECT_FALSE(share.share());
}

TEST(CoreTimes, AreOfEachThread) {
  pid_t number = 0;
  std::thread busy([&] {
    number = gettid();
    timespec used{};
    while (used.tv_nsec < 20'000'000 && used.tv_sec == 0)
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    const auto now = core_times_of(getpid());
    ASSERT_TRUE(now.contains(number));
    EXPECT_GE(now.at(number).ran_ns, 20'000'000U);
  });
  busy.join();
  // The kernel lists it for a moment longer.
  const auto deadline = std::chrono::steady_clock::now() + seconds(10);
  while (core_times_of(getpid()).contains(number) && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_FALSE(core_times_of(getpid()).contains(number));
  EXPECT_TRUE(core_times_of(getpid()).contains(getpid()));
  EXPECT_TRUE(core_times_of(-1).empty());
}

class GuestMeterTest : public testing::Test {
 protected:
  GuestMeterTest() {
    EXPECT_TRUE(registry_.add(
        std::make_unique<FakeGuest>("vm", std::make_shared<FakeFate>(Phase::kRunning))));
  }
  GuestRegistry registry_{"here", 1UL << 30};
};

TEST_F(GuestMeterTest, MeasuresAGuestAtRest) {
  const GuestMeter meter(registry_, seconds(1));
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (!registry_.figures_of("vm") && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto figures = registry_.figures_of("vm");
  ASSERT_TRUE(figures);
  EXPECT_EQ(figures->source, FiguresSource::kSampling);
  EXPECT_EQ(figures->dirtying, model::Dirtying{});
  const auto listed = registry_.list();
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_TRUE(listed[0].figures);
}

TEST_F(GuestMeterTest, HasNothingToMeasureOfAGuestThatMoves) {
  EXPECT_FALSE(registry_.anybody_moves());
  EXPECT_EQ(registry_.at_rest().size(), 1U);
  const auto moving = registry_.claim("vm", ClaimPurpose::kMove, "there");
  ASSERT_TRUE(moving);
  EXPECT_TRUE(registry_.anybody_moves());
  EXPECT_TRUE(registry_.at_rest().empty());
  EXPECT_FALSE(registry_.lend_memory("vm"));
}

TEST_F(GuestMeterTest, LentMemoryOutlivesTheGuest) {
  const auto lent = registry_.lend_memory("vm");
  ASSERT_TRUE(lent);
  auto claim = registry_.claim("vm", ClaimPurpose::kStop);
  ASSERT_TRUE(claim) << claim.error().message;
  ASSERT_TRUE(claim->destroy());
  char byte = 1;
  EXPECT_EQ(pread(lent->memory.memory_fd, &byte, 1, 0), 1);
}

TEST_F(GuestMeterTest, FiguresTravelWithTheirAge) {
  GuestFigures figures;
  figures.dirtying = {10, 20, 30};
  figures.populated_bytes = 40;
  figures.source = FiguresSource::kSampling;
  figures.measured -= seconds(90);
  registry_.note_figures("vm", figures);
  const auto there = from_proto(to_proto(*registry_.figures_of("vm")));
  EXPECT_EQ(there.dirtying, figures.dirtying);
  EXPECT_EQ(there.populated_bytes, 40U);
  EXPECT_EQ(there.source, FiguresSource::kSampling);
  EXPECT_GE(to_proto(there).age_s(), 90U);
  registry_.note_figures("nobody", figures);
  EXPECT_FALSE(registry_.figures_of("nobody"));
}

}  // namespace
}  // namespace sluice::agent
