#include <gtest/gtest.h>

#include "drivers/guest/qemu/warden.h"

int main(int argc, char** argv) {
  if (sluice::guest::qemu::is_warden_invocation(argc, argv))
    return sluice::guest::qemu::warden_main(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
