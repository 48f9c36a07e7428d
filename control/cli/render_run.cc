#include "control/cli/render_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sstream>
#include <vector>

#include "control/cli/quantity.h"
#include "control/cli/render_table.h"

namespace sluice::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string span(double seconds) {
  return format_span(static_cast<std::uint64_t>(std::lround(std::max(seconds, 0.0) * 1000)));
}

std::string instant(std::int64_t ms) {
  if (ms == 0) return "-";
  return fmt::format("{:%Y-%m-%d %H:%M:%S}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)));
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// What is not known before the host's turn.
std::string guests_before(const v1::HostRunStatus& host) {
  return host.state() == "pending" ? "-" : std::to_string(host.guests_before());
}

std::string remark(const v1::HostRunStatus& host) {
  std::string text = one_line(host.failure());
  if (!host.waits_for().empty()) text += (text.empty() ? "" : "; ") + one_line(host.waits_for());
  return text;
}

Rows host_rows(const v1::RunStatus& run) {
  Rows rows = {{"HOST", "STATE", "FOR", "GUESTS", "BEFORE", "REMARK"}};
  const std::int64_t now = run.ended_ms() > 0 ? run.ended_ms() : now_ms();
  for (const v1::HostRunStatus& host : run.hosts()) {
    const std::int64_t since = host.since_ms();
    const std::string how_long =
        since == 0 || since > now ? "-" : format_span(static_cast<std::uint64_t>(now - since));
    rows.push_back({host.host(), host.state(), how_long, std::to_string(host.guests_now()),
                    guests_before(host), remark(host)});
  }
  return rows;
}

std::string what(const v1::TaskStatus& task) {
  if (task.action() == "migrate")
    return fmt::format("{}: {} -> {}", task.guest(), task.from(), task.to());
  if (!task.guest().empty() && task.action() != "hook")
    return fmt::format("{}: {} {}", task.host(), task.action(), task.guest());
  if (task.purpose() == task.action()) return fmt::format("{}: {}", task.host(), task.action());
  return fmt::format("{}: {} {}", task.host(), task.action(), task.purpose());
}

std::string range(double low_seconds, double high_seconds) {
  return fmt::format("{} to {}", span(low_seconds), span(high_seconds));
}

// Of a host's drain, or of all.
template <typename Part>
std::string estimate(const Part& part) {
  return fmt::format("estimate {} ({}), lower bound {}", span(part.seconds()),
                     range(part.low_seconds(), part.high_seconds()), span(part.bound_seconds()));
}

// From its beginning to its end, by the clock.
std::string whole_run(const v1::Preview& preview) {
  std::string text =
      fmt::format("the whole run: {}, {} out of service at once\n", estimate(preview),
                  format_counted(preview.hosts_at_once(), "host", "hosts"));
  if (preview.patch_seconds() > 0) {
    text += fmt::format("of which from a host's patch to its canary's end {} ({})\n",
                        span(preview.patch_seconds()), preview.patch_seconds_from());
  }
  return text;
}

}  // namespace

bool is_success(const v1::RunStatus& run) {
  return run.state() == "done" &&
         std::all_of(run.hosts().begin(), run.hosts().end(), [](const v1::HostRunStatus& host) {
           // What was left behind at a host that went well is told there too.
           return host.state() == "done" && host.failure().empty();
         });
}

std::string render_preview(const v1::Preview& preview) {
  Rows rows = {{"HOST", "STARTS", "TAKES", "RANGE", "GUEST", "FROM", "TO", "MEMORY"}};
  std::string totals;
  std::uint32_t wave = 0;
  for (const v1::PreviewHost& host : preview.hosts()) {
    for (const v1::PreviewMove& move : host.moves()) {
      rows.push_back({host.host(), span(move.start_seconds()), span(move.seconds()),
                      range(move.low_seconds(), move.high_seconds()), move.guest(), move.from(),
                      move.to(), format_bytes(move.memory_bytes())});
    }
    if (host.wave() != wave) totals += fmt::format("wave {}:\n", host.wave());
    wave = host.wave();
    totals += fmt::format(
        "{}: {}, {}{}\n", host.host(),
        format_counted(static_cast<std::uint64_t>(host.moves_size()), "move", "moves"),
        estimate(host), host.bound_reason().empty() ? "" : " (" + host.bound_reason() + ")");
    if (host.shut_down_size() > 0) {
      totals += fmt::format("{}: {}: {}\n", host.host(),
                            preview.drain_only() ? "shut down, and started on other hosts"
                                                 : "shut down until it is back",
                            fmt::join(host.shut_down(), ", "));
    }
  }
  std::string text = rows.size() > 1 ? render_table(rows) : "nothing has to move\n";
  text += totals;
  if (preview.hosts_size() > 1 || !preview.drain_only()) text += whole_run(preview);
  if (!preview.one_way().empty()) text += preview.one_way() + "\n";
  if (!preview.begins().empty())
    text += fmt::format("waits for its window, which opens {}\n", preview.begins());
  return text;
}

std::string render_run_headline(const v1::RunStatus& run) {
  const auto done =
      std::count_if(run.hosts().begin(), run.hosts().end(),
                    [](const v1::HostRunStatus& host) { return host.state() == "done"; });
  std::string text = fmt::format("run {}, {}: {}", run.run(), run.name(), run.state());
  if (run.hosts_size() > 0) {
    text +=
        fmt::format(", {} of {} {}", done,
                    format_counted(static_cast<std::uint64_t>(run.hosts_size()), "host", "hosts"),
                    run.drain_only() ? "empty" : "patched");
  }
  if (run.failures() > 0) text += fmt::format(", {} failed", run.failures());
  if (run.ended_ms() > run.begun_ms() && run.begun_ms() > 0) {
    text += fmt::format(", took {}",
                        format_span(static_cast<std::uint64_t>(run.ended_ms() - run.begun_ms())));
  }
  if (!run.waits_for().empty()) {
    text += fmt::format(" ({})", run.waits_for());
  } else if (!run.reason().empty()) {
    text += fmt::format(" ({})", one_line(run.reason()));
  }
  if (run.has_left()) {
    const v1::RunEstimate& left = run.left();
    text += fmt::format("; {} left, about {} ({} to {})",
                        format_counted(left.migrations(), "migration", "migrations"),
                        span(left.seconds()), span(left.low_seconds()), span(left.high_seconds()));
  }
  return text;
}

std::string render_task(const v1::TaskStatus& task) {
  std::string text = what(task);
  if (task.attempt() > 1) text += fmt::format(", attempt {}", task.attempt());
  if (task.state() == "under way") {
    if (task.expected_seconds() > 0)
      text += fmt::format(", {} expected", span(task.expected_seconds()));
    return task.detail().empty() ? text : text + ": " + one_line(task.detail());
  }
  text += fmt::format(", {}", task.state());
  if (task.seconds() > 0)
    text += fmt::format(" {} {}", task.state() == "done" ? "in" : "after", span(task.seconds()));
  if (task.seconds() > 0 && task.expected_seconds() > 0)
    text += fmt::format(" of {} expected", span(task.expected_seconds()));
  if (task.action() == "migrate" && task.state() == "done")
    text += fmt::format(", stood still for {:.1f} ms", task.downtime_ms());
  const std::string detail = one_line(task.detail());
  if (!detail.empty()) text += ": " + detail;
  return text;
}

std::string render_run(const v1::RunStatus& run, Tasks tasks) {
  std::string text = render_run_headline(run) + "\n";
  if (run.hosts_size() > 0) text += render_table(host_rows(run));
  std::uint64_t done = 0;
  for (const v1::TaskStatus& task : run.tasks()) {
    const bool shown = tasks == Tasks::kAll || task.state() == "under way" ||
                       (tasks == Tasks::kNotDone && task.state() == "failed");
    if (shown) text += fmt::format("  {:<9}  {}\n", task.state(), render_task(task));
    if (task.state() == "done") ++done;
  }
  if (tasks == Tasks::kNotDone && done > 0) {
    text += fmt::format("  {} done; --all shows them\n", format_counted(done, "task", "tasks"));
  }
  return text;
}

std::string render_runs(const v1::RunList& runs) {
  if (runs.runs_size() == 0) return "no runs\n";
  Rows rows = {{"RUN", "STATE", "BEGUN", "ENDED", "FAILED", "NAME"}};
  for (const v1::RunStatus& run : runs.runs()) {
    rows.push_back({run.run(), run.state(), instant(run.begun_ms()), instant(run.ended_ms()),
                    std::to_string(run.failures()), run.name()});
  }
  return render_table(rows);
}

RunView::~RunView() { clear(); }

void RunView::clear() {
  if (lines_ > 0) terminal_.out << fmt::format("\x1b[{}A\r\x1b[J", lines_) << std::flush;
  lines_ = 0;
}

void RunView::show(const v1::RunStatus& run) {
  if (terminal_.live) {
    rewrite(run);
  } else {
    print_changes(run);
  }
}

// More than fits on most terminals would scroll and could not be rewritten.
void RunView::rewrite(const v1::RunStatus& run) {
  constexpr unsigned kMostLines = 22;
  const std::size_t width = terminal_.columns > 1 ? terminal_.columns - 1 : 1;
  v1::RunStatus shown = run;
  if (run.hosts_size() > 12) {
    shown.clear_hosts();
    for (const v1::HostRunStatus& host : run.hosts()) {
      if (host.state() != "pending" && host.state() != "done") *shown.add_hosts() = host;
    }
  }
  std::string body = render_run(shown, Tasks::kUnderWay);
  body.replace(0, body.find('\n'), render_run_headline(run));
  clear();
  std::istringstream lines(body);
  for (std::string line; lines_ < kMostLines && std::getline(lines, line); ++lines_)
    terminal_.out << line.substr(0, width) << '\n';
  terminal_.out << std::flush;
}

void RunView::print(const v1::RunStatus& run, const std::string& text) {
  const std::int64_t since = std::max<std::int64_t>(now_ms() - run.begun_ms(), 0);
  terminal_.out << fmt::format("{:8.1f} s  {}", static_cast<double>(since) / 1000, text)
                << std::endl;
}

// In the order in which things happened: what ended led to a host's next state, which led to what
// is under way.
void RunView::print_changes(const v1::RunStatus& run) {
  const bool ended = run.ended_ms() > 0;
  if (!ended) print_headline(run);
  print_tasks(run, /*under_way=*/false);
  for (const v1::HostRunStatus& host : run.hosts()) {
    std::string& state = host_states_[host.host()];
    if (state == host.state() || (state.empty() && host.state() == "pending")) continue;
    state = host.state();
    print(run, fmt::format("{}: {}{}", host.host(), host.state(),
                           host.failure().empty() ? "" : ": " + one_line(host.failure())));
  }
  print_tasks(run, /*under_way=*/true);
  if (ended) print_headline(run);
}

void RunView::print_headline(const v1::RunStatus& run) {
  if (run_state_ != run.state()) print(run, render_run_headline(run));
  run_state_ = run.state();
}

void RunView::print_tasks(const v1::RunStatus& run, bool under_way) {
  for (const v1::TaskStatus& task : run.tasks()) {
    std::string& state = task_states_[task.id()];
    if (state == task.state() || (task.state() == "under way") != under_way) continue;
    state = task.state();
    print(run, "  " + render_task(task));
  }
}

}  // namespace sluice::cli
