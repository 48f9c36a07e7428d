#include "drivers/guest/memory/memory_guest.h"

#include <array>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <set>
#include <thread>

#include "drivers/base/clock.h"
#include "drivers/guest/memory/contents.h"

namespace sluice::guest {
namespace {

constexpr std::uint64_t kBytes = 4 * kExtentBytes;
constexpr std::uint64_t kPages = kBytes / kPageBytes;
constexpr std::uint64_t kSeed = 42;

Definition definition_of(std::uint64_t rate, const char* pattern = "uniform") {
  Definition definition;
  definition.name = "m1";
  definition.driver = "memory";
  definition.memory_bytes = kBytes;
  definition.dirty_bytes_per_second = rate;
  definition.pattern = pattern;
  return definition;
}

std::unique_ptr<MemoryGuest> start(std::uint64_t rate, std::uint64_t seed = kSeed) {
  auto made = MemoryGuest::start(definition_of(rate), seed);
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

std::byte* page_of(const Guest& guest, std::uint64_t page) {
  return reinterpret_cast<std::byte*>(
             guest.memory().guest_address) +  // NOLINT(performance-no-int-to-ptr)
         page * kPageBytes;
}

memory::VerifyResult verify(MemoryGuest& guest) {
  const auto result = guest.verify();
  EXPECT_TRUE(result) << result.error().message;
  return *result;
}

// Polls until the guest has written `count` pages; the bound only ends a test that would never end.
std::uint64_t wait_for_writes(MemoryGuest& guest, std::uint64_t count) {
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t writes = verify(guest).writes;
    if (writes >= count) return writes;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return verify(guest).writes;
}

TEST(MemoryGuest, StartsWithVerifiableIncompressiblePages) {
  const auto guest = start(0);
  EXPECT_EQ(guest->phase(), Phase::kRunning);
  const auto result = verify(*guest);
  EXPECT_EQ(result.pages, kPages);
  EXPECT_EQ(result.mismatches, 0U);
  EXPECT_EQ(result.writes, 0U);

  // No word occurs twice in the first pages: nothing to deduplicate or compress.
  std::set<std::uint64_t> seen;
  for (std::uint64_t page = 0; page < 8; ++page) {
    std::array<std::uint64_t, kPageBytes / 8> words{};
    std::memcpy(words.data(), page_of(*guest, page), kPageBytes);
    EXPECT_EQ(words[0], page);
    for (std::size_t i = 2; i < words.size(); ++i) EXPECT_TRUE(seen.insert(words[i]).second);
  }
}

TEST(MemoryGuest, SeedsGiveDifferentContents) {
  const auto one = start(0, 1);
  const auto two = start(0, 2);
  EXPECT_NE(std::memcmp(page_of(*one, 7) + 16, page_of(*two, 7) + 16, kPageBytes - 16), 0);
}

TEST(MemoryGuest, VerifyDetectsAFlippedBitAnywhere) {
  const auto guest = start(0);
  for (const std::size_t offset :
       {std::size_t{0}, std::size_t{9}, std::size_t{16}, kPageBytes - 1}) {
    page_of(*guest, 5)[offset] ^= std::byte{0x10};
    EXPECT_EQ(verify(*guest).mismatches, 1U) << "offset " << offset;
    page_of(*guest, 5)[offset] ^= std::byte{0x10};
    EXPECT_EQ(verify(*guest).mismatches, 0U);
  }
}

TEST(MemoryGuest, VerifyDetectsSwappedPages) {
  const auto guest = start(0);
  std::array<std::byte, kPageBytes> held{};
  std::memcpy(held.data(), page_of(*guest, 3), kPageBytes);
  std::memcpy(page_of(*guest, 3), page_of(*guest, 4), kPageBytes);
  std::memcpy(page_of(*guest, 4), held.data(), kPageBytes);
  EXPECT_EQ(verify(*guest).mismatches, 2U);
}

class ContentsTest : public testing::Test {
 protected:
  std::vector<std::byte> memory_ = std::vector<std::byte>(kBytes);

  memory::Contents filled(memory::Pattern pattern) {
    memory::Contents contents(memory_, pattern);
    contents.begin(kSeed);
    contents.fill(0, kPages);
    return contents;
  }
};

TEST_F(ContentsTest, StalePageIsDetectedThoughConsistentInItself) {
  auto contents = filled(memory::Pattern::kUniform);
  const std::vector<std::byte> before = memory_;
  contents.rewrite_next();
  std::uint64_t rewritten = 0;
  while (std::memcmp(&before[rewritten * kPageBytes], &memory_[rewritten * kPageBytes],
                     kPageBytes) == 0)
    ++rewritten;
  EXPECT_EQ(contents.verify().mismatches, 0U);
  std::memcpy(&memory_[rewritten * kPageBytes], &before[rewritten * kPageBytes], kPageBytes);
  EXPECT_EQ(contents.verify().mismatches, 1U);
}

TEST_F(ContentsTest, RewritingABadPageDoesNotHideIt) {
  auto contents = filled(memory::Pattern::kUniform);
  for (std::uint64_t page = 0; page < kPages; ++page)
    memory_[page * kPageBytes + 100] ^= std::byte{1};
  for (int i = 0; i < 5; ++i) contents.rewrite_next();
  EXPECT_EQ(contents.verify().mismatches, kPages);
}

TEST_F(ContentsTest, HotsetSendsMostWritesToFewPages) {
  auto contents = filled(memory::Pattern::kHotset);
  constexpr std::uint64_t kWrites = 10'000;
  for (std::uint64_t i = 0; i < kWrites; ++i) contents.rewrite_next();
  std::uint64_t hot_writes = 0;
  std::uint64_t hot_pages = 0;
  std::uint64_t cold_pages_touched = 0;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    std::uint64_t generation = 0;
    std::memcpy(&generation, &memory_[page * kPageBytes + 8], sizeof generation);
    if (page / memory::kHotBlockPages % 10 == 0) {
      ++hot_pages;
      hot_writes += generation;
    } else if (generation > 0) {
      ++cold_pages_touched;
    }
  }
  EXPECT_LE(hot_pages, kPages / 10 + memory::kHotBlockPages);
  EXPECT_GT(hot_writes, kWrites * 87 / 100);
  EXPECT_LT(hot_writes, kWrites * 93 / 100);
  EXPECT_GT(cold_pages_touched, 300U);
  EXPECT_EQ(contents.verify().mismatches, 0U);
}

TEST(MemoryGuest, WriterKeepsAboutTheRateAndStandsStillWhenPaused) {
  constexpr std::uint64_t kRate = 40 << 20;
  auto guest = start(kRate);
  const TimeNs begun = monotonic_now_ns();
  const std::uint64_t first = wait_for_writes(*guest, 200);
  const std::uint64_t second = wait_for_writes(*guest, first + 200);
  EXPECT_GE(first, 200U);
  EXPECT_GE(second, first + 200);
  // Never ahead of its schedule; how far behind depends on the machine. verify() restarts the
  // schedule, so the rounding of one tick is allowed for generously.
  const auto elapsed_ns = static_cast<double>(monotonic_now_ns() - begun);
  EXPECT_LT(static_cast<double>(second * kPageBytes), 2.0 * kRate * elapsed_ns / kSecondNs);

  const TimeNs before = monotonic_now_ns();
  const auto stopped = guest->pause_for_switchover();
  ASSERT_TRUE(stopped);
  EXPECT_GE(*stopped, before);
  EXPECT_LE(*stopped, monotonic_now_ns());
  const auto paused = verify(*guest);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(verify(*guest).writes, paused.writes);
  EXPECT_EQ(paused.mismatches, 0U);

  ASSERT_TRUE(guest->cancel_handover());
  EXPECT_EQ(guest->phase(), Phase::kRunning);
  EXPECT_GT(wait_for_writes(*guest, paused.writes + 1), paused.writes);
}

class HandoverTest : public testing::Test {
 protected:
  std::unique_ptr<MemoryGuest> source_ = start(40 << 20);
  std::unique_ptr<MemoryGuest> twin_ =
      std::move(*MemoryGuest::prepare_incoming(source_->description()));
  std::array<std::byte, 256> state_{};

