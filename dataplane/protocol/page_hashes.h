// The page hashes of one shard and their fold per extent, kept up to date lazily. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/page/bitmap.h"
#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"

namespace sluice::protocol {

// Indexed by shard-local page (page::ShardMap). Not thread-safe: one worker owns it. Allocates only
// in the constructor.
class PageHashes {
 public:
  // Every page counts as zero at first.
  explicit PageHashes(const page::ShardMap& shards);

  [[nodiscard]] page::PageHash get(std::uint64_t local_page) const { return hashes_[local_page]; }
  void set(std::uint64_t local_page, page::PageHash hash) {
    if (hashes_[local_page] != hash) {
      hashes_[local_page] = hash;
      stale_extents_.set(local_page / kExtentPages);
    }
  }

  // out[i] becomes the digest of local extent i; only extents changed since the last call are
  // folded anew. `out` has one entry per local extent.
  void fold(std::span<page::ExtentDigest> out);

 private:
  std::vector<page::PageHash> hashes_;
  std::vector<page::ExtentDigest> digests_;
  page::PageBitmap stale_extents_;
};

}  // namespace sluice::protocol
