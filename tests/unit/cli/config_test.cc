#include "control/cli/config.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <unistd.h>

namespace sluice::cli {
namespace {

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() { std::filesystem::create_directories(directory_); }
  ~ConfigTest() override { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, const std::string& text) {
    std::string path = directory_ / name;
    std::ofstream(path) << text;
    return path;
  }
  std::string one_host(const std::string& name, const std::string& host) {
    return write(name, "[hosts]\n" + host + " = \"unix:/run/" + host + ".sock\"\n");
  }
  [[nodiscard]] Environment environment() const {
    return [this](const char* name) -> const char* {
      const auto found = variables_.find(name);
      return found == variables_.end() ? nullptr : found->second.c_str();
    };
  }

  std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("sluice-config-test-" + std::to_string(getpid()));
  std::map<std::string, std::string> variables_;
};

TEST_F(ConfigTest, NamedFileWinsOverEnvironmentOverDefaults) {
  const std::string named = one_host("named.toml", "a");
  variables_["SLUICE_CONFIG"] = one_host("environment.toml", "b");
  const std::vector<std::string> defaults = {
      directory_ / "missing.toml", one_host("first.toml", "c"), one_host("second.toml", "d")};
  EXPECT_EQ(load_config(named, environment(), defaults)->hosts.at(0).name, "a");
  EXPECT_EQ(load_config(std::nullopt, environment(), defaults)->hosts.at(0).name, "b");
  variables_.clear();
  const auto fallen_back = load_config(std::nullopt, environment(), defaults);
  EXPECT_EQ(fallen_back->hosts.at(0).name, "c");
  EXPECT_EQ(fallen_back->path, directory_ / "first.toml");
}

TEST_F(ConfigTest, NamesAController) {
  const std::string hosts = "[hosts]\nh1 = \"unix:/run/h1.sock\"\n";
  const auto without = load_config(write("a.toml", hosts), environment(), {});
  EXPECT_EQ(without->controller, "");
  const auto with = load_config(
      write("b.toml", "controller = \"10.0.0.2:7500\"\ncontroller_name = \"c1\"\n" + hosts),
      environment(), {});
  EXPECT_EQ(with->controller, "10.0.0.2:7500");
  EXPECT_EQ(with->controller_name, "c1");
  const auto wrong = load_config(write("c.toml", "controller = 3\n" + hosts), environment(), {});
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("c.toml:1:14"), std::string::npos) << wrong.error().message;
}

TEST_F(ConfigTest, MissingNamedFileIsNotReplacedByAnother) {
  const auto config =
      load_config(directory_ / "missing.toml", environment(), {one_host("c.toml", "c")});
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(config.error().message.find("missing.toml"), std::string::npos);
}

TEST_F(ConfigTest, NoneAtAllSaysWhereItLooked) {
  const auto config =
      load_config(std::nullopt, environment(), {"/nowhere/one.toml", "/nowhere/two.toml"});
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message.find("/nowhere/one.toml, /nowhere/two.toml"), std::string::npos);
  EXPECT_NE(config.error().message.find("--config"), std::string::npos);
}

TEST_F(ConfigTest, DefaultsBeginWithTheUsersOwn) {
  variables_["HOME"] = "/home/ann";
  const std::vector<std::string> expected = {"/home/ann/.config/sluice/sluice.toml",
                                             "/etc/sluice/sluice.toml", "/run/sluice/sluice.toml"};
  EXPECT_EQ(default_config_paths(environment()), expected);
}

TEST_F(ConfigTest, HostsAreSortedByName) {
  const auto config =
      load_config(write("h.toml", "[hosts]\nh2 = \"b:1\"\nh1 = \"unix:/a\"\n"), environment(), {});
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_EQ(config->hosts.size(), 2U);
  EXPECT_EQ(config->hosts[0].name, "h1");
  EXPECT_EQ(config->hosts[0].address, "unix:/a");
  EXPECT_EQ(config->hosts[1].name, "h2");
}

TEST_F(ConfigTest, MistakesAreNamedWithTheirPlace) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[hosts\nh1 = 1\n", "bad.toml:1:"},
      {"[hosts]\nh1 = 5\n", "bad.toml:2:"},
      {"[hosts]\nh1 = \"\"\n", "host h1"},
      {"[host]\nh1 = \"a\"\n", "\"host\" is not known"},
      {"", "no hosts"},
      {"[hosts]\n", "no hosts"},
  };
  for (const auto& [text, words] : cases) {
    const auto config = load_config(write("bad.toml", text), environment(), {});
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().kind, ErrorKind::kInvalid);
    EXPECT_NE(config.error().message.find(words), std::string::npos) << config.error().message;
    EXPECT_EQ(config.error().message.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice::cli
