#include "dataplane/page/digest.h"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>
#include <xxhash.h>

#include "dataplane/base/random.h"

namespace sluice::page {
namespace {

using Page = std::vector<std::byte>;

Page pattern_page() {
  Page page(kPageBytes);
  for (std::size_t i = 0; i < page.size(); ++i) {
    page[i] = static_cast<std::byte>(i * 7 + i / 256);
  }
  return page;
}

std::array<PageHash, kExtentPages> counting_hashes() {
  std::array<PageHash, kExtentPages> hashes{};
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    hashes[i] = i;
  }
  return hashes;
}

// Two hosts of different versions compare these: they must never change while kDigestAlgorithm
// stays.
TEST(Digest, KnownAnswers) {
  EXPECT_EQ(hash_page(Page(kPageBytes).data()), 0x93D76FE148C689BAU);
  EXPECT_EQ(hash_page(pattern_page().data()), 0x5C722D9CEB6F9064U);
  EXPECT_EQ(fold_extent(counting_hashes()), 0xE1D6ED026A101DD8U);
}

TEST(Digest, ZeroPageHashIsThatOfZeros) {
  EXPECT_EQ(zero_page_hash(), hash_page(Page(kPageBytes).data()));
}

// The vector code chosen for this machine gives what the portable code gives, at any alignment.
TEST(Digest, SameAsPortableCode) {
  constexpr std::uint64_t kSeed = 11;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  Page memory(kPageBytes + 64);
  for (std::size_t offset = 0; offset < 64; ++offset) {
    for (std::byte& byte : memory) {
      byte = static_cast<std::byte>(random.next());
    }
    EXPECT_EQ(hash_page(memory.data() + offset), XXH3_64bits(memory.data() + offset, kPageBytes));
  }
}

TEST(Digest, EveryByteCounts) {
  Page page = pattern_page();
  const PageHash before = hash_page(page.data());
  for (std::byte& byte : page) {
    byte ^= std::byte{0x10};
    ASSERT_NE(hash_page(page.data()), before);
    byte ^= std::byte{0x10};
  }
  EXPECT_EQ(hash_page(page.data()), before);
}

TEST(Digest, FoldDependsOnEveryPageAndItsPosition) {
  auto hashes = counting_hashes();
  const ExtentDigest before = fold_extent(hashes);
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    hashes[i] ^= 1U;
    ASSERT_NE(fold_extent(hashes), before) << "page " << i;
    hashes[i] ^= 1U;
    if (i > 0) {
      std::swap(hashes[i - 1], hashes[i]);
      ASSERT_NE(fold_extent(hashes), before) << "pages " << i - 1 << " and " << i;
      std::swap(hashes[i - 1], hashes[i]);
    }
  }
  EXPECT_EQ(fold_extent(hashes), before);
}

TEST(ZeroPage, OneByteAnywhereIsSeen) {
  Page page(kPageBytes);
  EXPECT_TRUE(is_zero_page(page.data()));
  for (std::byte& byte : page) {
    for (const std::byte value : {std::byte{0x01}, std::byte{0x80}}) {
      byte = value;
      ASSERT_FALSE(is_zero_page(page.data()));
    }
    byte = std::byte{0};
  }
  EXPECT_TRUE(is_zero_page(page.data()));
}

// Neighbours of the page are not looked at.
TEST(ZeroPage, StaysWithinThePage) {
  Page memory(3 * kPageBytes, std::byte{0xFF});
  std::fill_n(memory.begin() + kPageBytes, kPageBytes, std::byte{0});
  EXPECT_TRUE(is_zero_page(memory.data() + kPageBytes));
}

}  // namespace
}  // namespace sluice::page
