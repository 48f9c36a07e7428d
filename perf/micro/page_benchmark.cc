// What one page costs on one core: hashing, zero detection and copying, from cache and from memory,
// and the search for the next dirty page. "cycles_per_page" counts the time-stamp counter, so it
// does not depend on the clock's frequency.
#include <benchmark/benchmark.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
#include <x86intrin.h>

#include "dataplane/base/random.h"
#include "dataplane/base/units.h"
#include "dataplane/page/bitmap.h"
#include "dataplane/page/digest.h"

namespace sluice::page {
namespace {

constexpr std::int64_t kPagesInCache = 64;       // 256 KiB
constexpr std::int64_t kPagesInMemory = 65'536;  // 256 MiB

// Memory of `pages` pages, aligned to pages.
class PageBuffer {
 public:
  PageBuffer(std::size_t pages, std::byte fill) : memory_((pages + 1) * kPageBytes, fill) {
    const auto misaligned = reinterpret_cast<std::uintptr_t>(memory_.data()) % kPageBytes;
    base_ = memory_.data() + (kPageBytes - misaligned) % kPageBytes;
  }
  [[nodiscard]] std::byte* page(std::size_t index) { return base_ + index * kPageBytes; }

 private:
  std::vector<std::byte> memory_;
  std::byte* base_;
};

void report(benchmark::State& state, std::uint64_t cycles, std::uint64_t pages_per_iteration) {
  const auto pages = static_cast<std::uint64_t>(state.iterations()) * pages_per_iteration;
  state.counters["cycles_per_page"] = static_cast<double>(cycles) / static_cast<double>(pages);
  state.SetBytesProcessed(static_cast<std::int64_t>(pages * kPageBytes));
}

// Runs visit(index) over as many pages as the benchmark's argument says, again and again.
template <typename Visit>
void walk_pages(benchmark::State& state, Visit visit) {
  const auto pages = static_cast<std::size_t>(state.range(0));
  std::uint64_t cycles = 0;
  for (auto _ : state) {
    const std::uint64_t begin = __rdtsc();
    for (std::size_t i = 0; i < pages; ++i) {
      visit(i);
    }
    cycles += __rdtsc() - begin;
  }
  report(state, cycles, pages);
}

void hash(benchmark::State& state) {
  PageBuffer buffer(static_cast<std::size_t>(state.range(0)), std::byte{0x5A});
  walk_pages(state, [&](std::size_t i) { benchmark::DoNotOptimize(hash_page(buffer.page(i))); });
}

// A page of zeros is read to its end; any other usually is not.
void zero_detect(benchmark::State& state) {
  PageBuffer buffer(static_cast<std::size_t>(state.range(0)), std::byte{0});
  walk_pages(state, [&](std::size_t i) { benchmark::DoNotOptimize(is_zero_page(buffer.page(i))); });
}

void zero_detect_of_data(benchmark::State& state) {
  PageBuffer buffer(static_cast<std::size_t>(state.range(0)), std::byte{0x5A});
  walk_pages(state, [&](std::size_t i) { benchmark::DoNotOptimize(is_zero_page(buffer.page(i))); });
}

void copy(benchmark::State& state) {
  const auto pages = static_cast<std::size_t>(state.range(0));
  PageBuffer from(pages, std::byte{0x5A});
  PageBuffer to(pages, std::byte{0});
  walk_pages(state, [&](std::size_t i) {
    std::memcpy(to.page(i), from.page(i), kPageBytes);
    benchmark::ClobberMemory();
  });
}

// Finds every dirty page among 16 Mi pages (64 GiB of guest memory); the argument is how many are
// dirty.
void bitmap_scan(benchmark::State& state) {
  constexpr std::uint64_t kPages = std::uint64_t{1} << 24U;
  PageBitmap bitmap(kPages);
  Random random(1);
  while (bitmap.count() < static_cast<std::uint64_t>(state.range(0))) {
    bitmap.set(random.below(kPages));
  }
  std::uint64_t cycles = 0;
  for (auto _ : state) {
    const std::uint64_t begin = __rdtsc();
    std::uint64_t sum = 0;
    for (auto bit = bitmap.find_next(0); bit; bit = bitmap.find_next(*bit + 1)) {
      sum += *bit;
    }
    benchmark::DoNotOptimize(sum);
    cycles += __rdtsc() - begin;
  }
  const auto found = static_cast<double>(state.iterations()) * static_cast<double>(bitmap.count());
  state.counters["cycles_per_page"] = static_cast<double>(cycles) / found;
}

BENCHMARK(hash)->Arg(kPagesInCache)->Arg(kPagesInMemory);
BENCHMARK(zero_detect)->Arg(kPagesInCache)->Arg(kPagesInMemory);
BENCHMARK(zero_detect_of_data)->Arg(kPagesInCache)->Arg(kPagesInMemory);
BENCHMARK(copy)->Arg(kPagesInCache)->Arg(kPagesInMemory);
BENCHMARK(bitmap_scan)->Arg(100)->Arg(10'000)->Arg(1'000'000);

}  // namespace
}  // namespace sluice::page

BENCHMARK_MAIN();
