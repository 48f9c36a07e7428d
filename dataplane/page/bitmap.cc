#include "dataplane/page/bitmap.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace sluice::page {
namespace {

constexpr std::uint64_t kWordBits = 64;

std::uint64_t words_for(std::uint64_t bits) { return (bits + kWordBits - 1) / kWordBits; }

// The `count` bits of a word from `first` on; count in 1..64 - first.
std::uint64_t mask(std::uint64_t first, std::uint64_t count) {
  return ~std::uint64_t{0} >> (kWordBits - count) << first;
}

// Calls visit(word index, mask) for each word that [first, first + count) touches.
template <typename Visit>
void for_each_word(std::uint64_t first, std::uint64_t count, Visit visit) {
  while (count > 0) {
    const std::uint64_t in_word = std::min(count, kWordBits - first % kWordBits);
    visit(first / kWordBits, mask(first % kWordBits, in_word));
    first += in_word;
    count -= in_word;
  }
}

}  // namespace

PageBitmap::PageBitmap(std::uint64_t bits)
    : bits_(bits), words_(words_for(bits)), summary_(words_for(words_.size())) {}

bool PageBitmap::set(std::uint64_t bit) { return set_range(bit, 1) != 0; }

bool PageBitmap::clear(std::uint64_t bit) { return clear_range(bit, 1) != 0; }

std::uint64_t PageBitmap::set_range(std::uint64_t first, std::uint64_t count) {
  assert(first <= bits_ && count <= bits_ - first);
  std::uint64_t changed = 0;
  for_each_word(first, count, [&](std::uint64_t index, std::uint64_t bits) {
    changed += static_cast<std::uint64_t>(std::popcount(bits & ~words_[index]));
    words_[index] |= bits;
    summary_[index / kWordBits] |= std::uint64_t{1} << index % kWordBits;
  });
  count_ += changed;
  return changed;
}

std::uint64_t PageBitmap::clear_range(std::uint64_t first, std::uint64_t count) {
  assert(first <= bits_ && count <= bits_ - first);
  std::uint64_t changed = 0;
  for_each_word(first, count, [&](std::uint64_t index, std::uint64_t bits) {
    changed += static_cast<std::uint64_t>(std::popcount(bits & words_[index]));
    words_[index] &= ~bits;
    if (words_[index] == 0) {
      summary_[index / kWordBits] &= ~(std::uint64_t{1} << index % kWordBits);
    }
  });
  count_ -= changed;
  return changed;
}

void PageBitmap::clear_all() {
  std::fill(words_.begin(), words_.end(), 0);
  std::fill(summary_.begin(), summary_.end(), 0);
  count_ = 0;
}

std::optional<std::uint64_t> PageBitmap::find_next(std::uint64_t from) const {
  if (from >= bits_) {
    return std::nullopt;
  }
  std::uint64_t index = from / kWordBits;
  std::uint64_t word = words_[index] >> from % kWordBits << from % kWordBits;
  if (word == 0) {
    // The next non-empty word after this one, by the summary.
    std::uint64_t group = ++index / kWordBits;
    if (group >= summary_.size()) {
      return std::nullopt;
    }
    std::uint64_t candidates = summary_[group] >> index % kWordBits << index % kWordBits;
    while (candidates == 0) {
      if (++group == summary_.size()) {
        return std::nullopt;
      }
      candidates = summary_[group];
    }
    index = group * kWordBits + static_cast<std::uint64_t>(std::countr_zero(candidates));
    word = words_[index];
  }
  return index * kWordBits + static_cast<std::uint64_t>(std::countr_zero(word));
}

std::uint64_t PageBitmap::run_length(std::uint64_t first, std::uint64_t limit) const {
  assert(first < bits_ && test(first));
  limit = std::min(limit, bits_ - first);
  std::uint64_t length = 0;
  while (length < limit) {
    const std::uint64_t at = first + length;
    const auto ones =
        static_cast<std::uint64_t>(std::countr_one(words_[at / kWordBits] >> at % kWordBits));
    length += ones;
    if (ones < kWordBits - at % kWordBits) {
      break;
    }
  }
  return std::min(length, limit);
}

}  // namespace sluice::page
