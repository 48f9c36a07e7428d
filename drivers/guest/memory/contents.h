// What a memory guest keeps in its RAM, so that every page proves by itself which write left it
// there.
//
// A page is a header and a random stream that follows from (seed, page, generation):
//
//   0        8            16                                          4096
//   +--------+------------+-------------------------------------------+
//   |  page  | generation | SplitMix64 stream of key(seed, page, gen) |
//   +--------+------------+-------------------------------------------+
//
// Generation 0 is the fill; each rewrite raises it by one. A page that lags behind is consistent in
// itself, so the sum of all pages' keys is kept too: it depends on each page's generation and not
// on the order of the writes.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::guest::memory {

enum class Pattern : std::uint8_t {
  kUniform = 1,  // every page alike
  kHotset,       // 90 % of writes go to 10 % of pages: every tenth block of kHotBlockPages
};

inline constexpr std::uint64_t kHotBlockPages = 16;

// All that is known of the contents apart from the memory itself; travels as the guest's device
// state.
struct Ledger {
  std::uint64_t seed = 0;
  std::uint64_t writes =
      0;  // pages rewritten in the guest's life; also names the next page to rewrite
  std::uint64_t key_sum = 0;                 // of all pages' present keys, modulo 2^64
  std::uint64_t overwritten_mismatches = 0;  // bad pages that a rewrite found, and replaced
};

struct VerifyResult {
  std::uint64_t pages = 0;
  std::uint64_t mismatches =
      0;  // bad pages; at least 1 if only the sum of keys is wrong (a page is stale)
  std::uint64_t writes = 0;
};

class Contents {
 public:
  // `memory` is page-aligned, a multiple of 2 MiB, and outlives this object.
  Contents(std::span<std::byte> memory, Pattern pattern);

  // Writes generation 0 of every page of `part` (whole pages, starting with page `first_page`) and
  // adds their keys.
  void fill(std::uint64_t first_page, std::uint64_t page_count);
  // Starts a life: the next writes follow from `seed` alone. Called before fill().
  void begin(std::uint64_t seed);
  // Goes on where another Contents of the same size stopped.
  void adopt(const Ledger& ledger) { ledger_ = ledger; }

  // Rewrites the next page with its next generation. What it replaces is checked first, so that no
  // write ever hides a bad page from verify().
  void rewrite_next();

  // Regenerates every page from its header and compares all of it.
  [[nodiscard]] VerifyResult verify() const;

  [[nodiscard]] const Ledger& ledger() const { return ledger_; }

 private:
  [[nodiscard]] std::uint64_t* words(std::uint64_t page) const;
  [[nodiscard]] std::uint64_t choose_page() const;
  [[nodiscard]] std::uint64_t key(std::uint64_t page, std::uint64_t generation) const;
  void write(std::uint64_t page, std::uint64_t generation);
  [[nodiscard]] bool matches(std::uint64_t page) const;

  std::span<std::byte> memory_;
  std::uint64_t pages_;
  Pattern pattern_;
  Ledger ledger_;
};

}  // namespace sluice::guest::memory
