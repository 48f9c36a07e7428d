// Copies one page.
#pragma once

#include <cstddef>
#include <cstring>

#include "dataplane/base/units.h"

namespace sluice::page {

// Through libc's memcpy(), which has the widest vectors of the machine. GCC knows the size and
// would put `rep movsq` in its place, which is slow from a source that is not aligned, as behind
// packet headers.
inline void copy_page(std::byte* to, const std::byte* from) {
  std::size_t bytes = kPageBytes;
  asm("" : "+r"(bytes));  // the compiler no longer knows the size
  std::memcpy(to, from, bytes);
}

}  // namespace sluice::page
