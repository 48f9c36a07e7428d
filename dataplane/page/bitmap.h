// A bitmap of pages with a summary level, so that the next set bit among millions is found in a few
// loads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace sluice::page {

// Word level: one bit a page. Summary level: one bit a word, set iff the word is not 0. Not
// thread-safe: one worker owns it. Allocates only in the constructor.
class PageBitmap {
 public:
  explicit PageBitmap(std::uint64_t bits);

  [[nodiscard]] std::uint64_t size() const { return bits_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] bool test(std::uint64_t bit) const {
    return (words_[bit / 64] >> (bit % 64) & 1U) != 0;
  }

  // Both return true if the bit changed.
  bool set(std::uint64_t bit);
  bool clear(std::uint64_t bit);
  // Return how many bits changed. Ranges lie within size().
  std::uint64_t set_range(std::uint64_t first, std::uint64_t count);
  std::uint64_t clear_range(std::uint64_t first, std::uint64_t count);
  void clear_all();

  // The first set bit at or after `from`; nullopt if there is none.
  [[nodiscard]] std::optional<std::uint64_t> find_next(std::uint64_t from) const;
  // How many bits from `first` on (itself set) are set without a gap, at most `limit`.
  [[nodiscard]] std::uint64_t run_length(std::uint64_t first, std::uint64_t limit) const;

 private:
  std::uint64_t bits_;
  std::uint64_t count_ = 0;
  std::vector<std::uint64_t> words_;
  std::vector<std::uint64_t> summary_;
};

}  // namespace sluice::page
