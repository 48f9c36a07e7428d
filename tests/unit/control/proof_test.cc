#include "control/agent/proof.h"

#include <cstring>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "control/agent/session_memory.h"

namespace sluice::agent {
namespace {

TEST(Proof, GathersShardsInTheOrderOfExtents) {
  const page::Layout layout({100 * kExtentPages, kExtentPages});
  constexpr std::uint32_t kFlows = 3;
  std::vector<std::vector<page::ExtentDigest>> flows(kFlows);
  for (std::uint32_t flow = 0; flow < kFlows; ++flow) {
    const page::ShardMap shard(layout.extents(), kFlows, flow);
    for (std::uint64_t local = 0; local < shard.local_extents(); ++local)
      flows[flow].push_back(shard.to_global(local * kExtentPages) / kExtentPages + 1000);
  }
  const auto digests = gather({flows[0], flows[1], flows[2]}, layout);
  ASSERT_EQ(digests.size(), 101U);
  for (std::size_t extent = 0; extent < digests.size(); ++extent)
    EXPECT_EQ(digests[extent], extent + 1000);
}

TEST(Proof, AChangedPageShowsInItsExtentAndHolesCountAsZeros) {
  std::vector<std::byte> memory(4 * kExtentBytes);
  const auto zeros = hash_memory(memory, {});
  EXPECT_EQ(hash_memory(memory, {{0, 4 * kExtentPages}}), zeros);
  memory[2 * kExtentBytes + 12345] = std::byte{1};
  const auto changed = hash_memory(memory, {{2 * kExtentPages - 1, 10}});
  EXPECT_EQ(differing_extents(zeros, changed, 10), (std::vector<std::uint64_t>{2}));
  EXPECT_TRUE(differing_extents(zeros, changed, 0).empty());
}

using Runs = std::vector<port::PageRun>;

TEST(PagesMissing, FindsWhatWasPunched) {
  const Runs before = {{0, 10}, {20, 10}, {40, 5}};
  EXPECT_EQ(pages_missing(before, before, 0), Runs{});
  EXPECT_EQ(pages_missing(before, {}, 0), before);
  EXPECT_EQ(pages_missing(before, {{0, 3}, {5, 22}, {41, 100}}, 0),
            (Runs{{3, 2}, {27, 3}, {40, 1}}));
  EXPECT_EQ(pages_missing(before, {{0, 3}, {5, 22}, {41, 100}}, 30), (Runs{{3, 38}}));
}

Runs runs_of(const std::vector<bool>& pages) {
  Runs runs;
  for (std::uint64_t page = 0; page < pages.size(); ++page) {
    if (!pages[page]) continue;
    if (page > 0 && pages[page - 1]) {
      ++runs.back().count;
    } else {
      runs.push_back({page, 1});
    }
  }
  return runs;
}

RC_GTEST_PROP(PagesMissing, AgreesWithALookAtEveryPage, ()) {
  const auto size = *rc::gen::inRange<std::size_t>(0, 200);
  const auto before = *rc::gen::container<std::vector<bool>>(size, rc::gen::arbitrary<bool>());
  const auto after = *rc::gen::container<std::vector<bool>>(size, rc::gen::arbitrary<bool>());
  std::vector<bool> missing(size);
  for (std::size_t page = 0; page < size; ++page) missing[page] = before[page] && !after[page];
  RC_ASSERT(pages_missing(runs_of(before), runs_of(after), 0) == runs_of(missing));
}

}  // namespace
}  // namespace sluice::agent
