#include "dataplane/base/nearest.h"

#include <array>
#include <gtest/gtest.h>

namespace sluice {
namespace {

constexpr std::array<std::string_view, 4> kKnown = {"hosts", "hooks", "parallel", "on"};

TEST(Nearest, FindsWhatWasMeant) {
  EXPECT_EQ(nearest("paralel", kKnown), "parallel");
  EXPECT_EQ(nearest("parallell", kKnown), "parallel");
  EXPECT_EQ(nearest("hsots", kKnown), "hosts") << "neighbours exchanged";
  EXPECT_EQ(nearest("host", kKnown), "hosts");
  EXPECT_EQ(nearest("par", kKnown), "parallel") << "its end left out";
  EXPECT_EQ(nearest("pa", kKnown), "") << "that may be the beginning of anything";
  EXPECT_EQ(nearest("an", kKnown), "on") << "one letter may always be wrong";
}

TEST(Nearest, SaysNothingOfWhatIsFarFromAll) {
  EXPECT_EQ(nearest("colour", kKnown), "");
  EXPECT_EQ(nearest("", kKnown), "");
  EXPECT_EQ(nearest("word", std::array<std::string_view, 0>{}), "");
}

TEST(Nearest, CountsWrongLetters) {
  EXPECT_EQ(letters_wrong("", "abc"), 3U);
  EXPECT_EQ(letters_wrong("abc", "abc"), 0U);
  EXPECT_EQ(letters_wrong("abc", "acb"), 1U);
  EXPECT_EQ(letters_wrong("kitten", "sitting"), 3U);
}

}  // namespace
}  // namespace sluice
