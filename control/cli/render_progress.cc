#include "control/cli/render_progress.h"

#include <algorithm>
#include <fmt/format.h>

#include "control/cli/quantity.h"

namespace sluice::cli {
namespace {

// How much of what is known by now has been sent. It falls back when an iteration ends with much
// dirty again.
std::string bar(const v1::MigrateProgress& progress, std::size_t cells) {
  const auto sent = static_cast<double>(progress.sent_bytes());
  const double whole = sent + static_cast<double>(progress.remaining_bytes());
  const auto full = whole > 0 ? static_cast<std::size_t>(static_cast<double>(cells) * sent / whole)
                              : std::size_t{0};
  return "[" + std::string(full, '#') + std::string(cells - full, '-') + "]";
}

std::string phase_of(const v1::MigrateProgress& progress) {
  if (progress.iteration() == 0) return progress.phase();
  return fmt::format("{}, iteration {}", progress.phase(), progress.iteration());
}

}  // namespace

std::string render_plan(const v1::MigratePlan& plan) {
  std::string text = fmt::format("{}: {} -> {}, {}", plan.guest(), plan.from(), plan.to(),
                                 format_bytes(plan.memory_bytes()));
  if (plan.populated_bytes() < plan.memory_bytes())
    text += fmt::format(" ({} populated)", format_bytes(plan.populated_bytes()));
  text += fmt::format(", {} over {}", format_counted(plan.flows(), "flow", "flows"),
                      plan.port_driver());
  text +=
      plan.pages_per_frame() == 0
          ? ", frames smaller than a page"
          : fmt::format(", {} a frame", format_counted(plan.pages_per_frame(), "page", "pages"));
  text += ", encryption: " + plan.encryption();
  if (plan.mode() == v1::MIGRATION_MODE_QUICK) return text + ", stopped while it moves";
  return text + ", downtime limit " + format_ms(plan.downtime_limit_us());
}

std::string render_live_line(const v1::MigrateProgress& progress, unsigned columns) {
  constexpr std::size_t kFewestCells = 8;
  constexpr std::size_t kMostCells = 20;
  const std::size_t width = columns > 1 ? columns - 1 : 1;
  // Columns of fixed width, so that nothing moves but the figures.
  const std::string head =
      fmt::format("{:<10} {:<7} ", progress.phase(),
                  progress.iteration() == 0 ? "" : fmt::format("iter {}", progress.iteration()));
  std::string tail = fmt::format(" {:>10} left {:>6.2f} Gb/s",
                                 format_bytes(progress.remaining_bytes()), progress.rate_gbps());
  // What does not fit beside the shortest bar is left out, the downtime last.
  const auto add_if_it_fits = [&](const std::string& part) {
    if (head.size() + 2 + kFewestCells + tail.size() + part.size() <= width) tail += part;
  };
  if (progress.predicted_downtime_us() > 0)
    add_if_it_fits("  downtime " + format_ms(progress.predicted_downtime_us()));
  if (progress.dirty_bytes_per_second() > 0)
    add_if_it_fits("  dirty " + format_bytes(progress.dirty_bytes_per_second()) + "/s");

  const std::size_t taken = head.size() + 2 + tail.size();
  const std::size_t cells =
      taken >= width ? kFewestCells : std::clamp(width - taken, kFewestCells, kMostCells);
  return (head + bar(progress, cells) + tail).substr(0, width);
}

std::string render_plain_line(const v1::MigrateProgress& progress) {
  std::string line =
      fmt::format("{:7.2f} s  {}: {} left, {:.2f} Gb/s", progress.seconds(), phase_of(progress),
                  format_bytes(progress.remaining_bytes()), progress.rate_gbps());
  if (progress.dirty_bytes_per_second() > 0)
    line += fmt::format(", dirty {}/s", format_bytes(progress.dirty_bytes_per_second()));
  return line;
}

ProgressView::~ProgressView() { clear(); }

void ProgressView::clear() {
  if (line_is_live_) terminal_.out << "\r\x1b[K" << std::flush;
  line_is_live_ = false;
}

void ProgressView::show(const v1::MigrateUpdate& update) {
  if (update.has_plan()) {
    clear();
    terminal_.out << render_plan(update.plan()) << std::endl;
    return;
  }
  if (!update.has_progress()) return;
  const v1::MigrateProgress& progress = update.progress();
  for (const std::string& remark : progress.remarks()) {
    if (!remarks_shown_.insert(remark).second) continue;
    clear();
    terminal_.out << "remark: " << remark << std::endl;
  }
  if (terminal_.live) {
    terminal_.out << "\r\x1b[K" << render_live_line(progress, terminal_.columns) << std::flush;
    line_is_live_ = true;
    return;
  }
  if (progress.phase() == last_phase_ && progress.iteration() == last_iteration_) return;
  last_phase_ = progress.phase();
  last_iteration_ = progress.iteration();
  terminal_.out << render_plain_line(progress) << std::endl;
}

}  // namespace sluice::cli
