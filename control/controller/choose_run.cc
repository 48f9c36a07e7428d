#include "control/controller/choose_run.h"

#include <algorithm>
#include <fmt/format.h>

namespace sluice::controller {

Expected<std::string> choose_run(const std::vector<RunName>& runs, const std::string& asked,
                                 Unnamed unnamed) {
  if (runs.empty()) return fail(ErrorKind::kNotFound, "there has been no run yet");
  std::string all;
  std::string active;
  std::string chosen;
  std::size_t actives = 0;
  for (const RunName& run : runs) {
    if (!asked.empty() && run.id == asked) return asked;
    all += (all.empty() ? "" : ", ") + run.id;
    if (run.ended) continue;
    ++actives;
    chosen = run.id;
    active += fmt::format("{}{} ({})", active.empty() ? "" : ", ", run.id, run.name);
  }
  if (!asked.empty())
    return fail(ErrorKind::kNotFound, fmt::format("there is no run {}; runs: {}", asked, all));
  if (actives == 1) return chosen;
  if (actives > 1) {
    return fail(ErrorKind::kInvalid,
                fmt::format("several runs have not ended, name one of them: {}", active));
  }
  const RunName& last = runs.back();
  if (unnamed == Unnamed::kActiveOrLast) return last.id;
  return fail(ErrorKind::kInvalid,
              fmt::format("every run has ended; the latest is {} ({})", last.id, last.name));
}

}  // namespace sluice::controller
