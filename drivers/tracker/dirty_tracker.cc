#include "drivers/tracker/dirty_tracker.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <optional>
#include <string>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utility>

#include "drivers/base/file_descriptor.h"
#include "drivers/tracker/kernel_abi.h"
#include "drivers/tracker/proc_files.h"
#include "drivers/tracker/syscall_injection.h"

namespace sluice::tracker {

namespace {

constexpr const char* kKernelNeeded = "Linux 6.7 or newer with CONFIG_USERFAULTFD is needed";

// The largest page that PAGEMAP_SCAN can protect (fs/proc/task_mmu.c: pagemap_scan_hugetlb_entry).
constexpr std::uint64_t kLargestPageBytes = 2ULL << 20;

// Bounds how long one call holds the target's mmap lock.
constexpr std::uint64_t kBaselineStepBytes = 256ULL << 20;

// UFFD_USER_MODE_ONLY lets an unprivileged target make the descriptor. It only forbids faults of
// the kernel that somebody must answer; in asynchronous mode nobody ever does, so KVM's and system
// calls' writes are seen all the same.
constexpr int kUserfaultfdFlags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;

std::string describe(pid_t pid, AddressRange range) {
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "memory 0x%" PRIx64 "-0x%" PRIx64 " of process %d",
                range.address, range.address + range.bytes, pid);
  return text.data();
}

tl::unexpected<Error> system_error(ErrorKind kind, const std::string& what, int error_number) {
  return fail(kind, what + ": " + std::strerror(error_number));
}

// The size of the pages behind one mapping; an error if it is not memory that can be tracked.
Expected<std::uint64_t> shared_page_bytes(pid_t pid, const Mapping& mapping,
                                          const std::string& range_name) {
  if (!mapping.shared) {
    return fail(ErrorKind::kUnsupported,
                range_name + " is private, not shared; back the guest's RAM with share=on");
  }
  const FileDescriptor file(::open(mapping.file_link(pid).c_str(), O_PATH | O_CLOEXEC));
  if (!file.valid()) return tl::unexpected(process_error(pid, "looking at the memory", errno));
  struct statfs file_system {};
  if (::fstatfs(file.get(), &file_system) != 0) {
    return system_error(ErrorKind::kFailed, "statfs of " + range_name, errno);
  }
  if (file_system.f_type == HUGETLBFS_MAGIC) return static_cast<std::uint64_t>(file_system.f_bsize);
  if (file_system.f_type == TMPFS_MAGIC) return kPageBytes;
  return fail(ErrorKind::kUnsupported, range_name + " is the file " + mapping.name +
                                           "; only memfd, tmpfs and hugetlbfs can be tracked");
}

// Checks that the range is wholly mapped, shared and of one page size, which it returns.
Expected<std::uint64_t> check_range(pid_t pid, AddressRange range) {
  const std::string name = describe(pid, range);
  const std::uint64_t end = range.address + range.bytes;
  if (range.bytes == 0 || end < range.address || range.address % kPageBytes != 0 ||
      range.bytes % kPageBytes != 0) {
    return fail(ErrorKind::kInvalid, name + " is not a range of whole pages");
  }
  const auto mappings = read_mappings(pid);
  if (!mappings) return tl::unexpected(mappings.error());
  std::uint64_t page_bytes = 0;
  std::uint64_t covered_to = range.address;
  for (const Mapping& mapping : *mappings) {
    if (mapping.end <= covered_to || mapping.start > covered_to || covered_to >= end) continue;
    const auto bytes = shared_page_bytes(pid, mapping, name);
    if (!bytes) return tl::unexpected(bytes.error());
    if (page_bytes != 0 && *bytes != page_bytes) {
      return fail(ErrorKind::kUnsupported,
                  name + " mixes page sizes; attach to each part on its own");
    }
    page_bytes = *bytes;
    covered_to = mapping.end;
  }
  if (covered_to < end) return fail(ErrorKind::kNotFound, name + " is not mapped");
  if (page_bytes > kLargestPageBytes) {
    return fail(ErrorKind::kUnsupported, name + " is in huge pages of " +
                                             std::to_string(page_bytes >> 20) +
                                             " MiB; use pages of 2 MiB or 4 KiB");
  }
  if (range.address % page_bytes != 0 || range.bytes % page_bytes != 0) {
    return fail(ErrorKind::kInvalid, name + " is not a range of whole huge pages");
  }
  return page_bytes;
}

tl::unexpected<Error> userfaultfd_error(pid_t pid, int error_number) {
  switch (error_number) {
    case ENOSYS:
      return fail(ErrorKind::kUnsupported,
                  std::string("this kernel has no userfaultfd; ") + kKernelNeeded);
    case EPERM:
      return fail(ErrorKind::kPermission,
                  "process " + std::to_string(pid) +
                      " may not make a userfaultfd; let its security policy allow it");
    default:
      return system_error(ErrorKind::kNoCapacity,
                          "making a userfaultfd in process " + std::to_string(pid), error_number);
  }
}

// A userfaultfd that acts on the target's address space and that only we hold.
Expected<FileDescriptor> make_userfaultfd(pid_t pid, std::uint64_t& target_stopped_ns) {
  if (pid == ::getpid()) {
    FileDescriptor own(static_cast<int>(::syscall(SYS_userfaultfd, kUserfaultfdFlags)));
    if (!own.valid()) return userfaultfd_error(pid, errno);
    return own;
  }
  const FileDescriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return tl::unexpected(process_error(pid, "opening", errno));
  FileDescriptor ours;
  const auto stopped_ns = inject(pid, [&](StoppedProcess& target) -> Expected<void> {
    const auto theirs = target.call(SYS_userfaultfd, {kUserfaultfdFlags});
    if (!theirs) return tl::unexpected(theirs.error());
    if (*theirs < 0) return userfaultfd_error(pid, static_cast<int>(-*theirs));
    ours = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), *theirs, 0)));
    const int getfd_errno = errno;
    const auto closed = target.call(SYS_close, {static_cast<std::uint64_t>(*theirs)});
    if (!closed) return tl::unexpected(closed.error());
    if (!ours.valid())
      return tl::unexpected(process_error(pid, "taking the userfaultfd out", getfd_errno));
    return {};
  });
  if (!stopped_ns) return tl::unexpected(stopped_ns.error());
  target_stopped_ns = *stopped_ns;
  return ours;
}

