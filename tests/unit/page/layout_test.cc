#include "dataplane/page/layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <vector>

namespace sluice::page {
namespace {

TEST(Layout, RegionsStartOnExtents) {
  const Layout layout({1000, 1, 512, 513});
  ASSERT_EQ(layout.regions(), 4U);
  EXPECT_EQ(layout.region(0).first, 0U);
  EXPECT_EQ(layout.region(1).first, 1024U);
  EXPECT_EQ(layout.region(2).first, 1536U);
  EXPECT_EQ(layout.region(3).first, 2048U);
  EXPECT_EQ(layout.region(3).pages, 513U);
  EXPECT_EQ(layout.padded_pages(), 3072U);
  EXPECT_EQ(layout.extents(), 6U);
}

TEST(Layout, ContainsPagesButNotPadding) {
  const Layout layout({1000, 1});
  EXPECT_TRUE(layout.contains(0));
  EXPECT_TRUE(layout.contains(999));
  EXPECT_FALSE(layout.contains(1000));
  EXPECT_FALSE(layout.contains(1023));
  EXPECT_TRUE(layout.contains(1024));
  EXPECT_FALSE(layout.contains(1025));
  EXPECT_FALSE(layout.contains(1536));
  EXPECT_FALSE(layout.contains(UINT64_MAX));
}

TEST(Layout, RunsStayInsideOneRegion) {
  const Layout layout({1024, 512});
  EXPECT_TRUE(layout.contains_run(0, 1024));
  EXPECT_FALSE(layout.contains_run(0, 1025))
      << "the next region adjoins, but is elsewhere in memory";
  EXPECT_FALSE(layout.contains_run(1023, 2));
  EXPECT_TRUE(layout.contains_run(1024, 512));
  EXPECT_FALSE(layout.contains_run(1024, 513));
  EXPECT_FALSE(layout.contains_run(1535, UINT64_MAX));
  EXPECT_FALSE(layout.contains_run(1, UINT64_MAX));
  EXPECT_FALSE(layout.contains_run(UINT64_MAX, 2));
}

RC_GTEST_PROP(LayoutProperty, RunsAreExactlyRunsOfContainedPages, ()) {
  const auto regions = *rc::gen::nonEmpty(rc::gen::resize(
      4, rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(1, 1600))));
  const Layout layout(regions);
  const auto page = *rc::gen::inRange<std::uint64_t>(0, layout.padded_pages() + 10);
  const auto count = *rc::gen::inRange<std::uint64_t>(1, 1600);
  bool inside = false;
  for (std::size_t i = 0; i < layout.regions(); ++i) {
    const auto& region = layout.region(i);
    RC_ASSERT(region.first % kExtentPages == 0U);
    RC_ASSERT(region.pages == regions[i]);
    inside |= page >= region.first && page + count <= region.first + region.pages;
  }
  RC_ASSERT(layout.contains_run(page, count) == inside);
  RC_ASSERT(layout.contains(page) == layout.contains_run(page, 1));
}

// All shards together own each extent once; each numbers its own densely from 0, in order.
TEST(ShardMap, IsABijection) {
  for (const std::uint64_t extents : {1, 31, 32, 33, 64, 65, 95, 96, 97, 500}) {
    for (std::uint32_t shards = 1; shards <= 8; ++shards) {
      std::uint64_t owned = 0;
      for (std::uint32_t shard = 0; shard < shards; ++shard) {
        const ShardMap map(extents, shards, shard);
        ASSERT_EQ(map.shards(), shards);
        ASSERT_EQ(map.shard(), shard);
        std::uint64_t next_local = 0;
        for (std::uint64_t extent = 0; extent < extents; ++extent) {
          const PageNumber first = extent * kExtentPages;
          const bool expected = extent / ShardMap::kChunkExtents % shards == shard;
          ASSERT_EQ(map.owns(first), expected);
          ASSERT_EQ(map.owns(first + kExtentPages - 1), expected);
          if (!expected) {
            continue;
          }
          for (const PageNumber page : {first, first + 1, first + kExtentPages - 1}) {
            ASSERT_EQ(map.to_local(page), next_local + (page - first));
            ASSERT_EQ(map.to_global(map.to_local(page)), page);
          }
          next_local += kExtentPages;
        }
        ASSERT_EQ(map.local_pages(), next_local)
            << extents << " extents, " << shard << "/" << shards;
        ASSERT_EQ(map.local_extents() * kExtentPages, next_local);
        owned += map.local_extents();
      }
      ASSERT_EQ(owned, extents);
    }
  }
}

// What makes one tracker scan cover one shard: a chunk is contiguous in both numberings.
RC_GTEST_PROP(ShardMapProperty, ChunksStayTogether, ()) {
  const auto shards = *rc::gen::inRange<std::uint32_t>(1, 9);
  const auto shard = *rc::gen::inRange<std::uint32_t>(0, shards);
  const auto chunks = *rc::gen::inRange<std::uint64_t>(shards, 100);
  const ShardMap map(chunks * ShardMap::kChunkExtents, shards, shard);
  const auto local = *rc::gen::inRange<std::uint64_t>(0, map.local_pages());
  const PageNumber page = map.to_global(local);
  RC_ASSERT(map.owns(page));
  RC_ASSERT(page < chunks * ShardMap::kChunkPages);
  RC_ASSERT(map.to_local(page) == local);
  RC_ASSERT(page % ShardMap::kChunkPages == local % ShardMap::kChunkPages);
  if (local + 1 < map.local_pages() && (local + 1) % ShardMap::kChunkPages != 0) {
    RC_ASSERT(map.to_global(local + 1) == page + 1);
  }
}

TEST(MemoryMap, FindsEachRegion) {
  const Layout layout({1000, 1, 600});
  std::vector<std::byte> ram(1000 * kPageBytes);
  std::vector<std::byte> state(1 * kPageBytes);
  std::vector<std::byte> disk(600 * kPageBytes);
  const MemoryMap memory(layout, {ram.data(), state.data(), disk.data()});
  EXPECT_EQ(memory.address(0), ram.data());
  EXPECT_EQ(memory.address(999), ram.data() + 999 * kPageBytes);
  EXPECT_EQ(memory.address(1024), state.data());
  EXPECT_EQ(memory.address(1536), disk.data());
  EXPECT_EQ(memory.address(1536 + 599), disk.data() + 599 * kPageBytes);
}

}  // namespace
}  // namespace sluice::page
