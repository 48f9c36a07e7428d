// Tracks which pages of a process's shared memory are written, from outside that process.
//
// One `userfaultfd` is made inside the target by syscall injection (ptrace), brought here with
// pidfd_getfd, and used in asynchronous write-protect mode together with the PAGEMAP_SCAN ioctl on
// /proc/PID/pagemap (Linux 6.7, Documentation/admin-guide/mm/pagemap.rst). No fault is ever delivered
// to us: if this process dies, the target runs on. For our own process nothing is injected.
//
// What it cannot see, so that callers must refuse it: writes through another mapping of the same memory
// (vhost-user back ends), hole punches (balloons) and device DMA (VFIO).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/port/dirty_source.h"

namespace sluice::tracker {

// Part of a process's address space, page-aligned, backed by shared memory (memfd, tmpfs or hugetlbfs).
struct AddressRange {
  std::uint64_t address = 0;  // in the target's address space
  std::uint64_t bytes = 0;
};

// What attaching cost, for the log.
struct AttachFigures {
  std::uint64_t target_stopped_ns = 0;  // how long the target's main thread stood still; 0 for our own process
  std::uint64_t baseline_ns = 0;        // the first scan, which write-protects everything
  std::uint64_t page_bytes = 0;         // granularity the kernel tracks at: 4096, or 2 MiB on hugetlbfs
};

class DirtyTracker final : public port::DirtySource {
 public:
  // Starts tracking; from the return on, every written page is reported once by harvest().
  // Errors: kUnsupported (kernel without PAGEMAP_SCAN or WP_ASYNC, named with the version needed; memory that
  // is not shared), kPermission (ptrace refused, names the capability), kNotFound (no such process or range),
  // kBusy (the range is tracked by another userfaultfd already). After an error nothing is left in the target.
  [[nodiscard]] static Expected<std::unique_ptr<DirtyTracker>> attach(pid_t pid, AddressRange range);

  // Detaches if that was not done before.
  ~DirtyTracker() override;
  DirtyTracker(const DirtyTracker&) = delete;
  DirtyTracker& operator=(const DirtyTracker&) = delete;

  port::HarvestResult harvest(std::uint64_t first_page, std::uint64_t page_count,
                              std::span<port::PageRun> out) noexcept override;

  // Unregisters the range and closes the descriptor here and inside the target (a second injection). A target
  // that is gone is no error. Idempotent. No thread may be in harvest().
  [[nodiscard]] Expected<void> detach();

  [[nodiscard]] const AttachFigures& figures() const;

 private:
  struct Impl;
  explicit DirtyTracker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Says whether this kernel can track at all (a trial on a page of our own); the error names what is missing.
[[nodiscard]] Expected<void> check_kernel_support();

// The runs of pages of `memory_fd` within [offset, offset + bytes) that hold data (SEEK_DATA/SEEK_HOLE), relative
// to `offset`, ascending. The rest was never populated (or was punched out) and reads as zeros.
[[nodiscard]] Expected<std::vector<port::PageRun>> populated_runs(int memory_fd, std::uint64_t offset,
                                                                  std::uint64_t bytes);

}  // namespace sluice::tracker
