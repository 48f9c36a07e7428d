#include "control/agent/memory_sample.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <linux/magic.h>
#include <random>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <vector>
#include <xxhash.h>

#include "control/agent/session_memory.h"
#include "drivers/tracker/dirty_tracker.h"

namespace sluice::agent {
namespace {

// A tenth of the pages being written is seen to within a tenth of it, two times in three.
constexpr std::uint64_t kSampledPages = 4096;
// After which the pages are read again.
constexpr std::array<TimeNs, 2> kPeriodsNs = {250 * kMillisecondNs, 2 * kSecondNs};

class Mapping {
 public:
  explicit Mapping(const guest::Memory& memory)
      : bytes_(memory.bytes),
        address_(mmap(nullptr, memory.bytes, PROT_READ, MAP_SHARED, memory.memory_fd,
                      static_cast<off_t>(memory.offset))) {}
  ~Mapping() {
    if (valid()) munmap(address_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] bool valid() const { return address_ != MAP_FAILED; }
  [[nodiscard]] std::uint64_t hash(PageNumber page) const {
    return XXH3_64bits(static_cast<const std::byte*>(address_) + page * kPageBytes, kPageBytes);
  }

 private:
  std::size_t bytes_;
  void* address_;
};

tl::unexpected<Error> broken_off() {
  return fail(ErrorKind::kFailed, "something else is more important");
}

// One from each of equal parts of what is populated, ascending.
std::vector<PageNumber> choose_pages(const std::vector<port::PageRun>& populated,
                                     std::uint64_t seed) {
  const std::uint64_t pages = count_pages(populated);
  const std::uint64_t wanted = std::min(pages, kSampledPages);
  std::mt19937_64 random(seed);
  std::vector<PageNumber> chosen;
  auto run = populated.begin();
  std::uint64_t before = 0;  // pages in the runs before `run`
  for (std::uint64_t i = 0; i < wanted; ++i) {
    const std::uint64_t first = pages * i / wanted;
    const std::uint64_t end = pages * (i + 1) / wanted;
    const std::uint64_t index = std::uniform_int_distribution(first, end - 1)(random);
    for (; index - before >= run->count; ++run) before += run->count;
    chosen.push_back(run->first + (index - before));
  }
  return chosen;
}

}  // namespace

Expected<MemorySample> sample_memory(const guest::Memory& memory, std::uint64_t seed,
                                     const WaitUntil& wait_until) {
  // There the kernel calls a whole file data, and reading a hole fills it with a huge page.
  struct statfs about {};
  if (fstatfs(memory.memory_fd, &about) == 0 && about.f_type == HUGETLBFS_MAGIC) {
    return fail(ErrorKind::kUnsupported,
                "memory on hugetlbfs is not sampled: holes in it cannot be told from data");
  }
  const auto populated = tracker::populated_runs(memory.memory_fd, memory.offset, memory.bytes);
  if (!populated) return tl::unexpected<Error>(populated.error());
  MemorySample sample;
  sample.populated_bytes = count_pages(*populated) * kPageBytes;
  const auto pages = choose_pages(*populated, seed);
  if (pages.empty()) return sample;
  const Mapping mapping(memory);
  if (!mapping.valid()) {
    return fail(ErrorKind::kNoCapacity,
                fmt::format("guest memory cannot be mapped: {}", std::strerror(errno)));
  }
  std::vector<std::uint64_t> hashes(pages.size());
  std::transform(pages.begin(), pages.end(), hashes.begin(),
                 [&](const PageNumber page) { return mapping.hash(page); });
  if (!wait_until(0)) return broken_off();
  std::vector<bool> changed(pages.size(), false);
  std::vector<model::Dirtied> seen;
  for (const TimeNs period_ns : kPeriodsNs) {
    const auto elapsed_ns = wait_until(period_ns);
    if (!elapsed_ns) return broken_off();
    for (std::size_t i = 0; i < pages.size(); ++i)
      changed[i] = changed[i] || mapping.hash(pages[i]) != hashes[i];
    const auto dirty = static_cast<std::uint64_t>(std::count(changed.begin(), changed.end(), true));
    seen.push_back({sample.populated_bytes / pages.size() * dirty, *elapsed_ns});
  }
  sample.dirtying = model::fit_dirtying(seen);
  return sample;
}

}  // namespace sluice::agent
