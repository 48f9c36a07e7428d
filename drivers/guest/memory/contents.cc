#include "drivers/guest/memory/contents.h"

#include <algorithm>

#include "dataplane/base/random.h"
#include "dataplane/base/units.h"

namespace sluice::guest::memory {
namespace {

constexpr std::size_t kPageWords = kPageBytes / sizeof(std::uint64_t);
constexpr std::size_t kHeaderWords = 2;
constexpr std::uint64_t kHotEvery = 10;
constexpr std::uint64_t kHotWritesPercent = 90;

}  // namespace

Contents::Contents(std::span<std::byte> memory, Pattern pattern)
    : memory_(memory), pages_(memory.size() / kPageBytes), pattern_(pattern) {}

std::uint64_t* Contents::words(std::uint64_t page) const {
  return reinterpret_cast<std::uint64_t*>(memory_.data() + page * kPageBytes);
}

std::uint64_t Contents::key(std::uint64_t page, std::uint64_t generation) const {
  const std::uint64_t page_key = Random(ledger_.seed ^ Random(page).next()).next();
  return Random(page_key ^ Random(~generation).next()).next();
}

void Contents::begin(std::uint64_t seed) {
  ledger_ = Ledger{};
  ledger_.seed = seed;
}

void Contents::fill(std::uint64_t first_page, std::uint64_t page_count) {
  for (std::uint64_t page = first_page; page < first_page + page_count; ++page) {
    write(page, 0);
    ledger_.key_sum += key(page, 0);
  }
}

void Contents::write(std::uint64_t page, std::uint64_t generation) {
  std::uint64_t* const word = words(page);
  Random stream(key(page, generation));
  word[0] = page;
  word[1] = generation;
  for (std::size_t i = kHeaderWords; i < kPageWords; ++i) word[i] = stream.next();
}

bool Contents::matches(std::uint64_t page) const {
  const std::uint64_t* const word = words(page);
  Random stream(key(page, word[1]));
  std::uint64_t difference = word[0] ^ page;
  for (std::size_t i = kHeaderWords; i < kPageWords; ++i) difference |= word[i] ^ stream.next();
  return difference == 0;
}

std::uint64_t Contents::choose_page() const {
  // A function of the write's number alone, so that no generator state has to travel.
  Random choice(ledger_.seed ^ Random(~ledger_.writes).next());
  if (pattern_ == Pattern::kUniform) return choice.below(pages_);

  const std::uint64_t blocks = pages_ / kHotBlockPages;
  const std::uint64_t hot_blocks = (blocks + kHotEvery - 1) / kHotEvery;
  std::uint64_t block = 0;
  if (choice.below(100) < kHotWritesPercent) {
    block = choice.below(hot_blocks) * kHotEvery;
  } else {
    const std::uint64_t cold = choice.below(blocks - hot_blocks);
    block = cold / (kHotEvery - 1) * kHotEvery + 1 + cold % (kHotEvery - 1);
  }
  return block * kHotBlockPages + choice.below(kHotBlockPages);
}

void Contents::rewrite_next() {
  const std::uint64_t page = choose_page();
  if (!matches(page)) ++ledger_.overwritten_mismatches;
  const std::uint64_t generation = words(page)[1];
  ledger_.key_sum += key(page, generation + 1) - key(page, generation);
  write(page, generation + 1);
  ++ledger_.writes;
}

VerifyResult Contents::verify() const {
  VerifyResult result{.pages = pages_, .mismatches = 0, .writes = ledger_.writes};
  std::uint64_t key_sum = 0;
  for (std::uint64_t page = 0; page < pages_; ++page) {
    if (!matches(page)) ++result.mismatches;
    key_sum += key(page, words(page)[1]);
  }
  result.mismatches += ledger_.overwritten_mismatches;
  if (key_sum != ledger_.key_sum) result.mismatches = std::max<std::uint64_t>(result.mismatches, 1);
  return result;
}

}  // namespace sluice::guest::memory
