// Patch runs and what they would do, for a person. Any thread.
#pragma once

#include <map>
#include <string>

#include "control/cli/terminal.h"
#include "control/proto/sluice.pb.h"

namespace sluice::cli {

// Every move, then the estimate with the lower bound beside it.
[[nodiscard]] std::string render_preview(const v1::Preview& preview);

// "run r3, drain h1: running, 1 of 4 hosts done".
[[nodiscard]] std::string render_run_headline(const v1::RunStatus& run);

enum class Tasks {
  kUnderWay = 1,
  kNotDone,  // and those that failed
  kAll,
};
// The headline, every host and these tasks; how many others there are, if failed ones are shown.
[[nodiscard]] std::string render_run(const v1::RunStatus& run, Tasks tasks);

// The list of runs.
[[nodiscard]] std::string render_runs(const v1::RunList& runs);

// "g1: h1 -> h2, done in 1.2 s, stood still for 12.4 ms".
[[nodiscard]] std::string render_task(const v1::TaskStatus& task);

// Every host of the run is in service, patched; or emptied, if that is all that was asked for.
[[nodiscard]] bool is_success(const v1::RunStatus& run);

// Shows statuses as they come: on a terminal a view that is rewritten, elsewhere a line for
// whatever has changed.
class RunView {
 public:
  explicit RunView(const Terminal& terminal) : terminal_(terminal) {}
  // Clears the view, so that what follows starts on a clean line.
  ~RunView();
  RunView(const RunView&) = delete;
  RunView& operator=(const RunView&) = delete;

  void show(const v1::RunStatus& run);

 private:
  void clear();
  void rewrite(const v1::RunStatus& run);
  void print_changes(const v1::RunStatus& run);
  void print_headline(const v1::RunStatus& run);
  void print_tasks(const v1::RunStatus& run, bool under_way);
  void print(const v1::RunStatus& run, const std::string& text);

  const Terminal& terminal_;
  unsigned lines_ = 0;  // of the view on the terminal
  std::string run_state_;
  std::map<std::string, std::string> host_states_;
  std::map<std::uint64_t, std::string> task_states_;
};

}  // namespace sluice::cli
