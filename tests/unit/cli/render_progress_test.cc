#include "control/cli/render_progress.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <sstream>

#include "tests/unit/cli/samples.h"

namespace sluice::cli {
namespace {

TEST(Plan, SaysWhatIsGoingToHappen) {
  EXPECT_EQ(render_plan(sample_plan()),
            "db-3: h1 -> h2, 4.0 GiB (1.5 GiB populated), 1 flow over memif, 2 pages a frame, "
            "encryption: aes-256-gcm, downtime limit 50.0 ms");
}

TEST(LiveLine, ShowsPhaseBarAndFigures) {
  EXPECT_EQ(
      render_live_line(sample_progress(), 200),
      "streaming  iter 2  [###############-----]    1.0 GiB left   9.40 Gb/s  downtime 12.3 ms"
      "  dirty 200.0 MiB/s");
}

TEST(LiveLine, LeavesOutWhatDoesNotFit) {
  EXPECT_EQ(render_live_line(sample_progress(), 81),
            "streaming  iter 2  [#########----]    1.0 GiB left   9.40 Gb/s  downtime 12.3 ms");
  EXPECT_EQ(render_live_line(sample_progress(), 60),
            "streaming  iter 2  [#######---]    1.0 GiB left   9.40 Gb/s");
}

TEST(LiveLine, NeverWrapsAndSurvivesEmptyProgress) {
  for (unsigned columns = 0; columns < 150; ++columns)
    EXPECT_LT(render_live_line(sample_progress(), columns).size(), std::max(columns, 2U));
  EXPECT_EQ(render_live_line(v1::MigrateProgress(), 200),
            "                   [--------------------]        0 B left   0.00 Gb/s");
}

class ProgressViewTest : public testing::Test {
 protected:
  void show(ProgressView& view, const char* phase, unsigned iteration) {
    v1::MigrateUpdate update;
    *update.mutable_progress() = sample_progress();
    update.mutable_progress()->set_phase(phase);
    update.mutable_progress()->set_iteration(iteration);
    view.show(update);
  }
  [[nodiscard]] long lines() const {
    const std::string text = out_.str();
    return std::count(text.begin(), text.end(), '\n');
  }

  std::ostringstream out_;
  std::ostringstream err_;
  Interrupts interrupts_;
};

TEST_F(ProgressViewTest, ElsewhereALineForEveryChange) {
  const Terminal terminal{.out = out_, .err = err_, .interrupts = interrupts_};
  ProgressView view(terminal);
  show(view, "streaming", 1);
  show(view, "streaming", 1);
  EXPECT_EQ(lines(), 2);
  EXPECT_TRUE(out_.str().starts_with("remark: check the switch ports\n"));
  show(view, "streaming", 2);
  show(view, "final pass", 2);
  show(view, "final pass", 2);
  EXPECT_EQ(lines(), 4);
  EXPECT_EQ(out_.str().find('\r'), std::string::npos);
  EXPECT_NE(out_.str().find("   2.50 s  streaming, iteration 2: 1.0 GiB left, 9.40 Gb/s"),
            std::string::npos);
}

TEST_F(ProgressViewTest, OnATerminalOneLineThatIsClearedAtTheEnd) {
  const Terminal terminal{.out = out_, .err = err_, .interrupts = interrupts_, .live = true};
  {
    ProgressView view(terminal);
    show(view, "streaming", 1);
    show(view, "streaming", 2);
  }
  EXPECT_EQ(out_.str().find("remark: check the switch ports\n"), 0U);
  EXPECT_EQ(lines(), 1) << "the remark stays";
  EXPECT_TRUE(out_.str().ends_with("\r\x1b[K"));
}

}  // namespace
}  // namespace sluice::cli
