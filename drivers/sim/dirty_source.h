// A dirty-page tracker without a kernel: it reports the pages that its user says were written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "dataplane/page/bitmap.h"
#include "dataplane/port/dirty_source.h"

namespace sluice::sim {

class DirtySource final : public port::DirtySource {
 public:
  explicit DirtySource(std::uint64_t pages) : dirty_(pages) {}

  // `page` is relative to the tracked range.
  void write(std::uint64_t page) { dirty_.set(page); }

  port::HarvestResult harvest(std::uint64_t first_page, std::uint64_t page_count,
                              std::span<port::PageRun> out) noexcept override {
    ++scans;
    pages_scanned += page_count;
    if (status != port::HarvestStatus::kOk) {
      return {status, 0, first_page};
    }
    const std::uint64_t end = first_page + page_count;
    port::HarvestResult result{port::HarvestStatus::kOk, 0, end};
    for (auto page = dirty_.find_next(first_page); page && *page < end;
         page = dirty_.find_next(*page)) {
      if (result.runs == std::min(out.size(), runs_max)) {
        result.next_page = *page;
        break;
      }
      const std::uint64_t count = dirty_.run_length(*page, end - *page);
      out[result.runs++] = {*page, count};
      dirty_.clear_range(*page, count);
    }
    return result;
  }

  // What the next scan says; anything but kOk is a tracker that has failed.
  port::HarvestStatus status = port::HarvestStatus::kOk;
  // Bounds the runs of one scan besides its caller's buffer.
  std::size_t runs_max = SIZE_MAX;
  // How often it was asked, and for how many pages altogether.
  std::uint64_t scans = 0;
  std::uint64_t pages_scanned = 0;

 private:
  page::PageBitmap dirty_;
};

}  // namespace sluice::sim
