#include "dataplane/wire/address.h"

#include <gtest/gtest.h>

namespace sluice::wire {
namespace {

TEST(Addresses, Mac) {
  const auto mac = parse_mac("02:00:5e:00:a0:FF");
  ASSERT_TRUE(mac.has_value());
  EXPECT_EQ(*mac, (MacAddress{2, 0, 0x5E, 0, 0xA0, 0xFF}));
  EXPECT_EQ(to_string(*mac), "02:00:5e:00:a0:ff");
  for (const char* text :
       {"", "02:00:5e:00:00", "02:00:5e:00:00:1", "02:00:5e:00:00:011", "02-00-5e-00-00-01",
        "02:00:5e:00:00:0g", "2:000:5e:00:00:01", "02:00:5e:00:00:-1", "02:00:5e:00:00:01:"}) {
    EXPECT_FALSE(parse_mac(text).has_value()) << text;
  }
}

TEST(Addresses, Ipv4) {
  EXPECT_EQ(parse_ipv4("10.77.1.1"), 0x0A4D0101U);
  EXPECT_EQ(parse_ipv4("0.0.0.0"), 0U);
  EXPECT_EQ(parse_ipv4("255.255.255.255"), 0xFFFFFFFFU);
  EXPECT_EQ(to_string(IpAddress(0x0A4D0101)), "10.77.1.1");
  EXPECT_EQ(to_string(IpAddress(0xFFFFFFFF)), "255.255.255.255");
  for (const char* text :
       {"", "10", "10.77.1", "10.77.1.", "10.77.1.256", "10.77.1.1.1", "10.77.1.1 ", " 10.77.1.1",
        "10.77..1", "10.77.01.1", "10.77.-1.1", "10.77.+1.1", "a.b.c.d", "10.77.1.1/24"}) {
    EXPECT_FALSE(parse_ipv4(text).has_value()) << text;
  }
}

TEST(Addresses, Ipv6) {
  for (const char* text : {"fd00::1", "::1", "2001:db8:1:2:3:4:5:6", "fe80::", "::"}) {
    const auto address = parse_ip(text);
    ASSERT_TRUE(address.has_value()) << text;
    EXPECT_TRUE(address->is_v6());
    EXPECT_EQ(to_string(*address), text);
  }
  EXPECT_EQ(parse_ip("10.77.1.1"), IpAddress(0x0A4D0101));
  EXPECT_NE(parse_ip("::"), IpAddress());
  for (const char* text : {"", "fd00", "fd00:::1", "fd00::1%eth0", "fd00::g", "::ffff:10.77.1.1",
                           "1:2:3:4:5:6:7:8:9", "[fd00::1]", "fd00::1/64", " fd00::1"}) {
    EXPECT_FALSE(parse_ip(text).has_value()) << text;
  }
}

TEST(Addresses, Prefix) {
  const auto v4 = parse_prefix("198.51.100.1/26");
  ASSERT_TRUE(v4.has_value());
  EXPECT_EQ(v4->length, 26);
  EXPECT_TRUE(v4->contains(*parse_ip("198.51.100.63")));
  EXPECT_FALSE(v4->contains(*parse_ip("198.51.100.64")));
  EXPECT_FALSE(v4->contains(*parse_ip("fd00::1")));
  const auto v6 = parse_prefix("fd00:1::1/63");
  ASSERT_TRUE(v6.has_value());
  EXPECT_TRUE(v6->contains(*parse_ip("fd00:1:0:1::9")));
  EXPECT_FALSE(v6->contains(*parse_ip("fd00:1:0:2::9")));
  EXPECT_FALSE(v6->contains(*parse_ip("198.51.100.1")));
  EXPECT_TRUE(parse_prefix("10.0.0.1/0")->contains(*parse_ip("192.0.2.1")));
  EXPECT_TRUE(parse_prefix("10.0.0.1/32")->contains(*parse_ip("10.0.0.1")));
  EXPECT_FALSE(parse_prefix("10.0.0.1/32")->contains(*parse_ip("10.0.0.2")));
  EXPECT_TRUE(parse_prefix("fd00::1/128").has_value());
  for (const char* text :
       {"10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/2x", "fd00::1/129", "/24",
        "0.0.0.0/0", "::/0", "224.0.0.1/4", "ff02::1/64"}) {
    EXPECT_FALSE(parse_prefix(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace sluice::wire
