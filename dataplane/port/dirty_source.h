// What the engine asks of a dirty-page tracker. Implemented by drivers/tracker; by a model in
// tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/base/units.h"

namespace sluice::port {

// A run of consecutive pages: [first, first + count), count > 0. Numbers are relative to the range
// that the source was attached to.
struct PageRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;

  friend bool operator==(const PageRun&, const PageRun&) = default;
};

enum class HarvestStatus : std::uint8_t {
  kOk = 1,
  kTargetGone,  // the tracked process has exited; its memory may still be readable through the fd
  kFailed,      // the kernel refused; tracking can no longer be trusted, the migration must be
                // cancelled
};

struct HarvestResult {
  HarvestStatus status = HarvestStatus::kOk;
  std::size_t runs = 0;  // how many entries of `out` were filled, in ascending order, disjoint
  std::uint64_t next_page = 0;  // where to go on; first + count when the whole request was scanned
};

class DirtySource {
 public:
  virtual ~DirtySource() = default;

  // Returns the pages of [first_page, first_page + page_count) written since they were last
  // harvested (or since tracking began) and write-protects exactly those again, atomically per
  // page. A write that happens after the return is reported by the next call. Stops early when
  // `out` is full. One call per tens of MiB, so it may be virtual. Any thread; disjoint ranges may
  // be scanned at once. Never allocates, never throws.
  virtual HarvestResult harvest(std::uint64_t first_page, std::uint64_t page_count,
                                std::span<PageRun> out) noexcept = 0;
};

}  // namespace sluice::port
