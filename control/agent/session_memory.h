// The memory of one session in this process: the guest's RAM, mapped through its memfd, and room
// for its device state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "dataplane/base/expected.h"
#include "dataplane/page/layout.h"
#include "dataplane/port/dirty_source.h"
#include "drivers/dpdk/data_plane.h"
#include "drivers/guest/guest.h"

namespace sluice::agent {

// Device state is some hundred KiB; this is address space, populated only where it is used.
inline constexpr std::uint64_t kStateRegionBytes = 64UL << 20;
// Regions of the session's page space.
inline constexpr std::size_t kRamRegion = 0;
inline constexpr std::size_t kStateRegion = 1;

class SessionMemory {
 public:
  // Maps the guest's memory and registers it with the data plane if `sending`. kNoCapacity if the
  // kernel refuses.
  [[nodiscard]] static Expected<std::unique_ptr<SessionMemory>> map(const guest::Memory& memory,
                                                                    dpdk::DataPlane& data_plane,
                                                                    bool sending);
  // Only when no flow refers to the memory any more (all reported kStopped).
  ~SessionMemory();
  SessionMemory(const SessionMemory&) = delete;
  SessionMemory& operator=(const SessionMemory&) = delete;

  [[nodiscard]] std::span<std::byte> ram() const { return ram_; }
  [[nodiscard]] std::span<std::byte> state() const { return state_; }
  [[nodiscard]] std::uint64_t ram_pages() const { return ram_.size() / kPageBytes; }
  [[nodiscard]] const page::Layout& layout() const { return layout_; }
  [[nodiscard]] const page::MemoryMap& map() const { return map_; }
  [[nodiscard]] std::vector<std::uint64_t> region_pages() const {
    return {ram_pages(), state_.size() / kPageBytes};
  }
  // Pages of the RAM that hold data, ascending.
  [[nodiscard]] Expected<std::vector<port::PageRun>> populated_runs() const;
  // Allocated pages of the RAM's file, including any outside of the RAM: cheap, and changes when
  // holes are punched.
  [[nodiscard]] std::uint64_t allocated_pages() const;

 private:
  SessionMemory(const guest::Memory& memory, dpdk::DataPlane* sending_through,
                std::span<std::byte> ram, std::span<std::byte> state);

  int memory_fd_;
  std::uint64_t offset_;
  dpdk::DataPlane* sending_through_;  // null at the destination
  std::span<std::byte> ram_;
  std::span<std::byte> state_;
  page::Layout layout_;
  page::MemoryMap map_;
};

// Makes this process's mapping of pages ready on a thread of its own, so that workers do not wait
// for page faults. Its destructor waits for at most the few milliseconds of what it is at.
class Populator {
 public:
  enum class Access : std::uint8_t {
    kRead = 1,  // pages that hold data. A hole among them would be filled with zeros
    kWrite,     // pages that are to come: the first touch of a page costs many times its copy
  };
  Populator(std::span<std::byte> ram, std::vector<port::PageRun> runs, Access access);

 private:
  std::jthread thread_;
};

[[nodiscard]] std::uint64_t count_pages(const std::vector<port::PageRun>& runs);

// Pages of `before` that are not in `after`, both ascending and disjoint. Runs whose gap is at most
// `merge_gap` are joined, so that few remain.
[[nodiscard]] std::vector<port::PageRun> pages_missing(const std::vector<port::PageRun>& before,
                                                       const std::vector<port::PageRun>& after,
                                                       std::uint64_t merge_gap);

}  // namespace sluice::agent
