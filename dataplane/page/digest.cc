#include "dataplane/page/digest.h"

#include <isa-l/mem_routines.h>
#include <xxh_x86dispatch.h>

namespace sluice::page {

// An extent's hashes are exactly as many bytes as a page, so that one function serves both.
static_assert(kExtentPages * sizeof(PageHash) == kPageBytes);

PageHash hash_page(const std::byte* page) { return XXH3_64bits_dispatch(page, kPageBytes); }

PageHash zero_page_hash() { return 0x93D76FE148C689BAULL; }

bool is_zero_page(const std::byte* page) {
  // ISA-L only reads, but asks for a pointer to mutable memory.
  return isal_zero_detect(const_cast<std::byte*>(page), kPageBytes) == 0;
}

ExtentDigest fold_extent(std::span<const PageHash, kExtentPages> hashes) {
  return XXH3_64bits_dispatch(hashes.data(), hashes.size_bytes());
}

}  // namespace sluice::page