Expected<void> register_range(int userfaultfd, pid_t pid, AddressRange range) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                 abi::kFeatureWpUnpopulated | abi::kFeatureWpAsync;
  if (::ioctl(userfaultfd, UFFDIO_API, &api) != 0) {
    return fail(
        ErrorKind::kUnsupported,
        std::string("this kernel's userfaultfd lacks UFFD_FEATURE_WP_ASYNC; ") + kKernelNeeded);
  }
  uffdio_register request{};
  request.range = {range.address, range.bytes};
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(userfaultfd, UFFDIO_REGISTER, &request) == 0) return {};
  if (errno == EBUSY) {
    return fail(ErrorKind::kBusy,
                describe(pid, range) + " is tracked by another userfaultfd already");
  }
  return system_error(errno == ENOMEM ? ErrorKind::kNoCapacity : ErrorKind::kUnsupported,
                      describe(pid, range) + " cannot be tracked", errno);
}

// Write-protects every page, also those that were never populated: the target may then populate a
// page by reading it without that looking like a write. (A scan would leave parts without page
// tables unprotected.)
Expected<void> protect_everything(int userfaultfd, pid_t pid, AddressRange range) {
  for (std::uint64_t done = 0; done < range.bytes;) {
    const std::uint64_t step = std::min(kBaselineStepBytes, range.bytes - done);
    uffdio_writeprotect request{};
    request.range = {range.address + done, step};
    request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    if (::ioctl(userfaultfd, UFFDIO_WRITEPROTECT, &request) != 0) {
      if (errno == EAGAIN) continue;
      return system_error(ErrorKind::kFailed, "write-protecting " + describe(pid, range), errno);
    }
    done += step;
  }
  return {};
}

// A scan that asks for written pages and nothing else, and protects what it reports. These very
// masks take the kernel's fast path, the only one that got unpopulated pages right in every kernel
// since 6.7.
abi::ScanArgument scan_argument(std::uint64_t start, std::uint64_t end,
                                std::span<abi::PageRegion> regions) {
  abi::ScanArgument argument{};
  argument.size = sizeof(argument);
  argument.flags = abi::kScanWpMatching | abi::kScanCheckWpAsync;
  argument.start = start;
  argument.end = end;
  argument.vec = reinterpret_cast<std::uint64_t>(regions.data());
  argument.vec_len = regions.size();
  argument.category_mask = abi::kPageIsWritten;
  argument.return_mask = abi::kPageIsWritten;
  return argument;
}

