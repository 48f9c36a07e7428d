#include "control/cli/quantity.h"

#include <gtest/gtest.h>

#include "dataplane/base/parse_size.h"

namespace sluice::cli {
namespace {

TEST(Duration, IsANumberWithAUnit) {
  EXPECT_EQ(parse_duration_us("50ms"), 50'000U);
  EXPECT_EQ(parse_duration_us("500us"), 500U);
  EXPECT_EQ(parse_duration_us("1.5s"), 1'500'000U);
  EXPECT_EQ(parse_duration_us("2m"), 120'000'000U);
  EXPECT_EQ(parse_duration_us("0ms"), 0U);
  EXPECT_EQ(parse_duration_us("0.25ms"), 250U);
}

TEST(Duration, EverythingElseIsRefused) {
  for (const char* const text : {"", "ms", "50", "50 ms", "soon", "-1ms", "50msec", "1e3ms",
                                 "inf s", "infs", "nanms", "1h", "99999999999s", "50ms "}) {
    EXPECT_FALSE(parse_duration_us(text)) << text;
  }
}

TEST(Size, AsOptionsTakeIt) {
  EXPECT_EQ(parse_bytes("4G"), std::uint64_t{4} << 30);
  EXPECT_EQ(parse_bytes("200M"), std::uint64_t{200} << 20);
  EXPECT_EQ(parse_bytes("0"), 0U);
  for (const char* const text : {"", "G", "4X", "-4G", "4.5G", "4 G", "lots", "99999999999G"})
    EXPECT_FALSE(parse_bytes(text)) << text;
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(std::uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(format_bytes(std::uint64_t{1} << 52), "4096.0 TiB");
}

TEST(Format, CountsAndTimes) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(1'048'576), "1,048,576");
  EXPECT_EQ(format_counted(1, "page", "pages"), "1 page");
  EXPECT_EQ(format_counted(0, "page", "pages"), "0 pages");
  EXPECT_EQ(format_ms(12'449), "12.4 ms");
}

TEST(Format, Spans) {
  EXPECT_EQ(format_span(0), "0.0 s");
  EXPECT_EQ(format_span(3'749), "3.7 s");
  EXPECT_EQ(format_span(59'949), "59.9 s");
  EXPECT_EQ(format_span(59'950), "1 min 0 s");
  EXPECT_EQ(format_span(111'000), "1 min 51 s");
  EXPECT_EQ(format_span(3'599'499), "59 min 59 s");
  EXPECT_EQ(format_span(3'599'500), "1 h 0 min");
  EXPECT_EQ(format_span(8'532'000), "2 h 22 min");
}

}  // namespace
}  // namespace sluice::cli
