// Asks the core for a page before it is needed. The hardware's own prefetching stops at 4 KiB
// borders, so that without this every page begins with a wait for memory.
#pragma once

#include <cstddef>

#include "dataplane/base/units.h"

namespace sluice::page {

// Into the first-level cache. `page` need not be mapped: a hint never faults.
inline void prefetch_page(const std::byte* page) {
  constexpr std::size_t kCacheLineBytes = 64;
  for (std::size_t at = 0; at < kPageBytes; at += kCacheLineBytes) {
    __builtin_prefetch(page + at);
  }
}

}  // namespace sluice::page