// Adds the run, to the last one if it goes on there. There is room: one entry for each region the
// kernel may return.
void append(std::span<port::PageRun> out, port::HarvestResult& result, port::PageRun run) {
  if (result.runs > 0) {
    port::PageRun& last = out[result.runs - 1];
    if (last.first + last.count == run.first) {
      last.count += run.count;
      return;
    }
  }
  out[result.runs++] = run;
}

}  // namespace

struct DirtyTracker::Impl {
  pid_t pid = 0;
  AddressRange range;
  AttachFigures figures;
  FileDescriptor userfaultfd;
  FileDescriptor pagemap;
  FileDescriptor memory;  // /proc/PID/mem, see address_space_status()

  Expected<void> open_proc_files();
  Expected<void> check_scan() const;
  Expected<void> start();
  [[nodiscard]] port::HarvestStatus address_space_status() const;
};

Expected<void> DirtyTracker::Impl::open_proc_files() {
  pagemap = FileDescriptor(::open(proc_path(pid, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return tl::unexpected(process_error(pid, "opening the page map", errno));
  memory = FileDescriptor(::open(proc_path(pid, "mem").c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid()) return tl::unexpected(process_error(pid, "opening the memory", errno));
  return {};
}

// Reports nothing and protects nothing: there is nothing in an empty range.
Expected<void> DirtyTracker::Impl::check_scan() const {
  std::array<abi::PageRegion, 1> regions{};
  abi::ScanArgument argument = scan_argument(range.address, range.address, regions);
  if (::ioctl(pagemap.get(), abi::kPagemapScan, &argument) >= 0) return {};
  if (errno == ENOTTY || errno == EINVAL) {
    return fail(ErrorKind::kUnsupported,
                std::string("this kernel lacks PAGEMAP_SCAN; ") + kKernelNeeded);
  }
  return system_error(ErrorKind::kFailed, "scanning " + describe(pid, range), errno);
}

// A scan of an address space that is being torn down succeeds and reports nothing, and the process
// is not yet reported dead then. Reading /proc/PID/mem takes a reference on the address space or
// returns 0, for good, so if it works after a scan, the memory was there during the scan.
// (fs/proc/base.c: mem_rw, mmget_not_zero)
port::HarvestStatus DirtyTracker::Impl::address_space_status() const {
  char byte = 0;
  const ssize_t count = ::pread(memory.get(), &byte, 1, static_cast<off_t>(range.address));
  if (count == 0) return port::HarvestStatus::kTargetGone;
  return count == 1 ? port::HarvestStatus::kOk : port::HarvestStatus::kFailed;
}

Expected<void> DirtyTracker::Impl::start() {
  if (auto can_scan = check_scan(); !can_scan) return can_scan;
  auto made = make_userfaultfd(pid, figures.target_stopped_ns);
  if (!made) return tl::unexpected(made.error());
  userfaultfd = std::move(*made);
  if (auto registered = register_range(userfaultfd.get(), pid, range); !registered)
    return registered;
  const auto begin = std::chrono::steady_clock::now();
  auto protected_all = protect_everything(userfaultfd.get(), pid, range);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  figures.baseline_ns = static_cast<std::uint64_t>(elapsed / std::chrono::nanoseconds(1));
  return protected_all;
}

DirtyTracker::DirtyTracker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

DirtyTracker::~DirtyTracker() { static_cast<void>(detach()); }

Expected<std::unique_ptr<DirtyTracker>> DirtyTracker::attach(pid_t pid, AddressRange range) {
  auto page_bytes = check_range(pid, range);
  if (!page_bytes) return tl::unexpected(page_bytes.error());
  auto impl = std::make_unique<Impl>();
  impl->pid = pid;
  impl->range = range;
  impl->figures.page_bytes = *page_bytes;
  if (auto opened = impl->open_proc_files(); !opened) return tl::unexpected(opened.error());

  if (auto started = impl->start(); !started) {
    // Whatever the kernel then calls it, and it has several names for it.
    if (impl->address_space_status() == port::HarvestStatus::kTargetGone) {
      return tl::unexpected(process_error(pid, "tracking", ESRCH));
    }
    return tl::unexpected(started.error());
  }
  return std::unique_ptr<DirtyTracker>(new DirtyTracker(std::move(impl)));
}

port::HarvestResult DirtyTracker::harvest(std::uint64_t first_page, std::uint64_t page_count,
                                          std::span<port::PageRun> out) noexcept {
  port::HarvestResult result;
  result.next_page = first_page;
  const std::uint64_t pages = impl_->range.bytes / kPageBytes;
  const std::uint64_t unit = impl_->figures.page_bytes / kPageBytes;
  if (first_page > pages || page_count > pages - first_page || first_page % unit != 0 ||
      page_count % unit != 0) {
    result.status = port::HarvestStatus::kFailed;
    return result;
  }
  const std::uint64_t base = impl_->range.address;
  const std::uint64_t end_page = first_page + page_count;
  std::array<abi::PageRegion, 128> regions;
  // Never with room for no region: the kernel would protect pages without reporting them.
  while (result.next_page < end_page && result.runs < out.size()) {
    const std::span<abi::PageRegion> room(regions.data(),
                                          std::min(regions.size(), out.size() - result.runs));
    abi::ScanArgument argument =
        scan_argument(base + result.next_page * kPageBytes, base + end_page * kPageBytes, room);
    const int count = ::ioctl(impl_->pagemap.get(), abi::kPagemapScan, &argument);
    if (count < 0 || argument.walk_end <= argument.start) {
      result.status = port::HarvestStatus::kFailed;
      break;
    }
    for (const abi::PageRegion& region : room.first(static_cast<std::size_t>(count))) {
      append(out, result,
             {(region.start - base) / kPageBytes, (region.end - region.start) / kPageBytes});
    }
    result.next_page = (argument.walk_end - base) / kPageBytes;
  }
  const port::HarvestStatus status = impl_->address_space_status();
  if (status != port::HarvestStatus::kOk) result.status = status;
  return result;
}

Expected<void> DirtyTracker::detach() {
  if (!impl_->userfaultfd.valid()) return {};
  uffdio_range request{impl_->range.address, impl_->range.bytes};
  const int unregister_errno =
      ::ioctl(impl_->userfaultfd.get(), UFFDIO_UNREGISTER, &request) == 0 ? 0 : errno;
  const bool whole = impl_->address_space_status() == port::HarvestStatus::kOk;
  // EINVAL: the target has put something else there; closing unregisters whatever it still has of
  // the range.
  impl_->userfaultfd.reset();
  impl_->pagemap.reset();
  impl_->memory.reset();
  if (unregister_errno == 0 || unregister_errno == EINVAL || !whole) return {};
  return system_error(ErrorKind::kFailed, "unregistering " + describe(impl_->pid, impl_->range),
                      unregister_errno);
}

const AttachFigures& DirtyTracker::figures() const { return impl_->figures; }

Expected<void> check_kernel_support() {
  const FileDescriptor file(::memfd_create("sluice-kernel-check", MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), kPageBytes) != 0) {
    return system_error(ErrorKind::kNoCapacity, "making a page of memory for a trial", errno);
  }
  void* const page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (page == MAP_FAILED)
    return system_error(ErrorKind::kNoCapacity, "mapping a page for a trial", errno);
  const auto trial = [&]() -> Expected<void> {
    auto tracker =
        DirtyTracker::attach(::getpid(), {reinterpret_cast<std::uint64_t>(page), kPageBytes});
    if (!tracker) return tl::unexpected(tracker.error());
    std::array<port::PageRun, 2> runs{};
    const auto before = (*tracker)->harvest(0, 1, runs);
    *static_cast<volatile char*>(page) = 1;
    const auto after = (*tracker)->harvest(0, 1, runs);
    if (before.status != port::HarvestStatus::kOk || after.status != port::HarvestStatus::kOk ||
        before.runs != 0 || after.runs != 1) {
      return fail(ErrorKind::kUnsupported,
                  std::string("this kernel does not track writes as it should; ") + kKernelNeeded);
    }
    return (*tracker)->detach();
  };
  auto result = trial();
  ::munmap(page, kPageBytes);
  return result;
}

}  // namespace sluice::tracker
