#include "dataplane/page/bitmap.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <string>

#include "dataplane/base/random.h"

namespace sluice::page {
namespace {

// What the bitmap must behave like.
class Model {
 public:
  std::uint64_t set_range(std::uint64_t first, std::uint64_t count) {
    std::uint64_t changed = 0;
    for (std::uint64_t bit = first; bit < first + count; ++bit) {
      changed += bits_.insert(bit).second ? 1 : 0;
    }
    return changed;
  }
  std::uint64_t clear_range(std::uint64_t first, std::uint64_t count) {
    const auto begin = bits_.lower_bound(first);
    const auto end = bits_.lower_bound(first + count);
    const auto changed = static_cast<std::uint64_t>(std::distance(begin, end));
    bits_.erase(begin, end);
    return changed;
  }
  void clear_all() { bits_.clear(); }

  [[nodiscard]] std::uint64_t count() const { return bits_.size(); }
  [[nodiscard]] bool test(std::uint64_t bit) const { return bits_.count(bit) != 0; }
  [[nodiscard]] std::optional<std::uint64_t> find_next(std::uint64_t from) const {
    const auto at = bits_.lower_bound(from);
    return at == bits_.end() ? std::nullopt : std::optional(*at);
  }
  [[nodiscard]] std::uint64_t run_length(std::uint64_t first, std::uint64_t limit) const {
    std::uint64_t length = 0;
    while (length < limit && test(first + length)) {
      ++length;
    }
    return length;
  }

 private:
  std::set<std::uint64_t> bits_;
};

void change_both(PageBitmap& bitmap, Model& model, Random& random) {
  const std::uint64_t first = random.below(bitmap.size());
  const std::uint64_t longest = random.chance(0.5) ? 8 : 1'000;
  const std::uint64_t count = random.below(std::min(bitmap.size() - first, longest) + 1);
  switch (random.below(5)) {
    case 0:
      ASSERT_EQ(bitmap.set(first), model.set_range(first, 1) == 1);
      break;
    case 1:
      ASSERT_EQ(bitmap.clear(first), model.clear_range(first, 1) == 1);
      break;
    case 2:
      ASSERT_EQ(bitmap.set_range(first, count), model.set_range(first, count));
      break;
    case 3:
      ASSERT_EQ(bitmap.clear_range(first, count), model.clear_range(first, count));
      break;
    default:
      if (random.chance(0.02)) {
        bitmap.clear_all();
        model.clear_all();
      }
  }
}

void compare_at(const PageBitmap& bitmap, const Model& model, std::uint64_t bit, Random& random) {
  ASSERT_EQ(bitmap.test(bit), model.test(bit)) << "bit " << bit;
  ASSERT_EQ(bitmap.find_next(bit), model.find_next(bit)) << "from " << bit;
  if (bitmap.test(bit)) {
    const std::uint64_t limit = random.below(300);
    ASSERT_EQ(bitmap.run_length(bit, limit), model.run_length(bit, limit)) << "bit " << bit;
    ASSERT_EQ(bitmap.run_length(bit, UINT64_MAX), model.run_length(bit, UINT64_MAX));
  }
}

class BitmapAgainstSet : public testing::TestWithParam<std::uint64_t> {};

TEST_P(BitmapAgainstSet, RandomOperations) {
  constexpr std::uint64_t kSeed = 31337;
  SCOPED_TRACE("seed " + std::to_string(kSeed) + ", size " + std::to_string(GetParam()));
  Random random(kSeed + GetParam());
  PageBitmap bitmap(GetParam());
  Model model;
  ASSERT_EQ(bitmap.size(), GetParam());
  for (int step = 0; step < 3'000; ++step) {
    ASSERT_NO_FATAL_FAILURE(change_both(bitmap, model, random)) << "step " << step;
    ASSERT_EQ(bitmap.count(), model.count()) << "step " << step;
    ASSERT_EQ(bitmap.empty(), model.count() == 0);
    for (int probe = 0; probe < 4; ++probe) {
      const std::uint64_t bit = random.below(bitmap.size());
      ASSERT_NO_FATAL_FAILURE(compare_at(bitmap, model, bit, random)) << "step " << step;
    }
  }
  for (std::uint64_t bit = 0; bit < bitmap.size(); ++bit) {
    ASSERT_NO_FATAL_FAILURE(compare_at(bitmap, model, bit, random));
  }
}

// Around one word, around one summary word (4,096 bits), and some of them.
INSTANTIATE_TEST_SUITE_P(Sizes, BitmapAgainstSet,
                         testing::Values(1, 63, 64, 65, 4'095, 4'096, 4'097, 20'000));

TEST(Bitmap, SparseBitsFarApartAreFound) {
  PageBitmap bitmap(16'777'216);  // 64 GiB of guest memory
  const std::set<std::uint64_t> bits{0,       63,      64,        4'095,     4'096,
                                     262'143, 262'144, 9'999'999, 16'777'215};
  for (const std::uint64_t bit : bits) {
    EXPECT_TRUE(bitmap.set(bit));
    EXPECT_FALSE(bitmap.set(bit));
  }
  std::set<std::uint64_t> found;
  for (auto bit = bitmap.find_next(0); bit; bit = bitmap.find_next(*bit + 1)) {
    found.insert(*bit);
  }
  EXPECT_EQ(found, bits);
}

TEST(Bitmap, FullAndEmptyAgain) {
  PageBitmap bitmap(10'000);
  EXPECT_EQ(bitmap.set_range(0, 10'000), 10'000U);
  EXPECT_EQ(bitmap.run_length(0, UINT64_MAX), 10'000U);
  EXPECT_EQ(bitmap.clear_range(0, 10'000), 10'000U);
  EXPECT_TRUE(bitmap.empty());
  EXPECT_EQ(bitmap.find_next(0), std::nullopt);
}

TEST(Bitmap, SearchFromTheEndOrOfNothing) {
  PageBitmap bitmap(128);
  bitmap.set(127);
  EXPECT_EQ(bitmap.find_next(127), 127U);
  EXPECT_EQ(bitmap.find_next(128), std::nullopt);
  EXPECT_EQ(bitmap.find_next(UINT64_MAX), std::nullopt);
  const PageBitmap none(0);
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.find_next(0), std::nullopt);
}

}  // namespace
}  // namespace sluice::page
