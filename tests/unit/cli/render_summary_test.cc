#include "control/cli/render_summary.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/samples.h"

namespace sluice::cli {
namespace {

TEST(Summary, Completed) {
  auto summary = sample_summary();
  summary.add_remarks("the final copy took longer than predicted");
  EXPECT_EQ(render_summary(summary, 50'000),
            R"(db-3 moved from h1 to h2 in 4.21 s and stood still for 12.4 ms (limit 50.0 ms)
  memory       4.0 GiB: 1,100,000 pages sent, 12,345 zero
  pre-copy     3 iterations, ended by: predicted downtime
  wire         4.3 GiB, 9.41 Gb/s of page data
  losses       7 frames, 14 pages sent again
  encryption   aes-256-gcm
  dropped      1 bad_tag, 2 replay
  busy cores   3.91 s at h1, 4.02 s at h2
  proof        2,048 extents agree (xxh3-64), 70,003 pages audited on the way
  downtime     12.4 ms
    stop           0.1 ms  #
    final scan     0.5 ms  ##
    final copy     6.2 ms  ###############
    proof          1.1 ms  ###
    state          3.5 ms  #########
    resume         1.0 ms  ###
  remark       the final copy took longer than predicted
)");
}

TEST(Summary, FailedBeforeAnythingWasSent) {
  v1::MigrateSummary summary;
  summary.set_guest("db-3");
  summary.set_from("h1");
  summary.set_to("h2");
  summary.set_status("failed");
  summary.set_seconds(0.5);
  EXPECT_EQ(render_summary(summary, 0), "db-3 was not moved from h1 to h2 (failed after 0.50 s)\n");
}

TEST(Summary, ProofThatDoesNotMatchCannotBeOverlooked) {
  auto summary = sample_summary();
  summary.set_status("cancelled");
  summary.set_proof_match(false);
  const std::string text = render_summary(summary, 0);
  EXPECT_NE(text.find("was not moved"), std::string::npos);
  EXPECT_NE(text.find("do NOT agree"), std::string::npos);
  EXPECT_EQ(text.find("final copy"), std::string::npos);
}

TEST(Summary, UnknownSaysWhatToDo) {
  auto summary = sample_summary();
  summary.set_status("unknown");
  const std::string text = render_summary(summary, 0);
  EXPECT_NE(text.find("it is not known whether it moved from h1 to h2"), std::string::npos);
  EXPECT_NE(text.find("start the agents of h1 and h2"), std::string::npos);
  EXPECT_NE(text.find("Never resume a copy by hand"), std::string::npos);
}

}  // namespace
}  // namespace sluice::cli
