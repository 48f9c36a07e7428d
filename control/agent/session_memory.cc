#include "control/agent/session_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "drivers/tracker/dirty_tracker.h"

namespace sluice::agent {
namespace {

constexpr std::size_t kPopulateChunkBytes = 4UL << 20;

Expected<std::span<std::byte>> map_shared(int fd, std::uint64_t offset, std::uint64_t bytes,
                                          const char* what) {
  void* address =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) {
    return fail(ErrorKind::kNoCapacity, fmt::format("{} MiB of {} cannot be mapped: {}",
                                                    bytes >> 20, what, std::strerror(errno)));
  }
  return std::span(static_cast<std::byte*>(address), bytes);
}

Expected<std::span<std::byte>> make_state_region() {
  const int fd = memfd_create("sluice-state", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(kStateRegionBytes)) != 0) {
    const int reason = errno;
    if (fd >= 0) close(fd);
    return fail(ErrorKind::kNoCapacity,
                fmt::format("no memory for the device state: {}", std::strerror(reason)));
  }
  auto region = map_shared(fd, 0, kStateRegionBytes, "device state");
  close(fd);
  return region;
}

}  // namespace

Expected<std::unique_ptr<SessionMemory>> SessionMemory::map(const guest::Memory& memory,
                                                            dpdk::DataPlane& data_plane,
                                                            bool sending) {
  auto ram = map_shared(memory.memory_fd, memory.offset, memory.bytes, "guest memory");
  if (!ram) return tl::unexpected<Error>(ram.error());
  auto state = make_state_region();
  if (!state) {
    munmap(ram->data(), ram->size());
    return tl::unexpected<Error>(state.error());
  }
  std::unique_ptr<SessionMemory> mapped(new SessionMemory(memory, nullptr, *ram, *state));
  if (!sending) return mapped;
  if (auto registered = data_plane.register_memory(ram->data(), ram->size()); !registered)
    return tl::unexpected<Error>(registered.error());
  if (auto registered = data_plane.register_memory(state->data(), state->size()); !registered) {
    data_plane.unregister_memory(ram->data(), ram->size());
    return tl::unexpected<Error>(registered.error());
  }
  mapped->sending_through_ = &data_plane;
  return mapped;
}

SessionMemory::SessionMemory(const guest::Memory& memory, dpdk::DataPlane* sending_through,
                             std::span<std::byte> ram, std::span<std::byte> state)
    : memory_fd_(memory.memory_fd),
      offset_(memory.offset),
      sending_through_(sending_through),
      ram_(ram),
      state_(state),
      layout_({ram.size() / kPageBytes, state.size() / kPageBytes}),
      map_(layout_, {ram.data(), state.data()}) {}

SessionMemory::~SessionMemory() {
  if (sending_through_ != nullptr) {
    sending_through_->unregister_memory(ram_.data(), ram_.size());
    sending_through_->unregister_memory(state_.data(), state_.size());
  }
  munmap(ram_.data(), ram_.size());
  munmap(state_.data(), state_.size());
}

Expected<std::vector<port::PageRun>> SessionMemory::populated_runs() const {
  return tracker::populated_runs(memory_fd_, offset_, ram_.size());
}

std::uint64_t SessionMemory::allocated_pages() const {
  struct stat status {};
  if (fstat(memory_fd_, &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.st_blocks) * 512 / kPageBytes;
}

Populator::Populator(std::span<std::byte> ram, std::vector<port::PageRun> runs, Access access)
    : thread_([ram, runs = std::move(runs), access](const std::stop_token& stop) {
        const int advice = access == Access::kRead ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
        for (const auto& run : runs) {
          const std::size_t end = (run.first + run.count) * kPageBytes;
          for (std::size_t at = run.first * kPageBytes; at < end; at += kPopulateChunkBytes) {
            if (stop.stop_requested()) return;
            // What fails here is populated by the worker's accesses instead.
            madvise(ram.data() + at, std::min(kPopulateChunkBytes, end - at), advice);
          }
        }
      }) {}

std::uint64_t count_pages(const std::vector<port::PageRun>& runs) {
  std::uint64_t pages = 0;
  for (const auto& run : runs) pages += run.count;
  return pages;
}

std::vector<port::PageRun> pages_missing(const std::vector<port::PageRun>& before,
                                         const std::vector<port::PageRun>& after,
                                         std::uint64_t merge_gap) {
  std::vector<port::PageRun> missing;
  const auto add = [&](std::uint64_t first, std::uint64_t end) {
    if (first >= end) return;
    if (!missing.empty() && first - (missing.back().first + missing.back().count) <= merge_gap) {
      missing.back().count = end - missing.back().first;
    } else {
      missing.push_back({first, end - first});
    }
  };
  auto present = after.begin();
  for (const auto& run : before) {
    std::uint64_t cursor = run.first;
    const std::uint64_t end = run.first + run.count;
    while (present != after.end() && present->first + present->count <= cursor) ++present;
    for (auto it = present; it != after.end() && it->first < end; ++it) {
      add(cursor, std::min(it->first, end));
      cursor = std::max(cursor, it->first + it->count);
    }
    add(cursor, end);
  }
  return missing;
}

}  // namespace sluice::agent
