#include "drivers/guest/qemu/installed_qemu.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace sluice::guest::qemu {
namespace {

class InstalledQemuTest : public testing::Test {
 protected:
  InstalledQemuTest() { std::filesystem::create_directory(directory_); }
  ~InstalledQemuTest() override { std::filesystem::remove_all(directory_); }
  // As a package manager does: another file takes the name.
  void install(const std::string& says) const {
    const std::string fresh = path_ + ".new";
    std::ofstream(fresh) << "#!/bin/sh\necho x >>" << path_ << ".asked\necho '" << says << "'\n";
    std::filesystem::permissions(fresh, std::filesystem::perms::owner_all);
    std::filesystem::rename(fresh, path_);
  }
  [[nodiscard]] std::uintmax_t times_asked() const {
    std::error_code none;
    const auto bytes = std::filesystem::file_size(path_ + ".asked", none);
    return none ? 0 : bytes / 2;
  }

  const std::string directory_ = testing::TempDir() + "installed_qemu." + std::to_string(getpid());
  const std::string path_ = directory_ + "/qemu";
};

TEST_F(InstalledQemuTest, IsAskedOnceForEachFile) {
  InstalledQemu qemu(path_);
  EXPECT_EQ(qemu.version(), "") << "there is none";
  install("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)");
  EXPECT_EQ(qemu.version(), "7.2.22");
  EXPECT_EQ(qemu.version(), "7.2.22");
  EXPECT_EQ(times_asked(), 1U);
  install("QEMU emulator version 8.2.0");
  EXPECT_EQ(qemu.version(), "8.2.0");
  EXPECT_EQ(times_asked(), 2U);
  install("no version at all");
  EXPECT_EQ(qemu.version(), "");
  std::filesystem::remove(path_);
  EXPECT_EQ(qemu.version(), "");
}

TEST_F(InstalledQemuTest, IsKnownByItsNameAndByItsPath) {
  const InstalledQemu shell("sh");
  EXPECT_TRUE(shell.is("sh"));
  EXPECT_FALSE(shell.is(path_));
  install("QEMU emulator version 8.2.0");
  EXPECT_TRUE(InstalledQemu(path_).is(path_));
  EXPECT_FALSE(InstalledQemu(path_).is("/opt/qemu/bin/qemu"));
}

}  // namespace
}  // namespace sluice::guest::qemu
