// The known word that a mistyped one was probably meant to be. Pure; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

// How many letters must be put in, left out, replaced or exchanged with their neighbour to make `b`
// of `a`: optimal string alignment (Damerau 1964), a row at a time.
[[nodiscard]] inline std::size_t letters_wrong(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last;
  std::vector<std::size_t> last;
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before_last = std::move(last);
    last = row;
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

// The word of `known` that is nearest to `word`; empty if none is within a third of its letters.
// One may always be wrong, and so may be a whole end that was left out or put in. Of equals the
// first.
template <typename Words>
[[nodiscard]] std::string_view nearest(std::string_view word, const Words& known) {
  constexpr std::size_t kBeginningMin = 3;
  std::string_view best;
  std::size_t least = std::max<std::size_t>(word.size() / 3, 1) + 1;
  for (const std::string_view candidate : known) {
    const bool has_other_end = std::min(word.size(), candidate.size()) >= kBeginningMin &&
                               (candidate.starts_with(word) || word.starts_with(candidate));
    const std::size_t wrong = has_other_end ? 1 : letters_wrong(word, candidate);
    if (wrong >= least) continue;
    least = wrong;
    best = candidate;
  }
  return best;
}

}  // namespace sluice
