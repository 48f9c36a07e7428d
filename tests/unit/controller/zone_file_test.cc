#include "control/controller/zone_file.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace sluice::controller {
namespace {

class ZoneFile : public testing::Test {
 protected:
  ZoneFile()
      : directory_(std::filesystem::temp_directory_path() / ("zones-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(directory_ / "Europe");
  }
  ~ZoneFile() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& name, const std::string& content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
  }
  std::string complaint(const std::string& name) {
    const auto rule = read_zone_rule(name, directory_);
    return rule ? "none" : rule.error().message;
  }

  std::filesystem::path directory_;
};

TEST_F(ZoneFile, ItsLastLineIsTheRule) {
  write("Europe/Berlin", std::string("TZif2\0\n\0binary\nCET-1CEST,M3.5.0,M10.5.0/3\n", 42));
  const auto rule = read_zone_rule("Europe/Berlin", directory_);
  ASSERT_TRUE(rule) << rule.error().message;
  EXPECT_EQ(*rule, "CET-1CEST,M3.5.0,M10.5.0/3");
}

TEST_F(ZoneFile, RefusesWhatIsNoZone) {
  write("Europe/Old", "TZif2 binary\n\n");
  write("Europe/Cut", "TZif");
  write("Europe/Text", "CET-1CEST,M3.5.0,M10.5.0/3\n");
  EXPECT_NE(complaint("Europe/Berlim").find("there is no time zone Europe/Berlim in "),
            std::string::npos);
  EXPECT_NE(complaint("Europe/Text").find("there is no time zone"), std::string::npos);
  EXPECT_NE(complaint("Europe/Old").find("no rule for the future"), std::string::npos);
  EXPECT_NE(complaint("Europe/Cut").find("no rule for the future"), std::string::npos);
  EXPECT_NE(complaint("../Europe/Old").find("there is no time zone"), std::string::npos);
  EXPECT_NE(complaint("/Europe/Old").find("there is no time zone"), std::string::npos);
  EXPECT_NE(complaint("").find("there is no time zone"), std::string::npos);
  EXPECT_NE(complaint("Europe").find("there is no time zone"), std::string::npos);
}

}  // namespace
}  // namespace sluice::controller
