// Hashes of pages and their fold per extent: what both hosts compare before the destination may
// run. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/base/units.h"

namespace sluice::page {

using PageHash = std::uint64_t;
using ExtentDigest = std::uint64_t;

// Shown as the proof's algorithm.
inline constexpr const char* kDigestAlgorithm = "XXH3-64";

// XXH3 (64 bits) of one page of 4,096 bytes at `page`, with the widest vectors this machine has.
[[nodiscard]] PageHash hash_page(const std::byte* page);

// The hash of a page of zeros: what never-populated and ZERO pages count as on both hosts.
[[nodiscard]] PageHash zero_page_hash();

[[nodiscard]] bool is_zero_page(const std::byte* page);

// Folds an extent's kExtentPages page hashes; the position of each page matters.
[[nodiscard]] ExtentDigest fold_extent(std::span<const PageHash, kExtentPages> hashes);

}  // namespace sluice::page
