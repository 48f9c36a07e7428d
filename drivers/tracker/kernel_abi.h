// The parts of Linux 6.7's user-space interface that Debian 12's headers (6.1) lack. Values and
// layouts are those of include/uapi/linux/fs.h (PAGEMAP_SCAN) and include/uapi/linux/userfaultfd.h
// (WP_ASYNC, WP_UNPOPULATED). They have names of our own, so that newer headers do not clash.
#pragma once

#include <cstdint>
#include <linux/ioctl.h>

namespace sluice::tracker::abi {

// userfaultfd.h: uffdio_api.features.
inline constexpr std::uint64_t kFeatureWpUnpopulated = 1ULL << 13;  // Linux 6.4
inline constexpr std::uint64_t kFeatureWpAsync = 1ULL << 15;        // Linux 6.7

// fs.h: struct page_region.
struct PageRegion {
  std::uint64_t start;  // address
  std::uint64_t end;    // address, exclusive
  std::uint64_t categories;
};
static_assert(sizeof(PageRegion) == 24);

// fs.h: struct pm_scan_arg.
struct ScanArgument {
  std::uint64_t size;   // sizeof(ScanArgument)
  std::uint64_t flags;  // kScan...
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;  // out: where the scan stopped
  std::uint64_t vec;  // PageRegion array; with vec_len 0 matches are protected but not reported
  std::uint64_t vec_len;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};
static_assert(sizeof(ScanArgument) == 96);

inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArgument);
static_assert(kPagemapScan == 0xC0606610UL);

inline constexpr std::uint64_t kPageIsWritten = 1U << 1;

inline constexpr std::uint64_t kScanWpMatching = 1U << 0;
inline constexpr std::uint64_t kScanCheckWpAsync = 1U << 1;

}  // namespace sluice::tracker::abi
