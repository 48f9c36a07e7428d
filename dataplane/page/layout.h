// The page space of a session and who owns which part of it. Pure.
//
// Regions (guest RAM, device state) stand one after the other in one page space, each starting on
// an extent boundary:
//
//   page     0 ................ n     512*k ......... 512*k + m
//           [ region 0: guest RAM | pad ][ region 1: device state | pad ]
//
// A page belongs to one extent (512 pages), an extent to one shard, a shard to one flow and one
// worker on each host. Extents are dealt to shards in chunks, so that one tracker scan covers many
// consecutive pages of one shard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dataplane/base/units.h"

namespace sluice::page {

// Pages [first, first + pages) exist; first is a multiple of kExtentPages.
struct RegionExtent {
  PageNumber first = 0;
  std::uint64_t pages = 0;
};

class Layout {
 public:
  // Sizes of the regions in pages, each at least 1.
  explicit Layout(const std::vector<std::uint64_t>& region_pages);

  [[nodiscard]] std::size_t regions() const { return regions_.size(); }
  [[nodiscard]] const RegionExtent& region(std::size_t index) const { return regions_[index]; }
  // All pages including the padding after each region: a multiple of kExtentPages.
  [[nodiscard]] std::uint64_t padded_pages() const { return padded_pages_; }
  [[nodiscard]] std::uint64_t extents() const { return padded_pages_ / kExtentPages; }
  // False for padding and beyond the end.
  [[nodiscard]] bool contains(PageNumber page) const;
  // True if [page, page + count) lies inside one region.
  [[nodiscard]] bool contains_run(PageNumber page, std::uint64_t count) const;

 private:
  std::vector<RegionExtent> regions_;
  std::uint64_t padded_pages_ = 0;
};

// Deals extents to shards: shard_of(extent) = (extent / kChunkExtents) mod shards. Shard-local
// numbers are dense, so that a shard's tables hold nothing of other shards.
class ShardMap {
 public:
  static constexpr std::uint64_t kChunkExtents = 32;  // 64 MiB: one scan of the tracker
  static constexpr std::uint64_t kChunkPages = kChunkExtents * kExtentPages;

  ShardMap(std::uint64_t extents, std::uint32_t shards, std::uint32_t shard);

  [[nodiscard]] std::uint32_t shards() const { return shards_; }
  [[nodiscard]] std::uint32_t shard() const { return shard_; }
  [[nodiscard]] std::uint64_t local_extents() const { return local_extents_; }
  [[nodiscard]] std::uint64_t local_pages() const { return local_extents_ * kExtentPages; }

  [[nodiscard]] bool owns(PageNumber page) const { return page / kChunkPages % shards_ == shard_; }
  // Only for pages this shard owns.
  [[nodiscard]] std::uint64_t to_local(PageNumber page) const {
    return page / kChunkPages / shards_ * kChunkPages + page % kChunkPages;
  }
  [[nodiscard]] PageNumber to_global(std::uint64_t local) const {
    return (local / kChunkPages * shards_ + shard_) * kChunkPages + local % kChunkPages;
  }

 private:
  std::uint32_t shards_;
  std::uint32_t shard_;
  std::uint64_t local_extents_;
};

// Where the regions' contents are in this process. Base pointers stay valid as long as the map is
// used.
class MemoryMap {
 public:
  // One base per region of `layout`, page-aligned, at least region(i).pages * 4096 bytes long.
  MemoryMap(const Layout& layout, const std::vector<std::byte*>& bases);

  // The address of an existing page. A run inside one region is contiguous.
  [[nodiscard]] std::byte* address(PageNumber page) const {
    std::size_t i = 0;
    while (i + 1 < spans_.size() && page >= spans_[i + 1].first) {
      ++i;
    }
    return spans_[i].base + (page - spans_[i].first) * kPageBytes;
  }

 private:
  struct Span {
    PageNumber first;
    std::byte* base;
  };
  std::vector<Span> spans_;
};

}  // namespace sluice::page
