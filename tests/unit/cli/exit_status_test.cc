#include <gtest/gtest.h>
#include <sstream>

#include "control/cli/terminal.h"

namespace sluice::cli {
namespace {

TEST(ExitStatus, OnlyAnUnknownOutcomeIsUnknown) {
  for (auto kind = static_cast<int>(ErrorKind::kInvalid);
       kind <= static_cast<int>(ErrorKind::kUnknownOutcome); ++kind) {
    const Error error{static_cast<ErrorKind>(kind), "x"};
    EXPECT_EQ(exit_status(error), error.kind == ErrorKind::kUnknownOutcome ? 3 : 1) << kind;
  }
}

TEST(Fail, PrintsOneLineAndWithJsonOneDocument) {
  std::ostringstream out;
  std::ostringstream err;
  Interrupts interrupts;
  Terminal terminal{.out = out, .err = err, .interrupts = interrupts};
  EXPECT_EQ(terminal.fail({ErrorKind::kNotFound, "no host has a guest x"}), 1);
  EXPECT_EQ(err.str(), "sluice: no host has a guest x\n");
  EXPECT_EQ(out.str(), "");
  terminal.json = true;
  EXPECT_EQ(terminal.fail({ErrorKind::kUnknownOutcome, "lost"}), 3);
  EXPECT_EQ(out.str(), "{\"status\":\"unknown\",\"error\":\"lost\"}\n");
}

TEST(Interrupts, OnlyTheFirstIsTakenAndOnlyByAListener) {
  Interrupts interrupts;
  EXPECT_FALSE(interrupts.raise());
  EXPECT_FALSE(interrupts.raised());
  int heard = 0;
  {
    const Interrupts::Listener listener(interrupts, [&heard] { ++heard; });
    EXPECT_TRUE(interrupts.raise());
    EXPECT_FALSE(interrupts.raise());
  }
  EXPECT_EQ(heard, 1);
  EXPECT_TRUE(interrupts.raised());
  const Interrupts::Listener late(interrupts, [&heard] { ++heard; });
  EXPECT_EQ(heard, 2);
}

}  // namespace
}  // namespace sluice::cli
