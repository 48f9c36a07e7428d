// Tracks which pages of a process's shared memory are written, from outside that process.
//
// One `userfaultfd` is made inside the target by syscall injection (ptrace), brought here with
// pidfd_getfd, closed in the target again during the same stop, and used in asynchronous
// write-protect mode together with the PAGEMAP_SCAN ioctl on /proc/PID/pagemap (Linux 6.7,
// Documentation/admin-guide/mm/pagemap.rst). No fault is ever delivered to us. The only descriptor
// is ours: if this process dies, the kernel ends the tracking and the target runs on with nothing
// left behind. For our own process nothing is injected.
//
// Costs the target: page tables for the whole range (2 MiB a GiB) and, where its memory was mapped
// in transparent huge pages, their split into 4 KiB mappings.
//
// What it cannot see, so that callers must refuse it or compare all memory in the end: writes
// through another mapping of the same memory (vhost-user back ends), hole punches (balloons) and
// DMA: of devices (VFIO), and of reads with O_DIRECT, whose pages count as written when the read
// begins and not when the data comes.
#pragma once

#include <cstdint>
#include <memory>
#include <sys/types.h>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/port/dirty_source.h"

namespace sluice::tracker {

// Part of a process's address space, page-aligned, backed by shared memory (memfd, tmpfs or
// hugetlbfs).
struct AddressRange {
  std::uint64_t address = 0;  // in the target's address space
  std::uint64_t bytes = 0;
};

// What attaching cost, for the log.
struct AttachFigures {
  // How long the target's main thread stood still; 0 for our own process.
  std::uint64_t target_stopped_ns = 0;
  // Write-protecting everything once, while the target runs.
  std::uint64_t baseline_ns = 0;
  // The granularity that the kernel tracks at: 4096, or 2 MiB on hugetlbfs.
  std::uint64_t page_bytes = 0;
};

class DirtyTracker final : public port::DirtySource {
 public:
  // Starts tracking; from the return on, every written page is reported once by harvest(). A page
  // that was only read is not, whether it was populated before or not. Errors: kInvalid (a range
  // that is not whole pages of the memory's page size), kUnsupported (kernel without PAGEMAP_SCAN
  // or WP_ASYNC, named with the version needed; memory that is not shared), kPermission (ptrace
  // refused, names the capability), kNotFound (no such process or range), kBusy (the range is
  // tracked by another userfaultfd already). After an error nothing is left in the target.
  [[nodiscard]] static Expected<std::unique_ptr<DirtyTracker>> attach(pid_t pid,
                                                                      AddressRange range);

  // Detaches if that was not done before.
  ~DirtyTracker() override;
  DirtyTracker(const DirtyTracker&) = delete;
  DirtyTracker& operator=(const DirtyTracker&) = delete;

  // As port::DirtySource says. On hugetlbfs memory `first_page` and `page_count` must be multiples
  // of figures().page_bytes / 4096, and a run covers whole huge pages; otherwise the status is
  // kFailed. kTargetGone also when the target replaced its memory by execve(), kFailed when it
  // unmapped part of the range.
  port::HarvestResult harvest(std::uint64_t first_page, std::uint64_t page_count,
                              std::span<port::PageRun> out) noexcept override;

  // Unregisters the range, which lifts all write protection, and closes the descriptors. The target
  // is not stopped. A target that is gone is no error. Idempotent. No thread may be in harvest(),
  // now or later.
  [[nodiscard]] Expected<void> detach();

  [[nodiscard]] const AttachFigures& figures() const;

 private:
  struct Impl;
  explicit DirtyTracker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Says whether this kernel can track at all (a trial on a page of our own); the error names what is
// missing.
[[nodiscard]] Expected<void> check_kernel_support();

// The runs of pages of `memory_fd` within [offset, offset + bytes) that hold data
// (SEEK_DATA/SEEK_HOLE), relative to `offset`, ascending. The rest was never populated (or was
// punched out) and reads as zeros.
[[nodiscard]] Expected<std::vector<port::PageRun>> populated_runs(int memory_fd,
                                                                  std::uint64_t offset,
                                                                  std::uint64_t bytes);

}  // namespace sluice::tracker
