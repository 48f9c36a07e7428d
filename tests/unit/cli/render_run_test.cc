#include "control/cli/render_run.h"

#include <gtest/gtest.h>
#include <sstream>
#include <utility>
#include <vector>

namespace sluice::cli {
namespace {

v1::RunStatus status_of(const std::string& state, const std::string& host_state) {
  v1::RunStatus run;
  run.set_run("r1");
  run.set_name("july");
  run.set_state(state);
  run.set_begun_ms(1);
  auto& host = *run.add_hosts();
  host.set_host("h1");
  host.set_state(host_state);
  return run;
}

void add_hook(v1::RunStatus& run, std::uint64_t id, const std::string& purpose,
              const std::string& state) {
  auto& task = *run.add_tasks();
  task.set_id(id);
  task.set_action("hook");
  task.set_purpose(purpose);
  task.set_host("h1");
  task.set_state(state);
}

TEST(RunHeadline, SaysWhatIsLeft) {
  auto run = status_of("running", "draining");
  EXPECT_EQ(render_run_headline(run).find("left"), std::string::npos);
  auto& left = *run.mutable_left();
  left.set_migrations(7);
  left.set_seconds(40);
  left.set_low_seconds(36);
  left.set_high_seconds(60);
  const std::string text = render_run_headline(run);
  EXPECT_NE(text.find("; 7 migrations left, about 40.0 s (36.0 s to 1 min"), std::string::npos)
      << text;
}

TEST(RenderRun, ShowsWhatIsDoneOnlyWhenAsked) {
  auto run = status_of("running", "refill");
  add_hook(run, 1, "silence", "done");
  add_hook(run, 2, "before", "done");
  add_hook(run, 3, "patch", "failed");
  add_hook(run, 4, "rollback", "under way");
  const std::string usual = render_run(run, Tasks::kNotDone);
  for (const char* text : {"hook patch, failed", "hook rollback", "2 tasks done; --all shows them"})
    EXPECT_NE(usual.find(text), std::string::npos) << text << " in\n" << usual;
  EXPECT_EQ(usual.find("hook silence"), std::string::npos) << usual;
  const std::string all = render_run(run, Tasks::kAll);
  for (const char* text : {"hook silence, done", "hook before, done", "hook patch, failed"})
    EXPECT_NE(all.find(text), std::string::npos) << text << " in\n" << all;
  EXPECT_EQ(all.find("--all"), std::string::npos) << all;
  EXPECT_EQ(render_run(run, Tasks::kUnderWay).find("failed"), std::string::npos);
}

TEST(RunView, TellsWhatEndedBeforeWhatFollowed) {
  std::ostringstream out;
  Interrupts interrupts;
  const Terminal terminal{out, out, interrupts};
  RunView view(terminal);
  auto first = status_of("running", "cordoned");
  add_hook(first, 1, "silence", "under way");
  view.show(first);
  // Much may have happened since.
  auto second = status_of("running", "patching");
  add_hook(second, 1, "silence", "done");
  add_hook(second, 2, "patch", "under way");
  view.show(second);
  auto last = status_of("done", "done");
  last.set_ended_ms(2);
  add_hook(last, 1, "silence", "done");
  add_hook(last, 2, "patch", "done");
  view.show(last);

  std::size_t at = 0;
  for (const char* text : {"run r1, july: running", "h1: cordoned", "h1: hook silence\n",
                           "h1: hook silence, done", "h1: patching", "h1: hook patch\n",
                           "h1: hook patch, done", "h1: done", "run r1, july: done"}) {
    const auto found = out.str().find(text, at);
    ASSERT_NE(found, std::string::npos) << text << " is not where it should be in\n" << out.str();
    at = found;
  }
}

}  // namespace
}  // namespace sluice::cli
