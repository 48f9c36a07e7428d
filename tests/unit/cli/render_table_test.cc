#include "control/cli/render_table.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

TEST(Table, AlignsColumnsWithoutTrailingSpaces) {
  EXPECT_EQ(render_table({{"GUEST", "HOST"}, {"a-long-name", "h1"}, {"b", ""}}),
            "GUEST        HOST\n"
            "a-long-name  h1\n"
            "b\n");
  EXPECT_EQ(render_table({}), "");
}

}  // namespace
}  // namespace sluice::cli
