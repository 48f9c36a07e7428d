#include "dataplane/protocol/page_hashes.h"

#include <algorithm>
#include <cassert>

namespace sluice::protocol {

PageHashes::PageHashes(const page::ShardMap& shards)
    : hashes_(shards.local_pages(), page::zero_page_hash()),
      digests_(shards.local_extents()),
      stale_extents_(shards.local_extents()) {
  if (shards.local_extents() > 0) {
    stale_extents_.set_range(0, shards.local_extents());
  }
}

void PageHashes::fold(std::span<page::ExtentDigest> out) {
  assert(out.size() == digests_.size());
  for (auto extent = stale_extents_.find_next(0); extent;
       extent = stale_extents_.find_next(*extent)) {
    const std::span<const page::PageHash> hashes(hashes_);
    digests_[*extent] =
        page::fold_extent(hashes.subspan(*extent * kExtentPages).first<kExtentPages>());
    stale_extents_.clear(*extent);
  }
  std::copy(digests_.begin(), digests_.end(), out.begin());
}

}  // namespace sluice::protocol
