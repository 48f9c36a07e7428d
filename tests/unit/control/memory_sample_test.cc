#include "control/agent/memory_sample.h"

#include <cstring>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sluice::agent {
namespace {

constexpr std::uint64_t kSeed = 20'261'122;
constexpr std::uint64_t kPages = 16'384;

// The first half of a memory is populated, and pages change as the test says.
class MemorySampleTest : public testing::Test {
 protected:
  MemorySampleTest() {
    EXPECT_EQ(ftruncate(fd_, kPages * kPageBytes), 0);
    address_ = static_cast<std::byte*>(
        mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
    write(0, kPages / 2);
  }
  ~MemorySampleTest() override {
    munmap(address_, kPages * kPageBytes);
    close(fd_);
  }
  void write(std::uint64_t first, std::uint64_t count) {
    ++written_;
    for (std::uint64_t page = first; page < first + count; ++page)
      std::memcpy(address_ + page * kPageBytes + 8, &written_, sizeof written_);
  }
  [[nodiscard]] guest::Memory memory() const { return {fd_, 0, kPages * kPageBytes, getpid(), 0}; }
  [[nodiscard]] std::uint64_t allocated_bytes() const {
    struct stat status {};
    EXPECT_EQ(fstat(fd_, &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  // Writes the pages of a guest that would have run for that long since the last call.
  Expected<MemorySample> sample(const std::function<void(TimeNs)>& run) {
    return sample_memory(memory(), kSeed, [&](TimeNs until_ns) -> std::optional<TimeNs> {
      run(until_ns);
      return until_ns;
    });
  }

  int fd_ = memfd_create("sluice-sample", MFD_CLOEXEC);
  std::byte* address_ = nullptr;
  std::uint64_t written_ = 0;
};

TEST_F(MemorySampleTest, OfAGuestAtRestIsNothingAndPopulatesNothing) {
  const std::uint64_t before = allocated_bytes();
  const auto sampled = sample([](TimeNs) {});
  ASSERT_TRUE(sampled) << sampled.error().message;
  EXPECT_EQ(sampled->dirtying, model::Dirtying{});
  EXPECT_EQ(sampled->populated_bytes, kPages / 2 * kPageBytes);
  EXPECT_EQ(allocated_bytes(), before);
}

TEST_F(MemorySampleTest, OfPagesWrittenOnceEachIsARate) {
  // 1,024 other pages each quarter of a second.
  const auto sampled =
      sample([&](TimeNs until_ns) { write(0, 1024 * until_ns / (kSecondNs / 4)); });
  ASSERT_TRUE(sampled) << sampled.error().message;
  EXPECT_NEAR(static_cast<double>(sampled->dirtying.bytes_per_second), 4096.0 * kPageBytes,
              410.0 * kPageBytes);
  EXPECT_EQ(sampled->dirtying.working_set_bytes, 0U);
}

TEST_F(MemorySampleTest, OfPagesWrittenAgainAndAgainIsAWorkingSet) {
  const auto sampled = sample([&](TimeNs until_ns) {
    if (until_ns > 0) write(512, 2048);
  });
  ASSERT_TRUE(sampled) << sampled.error().message;
  EXPECT_NEAR(static_cast<double>(sampled->dirtying.working_set_bytes), 2048.0 * kPageBytes,
              205.0 * kPageBytes);
  EXPECT_EQ(sampled->dirtying.bytes_per_second, 0U);
  EXPECT_EQ(sampled->dirtying.working_set_ms, 250U);
}

TEST_F(MemorySampleTest, IsBrokenOffWhenAGuestMoves) {
  int calls = 0;
  const auto sampled = sample_memory(memory(), kSeed, [&](TimeNs) -> std::optional<TimeNs> {
    return ++calls < 2 ? std::optional<TimeNs>(0) : std::nullopt;
  });
  EXPECT_FALSE(sampled);
  EXPECT_EQ(calls, 2);
}

TEST_F(MemorySampleTest, OfMemoryThatNobodyHasTouchedIsEmpty) {
  guest::Memory untouched = memory();
  untouched.offset = kPages / 2 * kPageBytes;
  untouched.bytes = kPages / 2 * kPageBytes;
  const auto sampled = sample_memory(untouched, kSeed, [](TimeNs ns) { return std::optional(ns); });
  ASSERT_TRUE(sampled) << sampled.error().message;
  EXPECT_EQ(sampled->populated_bytes, 0U);
  EXPECT_EQ(sampled->dirtying, model::Dirtying{});
}

}  // namespace
}  // namespace sluice::agent
