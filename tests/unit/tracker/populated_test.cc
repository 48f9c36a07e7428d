#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <vector>

#include "tests/unit/tracker/target_process.h"

namespace sluice::tracker {
namespace {

using Runs = std::vector<port::PageRun>;
using test::SharedMemory;

TEST(PopulatedRuns, AreThePagesThatWereEverWritten) {
  const SharedMemory memory(1024);
  for (const std::uint64_t page : {0U, 1U, 2U, 7U, 512U, 1023U}) memory.word(page) = 1;
  const auto runs = populated_runs(memory.fd(), 0, 1024 * kPageBytes);
  ASSERT_TRUE(runs) << runs.error().message;
  EXPECT_EQ(*runs, (Runs{{0, 3}, {7, 1}, {512, 1}, {1023, 1}}));
}

TEST(PopulatedRuns, AreRelativeToTheOffsetAndEndWithTheRange) {
  const SharedMemory memory(64);
  for (std::uint64_t page = 8; page < 40; ++page) memory.word(page) = 1;
  const auto runs = populated_runs(memory.fd(), 16 * kPageBytes, 8 * kPageBytes);
  ASSERT_TRUE(runs) << runs.error().message;
  EXPECT_EQ(*runs, (Runs{{0, 8}}));
  const auto before = populated_runs(memory.fd(), 0, 8 * kPageBytes);
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_EQ(*before, Runs{});
}

TEST(PopulatedRuns, DoNotHoldPunchedPages) {
  const SharedMemory memory(16);
  for (std::uint64_t page = 0; page < 16; ++page) memory.word(page) = 1;
  ASSERT_EQ(::fallocate(memory.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * kPageBytes,
                        3 * kPageBytes),
            0);
  const auto runs = populated_runs(memory.fd(), 0, 16 * kPageBytes);
  ASSERT_TRUE(runs) << runs.error().message;
  EXPECT_EQ(*runs, (Runs{{0, 4}, {7, 9}}));
}

TEST(PopulatedRuns, OfAFileThatEndsWithinTheRangeEndWithItsLastPage) {
  const SharedMemory memory(16);
  memory.word(3) = 1;
  ASSERT_EQ(::ftruncate(memory.fd(), 3 * kPageBytes + 100), 0);
  const auto runs = populated_runs(memory.fd(), 0, 16 * kPageBytes);
  ASSERT_TRUE(runs) << runs.error().message;
  EXPECT_EQ(*runs, (Runs{{3, 1}}));
}

TEST(PopulatedRuns, OfNothingAreNone) {
  const SharedMemory memory(16);
  const auto empty = populated_runs(memory.fd(), 0, 16 * kPageBytes);
  ASSERT_TRUE(empty) << empty.error().message;
  EXPECT_EQ(*empty, Runs{});
}

TEST(PopulatedRuns, RefuseADescriptorThatCannotSeekAndPartsOfPages) {
  const auto bad = populated_runs(-1, 0, kPageBytes);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().kind, ErrorKind::kFailed);
  const SharedMemory memory(16);
  const auto part = populated_runs(memory.fd(), 100, kPageBytes);
  ASSERT_FALSE(part);
  EXPECT_EQ(part.error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace sluice::tracker
