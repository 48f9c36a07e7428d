// A migration under way, for a person.
#pragma once

#include <set>
#include <string>

#include "control/cli/terminal.h"
#include "control/proto/sluice.pb.h"

namespace sluice::cli {

// "db-3: h1 -> h2, 4.0 GiB (1.2 GiB populated), 2 flows over memif, 2 pages a frame, downtime
// limit 50.0 ms".
[[nodiscard]] std::string render_plan(const v1::MigratePlan& plan);

// One line for a terminal that is `columns` wide; never longer than columns - 1.
[[nodiscard]] std::string render_live_line(const v1::MigrateProgress& progress, unsigned columns);

// One line for a log: time, phase, iteration and what is left.
[[nodiscard]] std::string render_plain_line(const v1::MigrateProgress& progress);

// Shows updates as they come: on a terminal one line that is rewritten, elsewhere a line whenever
// the phase or the iteration changes. A remark is shown as soon as it is made, once.
class ProgressView {
 public:
  explicit ProgressView(const Terminal& terminal) : terminal_(terminal) {}
  // Clears the live line, so that what follows starts on a clean one.
  ~ProgressView();
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  void show(const v1::MigrateUpdate& update);

 private:
  void clear();

  const Terminal& terminal_;
  std::string last_phase_;
  unsigned last_iteration_ = 0;
  bool line_is_live_ = false;
  std::set<std::string> remarks_shown_;
};

}  // namespace sluice::cli
