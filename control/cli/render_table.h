// Aligned columns for lists. Pure; any thread.
#pragma once

#include <string>
#include <vector>

namespace sluice::cli {

// The first row is the heading. Columns are as wide as their widest cell, two spaces apart; no
// trailing spaces.
[[nodiscard]] std::string render_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace sluice::cli
