#include "control/store/sqlite_journal.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <vector>

namespace sluice::store {
namespace {

TEST(SharedByMachines, NamesFileSystemsOnWhichNothingKeepsControllersApart) {
  for (const std::uint64_t type : {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, V9FS_MAGIC, AFS_SUPER_MAGIC})
    EXPECT_NE(shared_by_machines(type), "") << type;
  EXPECT_EQ(shared_by_machines(0xff534d42), "CIFS");
  EXPECT_EQ(shared_by_machines(static_cast<std::uint64_t>(static_cast<std::int32_t>(0xff534d42))),
            "CIFS");
  for (const std::uint64_t type : std::vector<std::uint64_t>{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
                                                             BTRFS_SUPER_MAGIC, TMPFS_MAGIC})
    EXPECT_EQ(shared_by_machines(type), "") << type;
}

}  // namespace
}  // namespace sluice::store
