#include "drivers/guest/qemu/ram.h"

#include <gtest/gtest.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace sluice::guest::qemu {
namespace {

TEST(Ram, JoinsNeighbouringPiecesOfOneFileOnly) {
  std::istringstream maps(
      "555500000000-555500001000 r-xp 00000000 08:01 77 /usr/bin/qemu\n"
      "7f0000000000-7f0000200000 rw-s 00000000 00:01 42 /memfd:sluice-ram-a (deleted)\n"
      "7f0000200000-7f0000400000 rw-s 00200000 00:01 42 /memfd:sluice-ram-a (deleted)\n"
      "7f0000400000-7f0000500000 rw-s 00000000 00:01 43 /memfd:other (deleted)\n"
      "7f0000500000-7f0000600000 rw-s 00000000 00:01 43 /memfd:other (deleted)\n"
      "7f0000600000-7f0000700000 r--s 00000000 00:01 44 /read-only\n"
      "7f0000700000-7f0000800000 rw-p 00000000 00:00 0 \n"
      "garbage\n");
  const auto mappings = parse_shared_mappings(maps);
  ASSERT_EQ(mappings.size(), 3U);
  EXPECT_EQ(mappings[0].address, 0x7f0000000000U);
  EXPECT_EQ(mappings[0].bytes, 0x400000U);
  EXPECT_EQ(mappings[0].inode, 42U);
  EXPECT_EQ(mappings[0].device, makedev(0, 1));
  EXPECT_EQ(mappings[1].bytes, 0x100000U);
}

TEST(Ram, IsFoundInAProcessThatMapsIt) {
  constexpr std::uint64_t kBytes = 6U << 20U;
  const auto fd = make_ram("x", kBytes);
  ASSERT_TRUE(fd) << fd.error().message;
  EXPECT_FALSE(find_ram(getpid(), kBytes));
  void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const auto ram = find_ram(getpid(), kBytes);
  ASSERT_TRUE(ram) << ram.error().message;
  EXPECT_EQ(ram->guest_address, reinterpret_cast<std::uint64_t>(mapped));
  struct stat made {};
  struct stat found {};
  fstat(fd->get(), &made);
  fstat(ram->fd.get(), &found);
  EXPECT_EQ(found.st_ino, made.st_ino);

  const auto second_fd = make_ram("y", kBytes);
  void* second = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, second_fd->get(), 0);
  EXPECT_FALSE(find_ram(getpid(), kBytes)) << "two candidates must not be guessed between";
  munmap(second, kBytes);
  munmap(mapped, kBytes);
}

}  // namespace
}  // namespace sluice::guest::qemu
