#include "drivers/base/secret.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace sluice {
namespace {

std::vector<std::byte> from_hex(std::string_view text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::vector<std::byte> counting(int first, std::size_t count) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < count; ++i) {
    bytes.push_back(static_cast<std::byte>(first + static_cast<int>(i)));
  }
  return bytes;
}

struct Vector {
  std::vector<std::byte> secret;
  std::vector<std::byte> salt;
  std::vector<std::byte> info;
  const char* expected;
};

// RFC 5869, appendices A.1 to A.3.
TEST(Hkdf, AgreesWithTheVectorsOfTheRfc) {
  const Vector vectors[] = {
      {std::vector<std::byte>(22, std::byte{0x0B}), counting(0, 13), counting(0xF0, 10),
       "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
      {counting(0, 80), counting(0x60, 80), counting(0xB0, 80),
       "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e"
       "590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
      {std::vector<std::byte>(22, std::byte{0x0B}),
       {},
       {},
       "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
  };
  for (const Vector& vector : vectors) {
    const auto expected = from_hex(vector.expected);
    std::vector<std::byte> out(expected.size());
    const auto done = hkdf_sha256(vector.secret, vector.salt, vector.info, out);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(out, expected);
  }
}

TEST(FrameKeys, DifferWithSecretSessionFlowAndType) {
  const auto a = Secret::make();
  const auto b = Secret::make();
  ASSERT_TRUE(a && b);
  std::set<std::vector<std::byte>> keys;
  std::size_t made = 0;
  for (const Secret* secret : {&*a, &*b}) {
    for (std::uint64_t session : {1UL, 2UL, 1UL << 40U}) {
      for (std::uint16_t flow : {0, 1, 256}) {
        for (const wire::FrameType type : wire::kFrameTypes) {
          const auto key = derive_frame_key(*secret, session, flow, type);
          ASSERT_TRUE(key);
          keys.emplace(key->bytes().begin(), key->bytes().end());
          ++made;
        }
      }
    }
  }
  EXPECT_EQ(keys.size(), made);
  const auto again = derive_frame_key(*a, 1, 0, wire::FrameType::kData);
  EXPECT_TRUE(keys.contains({again->bytes().begin(), again->bytes().end()}));
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

TEST(Secret, IsWipedWhenMovedFromOrDestroyed) {
  alignas(Secret) std::byte storage[sizeof(Secret)];
  auto* secret = new (storage) Secret(std::move(*Secret::make()));
  EXPECT_FALSE(all_zero(secret->bytes()));
  Secret moved = std::move(*secret);
  EXPECT_TRUE(all_zero(storage));
  *secret = std::move(moved);
  EXPECT_FALSE(all_zero(storage));
  secret->~Secret();
  const volatile std::byte* left = storage;
  for (std::size_t i = 0; i < sizeof(storage); ++i) {
    EXPECT_TRUE(left[i] == std::byte{0});
  }
  std::string text = "secret";
  wipe(text);
  EXPECT_EQ(text, std::string(6, '\0'));
}

TEST(Secret, HasOneLength) {
  EXPECT_TRUE(Secret::from_bytes(std::string(32, 'x')));
  for (std::size_t bytes : {0U, 16U, 31U, 33U, 64U}) {
    const auto secret = Secret::from_bytes(std::string(bytes, 'x'));
    ASSERT_FALSE(secret);
    EXPECT_EQ(secret.error().kind, ErrorKind::kInvalid);
  }
}

}  // namespace
}  // namespace sluice
