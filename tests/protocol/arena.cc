#include "tests/protocol/arena.h"

#include <cstdlib>
#include <sys/mman.h>

namespace sluice::protocol {
namespace {

constexpr std::size_t kRegionsMax = 4;
constexpr std::size_t kArenaBytes = Arena::kPagesMax * kPageBytes + kRegionsMax * Arena::kGapBytes;

}  // namespace

Arena::Arena() {
  void* memory = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::abort();
  }
  madvise(memory, kArenaBytes, MADV_NOHUGEPAGE);
  memory_ = static_cast<std::byte*>(memory);
}

Arena::~Arena() { munmap(memory_, kArenaBytes); }

void Arena::reset() { madvise(memory_, kArenaBytes, MADV_DONTNEED); }

std::vector<std::byte*> Arena::bases(const page::Layout& layout) const {
  std::vector<std::byte*> bases;
  for (std::size_t i = 0; i < layout.regions(); ++i) {
    bases.push_back(memory_ + layout.region(i).first * kPageBytes + i * kGapBytes);
  }
  return bases;
}

}  // namespace sluice::protocol
