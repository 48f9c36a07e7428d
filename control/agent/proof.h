// Digests of all extents of a session in one order, so that both hosts' can be compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/page/digest.h"
#include "dataplane/page/layout.h"
#include "dataplane/port/dirty_source.h"

namespace sluice::agent {

// By extent number in the page space.
using ExtentDigests = std::vector<page::ExtentDigest>;

// From each flow's own order (page::ShardMap); flow i is shard i.
[[nodiscard]] ExtentDigests gather(const std::vector<std::span<const page::ExtentDigest>>& flows,
                                   const page::Layout& layout);

// Digests of memory as it stands, extent by extent: pages outside of `populated` (ascending) count
// as zeros without being read. `ram` is a whole number of extents. Uses every core.
[[nodiscard]] ExtentDigests hash_memory(std::span<const std::byte> ram,
                                        const std::vector<port::PageRun>& populated);

// Numbers of the extents that differ; beyond the shorter one nothing is compared. At most `limit`.
[[nodiscard]] std::vector<std::uint64_t> differing_extents(const ExtentDigests& one,
                                                           const ExtentDigests& other,
                                                           std::size_t limit);

}  // namespace sluice::agent
