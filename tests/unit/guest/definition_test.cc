#include "drivers/guest/definition.h"

#include <gtest/gtest.h>
#include <string>

#include "dataplane/base/parse_size.h"

namespace sluice::guest {
namespace {

std::string error_of(const std::string& text) {
  const auto definition = parse_definition(text, "g.toml");
  return definition ? "no error" : definition.error().message;
}

TEST(ParseBytes, ReadsBinarySuffixes) {
  EXPECT_EQ(parse_bytes("0"), 0U);
  EXPECT_EQ(parse_bytes("1048576"), 1U << 20U);
  EXPECT_EQ(parse_bytes("7B"), 7U);
  EXPECT_EQ(parse_bytes("3K"), 3U << 10U);
  EXPECT_EQ(parse_bytes("512M"), 512U << 20U);
  EXPECT_EQ(parse_bytes("512MiB"), 512U << 20U);
  EXPECT_EQ(parse_bytes("4G"), 4ULL << 30U);
  EXPECT_EQ(parse_bytes("2T"), 2ULL << 40U);
}

TEST(ParseBytes, RefusesEverythingElse) {
  for (const char* text : {"", "M", "-1", "+1", " 1", "1 ", "1.5G", "1m", "1MB", "1MiBs", "0x10",
                           "1P", "18446744073709551616", "16777216T"}) {
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_bytes("16777215T"), 16777215ULL << 40U);
}

TEST(GuestName, IsOneDirectoryName) {
  EXPECT_TRUE(is_valid_guest_name("a"));
  EXPECT_TRUE(is_valid_guest_name("0-web-1"));
  EXPECT_TRUE(is_valid_guest_name(std::string(63, 'x')));
  for (const char* name : {"", "-a", "A", "a_b", "a/b", "..", "a.b", "a b"}) {
    EXPECT_FALSE(is_valid_guest_name(name)) << name;
  }
  EXPECT_FALSE(is_valid_guest_name(std::string(64, 'x')));
}

TEST(Definition, ReadsAQemuGuest) {
  const auto definition = parse_definition(R"(
name = "web-1"
driver = "qemu"
memory = "512M"
[qemu]
binary = "/opt/qemu"
args = ["-machine", "q35", "-drive", "file=a,,b.img"]
)",
                                           "g.toml");
  ASSERT_TRUE(definition) << definition.error().message;
  EXPECT_EQ(definition->name, "web-1");
  EXPECT_EQ(definition->memory_bytes, 512U << 20U);
  EXPECT_EQ(definition->qemu_binary, "/opt/qemu");
  EXPECT_EQ(definition->qemu_args,
            (std::vector<std::string>{"-machine", "q35", "-drive", "file=a,,b.img"}));
}

TEST(Definition, ReadsAMemoryGuestWhoseKeyAndTableShareAName) {
  const auto definition = parse_definition(
      "name = 'm'\ndriver = 'memory'\nmemory = '4G'\n [memory] # writer\ndirty_rate = "
      "'200M'\npattern = 'hotset'",
      "g.toml");
  ASSERT_TRUE(definition) << definition.error().message;
  EXPECT_EQ(definition->memory_bytes, 4ULL << 30U);
  EXPECT_EQ(definition->dirty_bytes_per_second, 200U << 20U);
  EXPECT_EQ(definition->pattern, "hotset");
}

TEST(Definition, TableOfTheDriverMayBeLeftOut) {
  const auto memory = parse_definition("name='m'\ndriver='memory'\nmemory='2M'", "g.toml");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->pattern, "uniform");
  EXPECT_EQ(memory->dirty_bytes_per_second, 0U);
  const auto qemu = parse_definition("name='q'\ndriver='qemu'\nmemory='2M'", "g.toml");
  ASSERT_TRUE(qemu);
  EXPECT_EQ(qemu->qemu_binary, "qemu-system-x86_64");
}

TEST(Definition, ErrorsPointAtTheFault) {
  EXPECT_EQ(
      error_of("name = 'a'\ndriver = 'qemu'\nmemory = '512M'\ncpus = 4\n"),
      "g.toml:4:1: unknown key 'cpus' in the guest file; known are: name, driver, memory, qemu");
  EXPECT_EQ(error_of("name = 'a'\ndriver = 'qemu'\nmemory = '512M'\n[qemu]\nargz = []\n"),
            "g.toml:5:1: unknown key 'argz' in [qemu]; known are: binary, args");
  EXPECT_TRUE(error_of("name = 'a'\nname = 'b'").starts_with("g.toml:2:"))
      << error_of("name = 'a'\nname = 'b'");
  EXPECT_TRUE(error_of("name = \n").starts_with("g.toml:1:8"));
  EXPECT_EQ(error_of("name = 'A B'\ndriver = 'qemu'\nmemory = '2M'"),
            "g.toml:1:8: 'name' must be 1 to 63 of a-z, 0-9 and -, and must not start with -: "
            "\"A B\" is not");
  EXPECT_EQ(error_of("name = 'a'\ndriver = 'qemu'\nmemory = 512"),
            "g.toml:3:10: 'memory' must be a size in quotes such as \"512M\" or \"4G\"");
  EXPECT_EQ(error_of("name = 'a'\ndriver = 'qemu'\nmemory = '3M'"),
            "g.toml:3:10: 'memory' must be a multiple of 2M, and not 0");
  EXPECT_EQ(error_of("name = 'a'\ndriver = 'xen'\nmemory = '2M'"),
            "g.toml:2:10: 'driver' must be \"qemu\" or \"memory\", not \"xen\"");
  EXPECT_EQ(error_of("name='a'\ndriver='memory'\nmemory='2M'\n[memory]\npattern='zipf'"),
            "g.toml:5:9: 'pattern' must be \"uniform\" or \"hotset\"");
  EXPECT_EQ(error_of("name='a'\ndriver='qemu'\nmemory='2M'\n[qemu]\nargs=['-s', 3]"),
            "g.toml:5:13: every element of 'args' must be a string");
}

TEST(Definition, MissingKeysAreNamed) {
  EXPECT_NE(error_of("driver='qemu'\nmemory='2M'").find("the guest file has no 'name'"),
            std::string::npos);
  EXPECT_NE(error_of("name='a'\nmemory='2M'").find("has no 'driver'"), std::string::npos);
  EXPECT_NE(error_of("name='a'\ndriver='qemu'").find("has no 'memory'"), std::string::npos);
}

TEST(Definition, TableOfTheOtherDriverIsRefused) {
  EXPECT_NE(
      error_of("name='a'\ndriver='qemu'\nmemory='2M'\n[memory]\n").find("[memory] does not belong"),
      std::string::npos);
  EXPECT_NE(
      error_of("name='a'\ndriver='memory'\nmemory='2M'\n[qemu]\n").find("[qemu] does not belong"),
      std::string::npos);
}

TEST(Definition, MissingFileIsNamed) {
  const auto definition = load_definition("/nonexistent/g.toml");
  ASSERT_FALSE(definition);
  EXPECT_EQ(definition.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(definition.error().message.find("/nonexistent/g.toml"), std::string::npos);
}

TEST(Definition, AHeaderWithoutANameIsAnErrorAndNotTheEnd) {
  const auto parsed = parse_definition("name = \"web\"\n[.a]\n", "web.toml");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().message.rfind("web.toml:2:", 0), 0U) << parsed.error().message;
}

}  // namespace
}  // namespace sluice::guest
