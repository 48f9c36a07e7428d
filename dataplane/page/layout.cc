#include "dataplane/page/layout.h"

#include <cassert>

namespace sluice::page {

Layout::Layout(const std::vector<std::uint64_t>& region_pages) {
  regions_.reserve(region_pages.size());
  for (const std::uint64_t pages : region_pages) {
    assert(pages >= 1);
    regions_.push_back({padded_pages_, pages});
    padded_pages_ += (pages + kExtentPages - 1) / kExtentPages * kExtentPages;
  }
}

bool Layout::contains(PageNumber page) const { return contains_run(page, 1); }

bool Layout::contains_run(PageNumber page, std::uint64_t count) const {
  for (const RegionExtent& region : regions_) {
    // Differences instead of sums: page and count may come from the wire and must not overflow.
    if (page >= region.first && page - region.first < region.pages) {
      return count <= region.pages - (page - region.first);
    }
  }
  return false;
}

ShardMap::ShardMap(std::uint64_t extents, std::uint32_t shards, std::uint32_t shard)
    : shards_(shards), shard_(shard) {
  assert(shards >= 1 && shard < shards);
  const std::uint64_t whole_chunks = extents / kChunkExtents;
  local_extents_ = whole_chunks / shards * kChunkExtents;
  if (shard < whole_chunks % shards) {
    local_extents_ += kChunkExtents;
  } else if (shard == whole_chunks % shards) {
    local_extents_ += extents % kChunkExtents;
  }
}

MemoryMap::MemoryMap(const Layout& layout, const std::vector<std::byte*>& bases) {
  assert(layout.regions() >= 1 && bases.size() == layout.regions());
  spans_.reserve(bases.size());
  for (std::size_t i = 0; i < bases.size(); ++i) {
    spans_.push_back({layout.region(i).first, bases[i]});
  }
}

}  // namespace sluice::page
