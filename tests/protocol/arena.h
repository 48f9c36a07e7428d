// Memory for a session's page space in tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dataplane/base/units.h"
#include "dataplane/page/layout.h"

namespace sluice::protocol {

// Zeroed memory for a page space of at most kPagesMax pages; pages cost nothing until they are
// touched.
class Arena {
 public:
  static constexpr std::uint64_t kPagesMax = 80 * kExtentPages;
  static constexpr std::size_t kGapBytes = 2 * kPageBytes;
  Arena();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void reset();
  // One base per region, with a gap between neighbours, so that nothing may run from one into the
  // next.
  [[nodiscard]] std::vector<std::byte*> bases(const page::Layout& layout) const;

 private:
  std::byte* memory_;
};

}  // namespace sluice::protocol
