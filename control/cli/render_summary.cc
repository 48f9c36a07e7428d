#include "control/cli/render_summary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <string_view>
#include <utility>

#include "control/cli/quantity.h"

namespace sluice::cli {
namespace {

std::string line(std::string_view name, std::string_view text) {
  return fmt::format("  {:<13}{}\n", name, text);
}

std::string headline(const v1::MigrateSummary& summary, std::uint64_t downtime_limit_us) {
  const std::string& guest = summary.guest();
  const std::string path = fmt::format("from {} to {}", summary.from(), summary.to());
  if (summary.status() == "completed") {
    const std::string limit =
        downtime_limit_us == 0 ? "" : fmt::format(" (limit {})", format_ms(downtime_limit_us));
    return fmt::format("{} moved {} in {:.2f} s and stood still for {}{}\n", guest, path,
                       summary.seconds(), format_ms(summary.downtime_us()), limit);
  }
  if (summary.status() == "unknown")
    return fmt::format("{}: it is not known whether it moved {}\n", guest, path);
  return fmt::format("{} was not moved {} ({} after {:.2f} s)\n", guest, path, summary.status(),
                     summary.seconds());
}

// What arrived and was not believed; frames that came twice are the network's business.
std::string dropped(const v1::MigrateSummary& summary) {
  std::string text;
  const auto& named = summary.frames_dropped();
  for (const auto& [reason, count] : std::map(named.begin(), named.end()))
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, reason);
  return text.empty() ? "" : line("dropped", text);
}

std::string transfer(const v1::MigrateSummary& summary) {
  std::string iterations = format_counted(summary.iterations(), "iteration", "iterations");
  if (!summary.stop_reason().empty()) iterations += ", ended by: " + summary.stop_reason();
  return line("memory", fmt::format("{}: {} sent, {} zero", format_bytes(summary.bytes_guest()),
                                    format_counted(summary.pages_sent(), "page", "pages"),
                                    format_count(summary.zero_pages()))) +
         line("pre-copy", iterations) +
         line("wire", fmt::format("{}, {:.2f} Gb/s of page data",
                                  format_bytes(summary.bytes_wire()), summary.goodput_gbps())) +
         line("losses",
              fmt::format("{}, {} sent again",
                          format_counted(summary.frames_lost(), "frame", "frames"),
                          format_counted(summary.retransmitted_pages(), "page", "pages"))) +
         line("encryption", summary.encryption()) + dropped(summary) +
         line("busy cores",
              fmt::format("{:.2f} s at {}, {:.2f} s at {}", summary.busy_core_seconds_from(),
                          summary.from(), summary.busy_core_seconds_to(), summary.to()));
}

std::string proof(const v1::MigrateSummary& summary) {
  if (summary.proof_extents() == 0) return line("proof", "none was made");
  return line("proof", fmt::format("{} {} ({}), {} audited on the way",
                                   format_counted(summary.proof_extents(), "extent", "extents"),
                                   summary.proof_match() ? "agree" : "compared, they do NOT agree",
                                   summary.proof_algorithm(),
                                   format_counted(summary.proof_audited_pages(), "page", "pages")));
}

std::string downtime(const v1::MigrateSummary& summary) {
  constexpr double kBarCells = 30;
  const v1::Downtime& parts = summary.downtime();
  const std::array<std::pair<std::string_view, std::uint64_t>, 6> causes = {
      {{"stop", parts.stop_us()},
       {"final scan", parts.final_scan_us()},
       {"final copy", parts.final_copy_us()},
       {"proof", parts.proof_us()},
       {"state", parts.state_us()},
       {"resume", parts.resume_us()}}};
  const auto whole = static_cast<double>(std::max<std::uint64_t>(summary.downtime_us(), 1));
  std::string text = line("downtime", format_ms(summary.downtime_us()));
  for (const auto& [name, us] : causes) {
    const double share = std::min(1.0, static_cast<double>(us) / whole);
    // Whatever took time at all is seen.
    const auto cells =
        us == 0 ? std::size_t{0} : static_cast<std::size_t>(std::ceil(kBarCells * share));
    text += fmt::format("    {:<11}{:>10}{}{}\n", name, format_ms(us), cells == 0 ? "" : "  ",
                        std::string(cells, '#'));
  }
  return text;
}

}  // namespace

std::string render_summary(const v1::MigrateSummary& summary, std::uint64_t downtime_limit_us) {
  std::string text = headline(summary, downtime_limit_us);
  if (summary.pages_sent() + summary.zero_pages() > 0) text += transfer(summary);
  if (summary.status() == "completed") {
    text += proof(summary) + downtime(summary);
  } else if (summary.proof_extents() > 0) {
    text += proof(summary);
  }
  if (summary.status() == "unknown") {
    text +=
        line("what to do",
             fmt::format(
                 "start the agents of {} and {}; they settle it between them. Then: sluice guests",
                 summary.from(), summary.to()));
    text += line("", "Never resume a copy by hand: the guest could run twice.");
  }
  for (const std::string& remark : summary.remarks()) text += line("remark", remark);
  return text;
}

}  // namespace sluice::cli