  std::size_t save() {
    EXPECT_TRUE(source_->pause_for_switchover());
    const auto size = source_->save_state(state_);
    EXPECT_TRUE(size);
    return *size;
  }
  void copy_memory() { std::memcpy(page_of(*twin_, 0), page_of(*source_, 0), kBytes); }
};

TEST_F(HandoverTest, TwinGoesOnWhereTheSourceStopped) {
  wait_for_writes(*source_, 300);
  const std::size_t size = save();
  EXPECT_EQ(source_->phase(), Phase::kHandedOver);
  const auto at_source = verify(*source_);
  copy_memory();
  EXPECT_EQ(twin_->phase(), Phase::kIncoming);
  ASSERT_TRUE(twin_->load_state(std::span(state_).first(size)));
  EXPECT_EQ(verify(*twin_).writes, at_source.writes);
  ASSERT_TRUE(twin_->resume());
  ASSERT_TRUE(source_->destroy());
  EXPECT_FALSE(source_->alive());
  EXPECT_GT(wait_for_writes(*twin_, at_source.writes + 100), at_source.writes);
  EXPECT_EQ(verify(*twin_).mismatches, 0U);
}

TEST_F(HandoverTest, TwinWithAPageMissingIsDetected) {
  wait_for_writes(*source_, 1);
  const std::size_t size = save();
  copy_memory();
  std::memset(page_of(*twin_, 17), 0, kPageBytes);
  ASSERT_TRUE(twin_->load_state(std::span(state_).first(size)));
  EXPECT_EQ(verify(*twin_).mismatches, 1U);
}

TEST_F(HandoverTest, SourceRunsAgainAfterASavedState) {
  save();
  const std::uint64_t writes = verify(*source_).writes;
  ASSERT_TRUE(source_->cancel_handover());
  EXPECT_GT(wait_for_writes(*source_, writes + 1), writes);
  EXPECT_EQ(verify(*source_).mismatches, 0U);
}

TEST_F(HandoverTest, WrongOrderIsRefused) {
  EXPECT_FALSE(source_->save_state(state_));
  EXPECT_FALSE(source_->cancel_handover());
  EXPECT_FALSE(source_->resume());
  EXPECT_FALSE(twin_->resume());
  EXPECT_FALSE(twin_->verify());
  EXPECT_FALSE(twin_->check_movable());
  EXPECT_FALSE(twin_->load_state(std::span(state_).first(8)));
  ASSERT_TRUE(source_->pause_for_switchover());
  EXPECT_EQ(source_->save_state(std::span(state_).first(8)).error().kind, ErrorKind::kNoCapacity);
  EXPECT_EQ(source_->phase(), Phase::kPaused);
}

TEST(MemoryGuest, BadDefinitionsAreRefused) {
  Definition odd = definition_of(0);
  odd.memory_bytes += kPageBytes;
  EXPECT_EQ(MemoryGuest::start(odd, 1).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(MemoryGuest::start(definition_of(0, "spiral"), 1).error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace sluice::guest
