#include "control/cli/plan_document.h"

#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fstream>
#include <sstream>
#include <string_view>
#include <toml++/toml.h>
#include <vector>

namespace sluice::cli {
namespace {

constexpr std::string_view kKey = "guest_file";

Expected<std::string> read_file(const std::string& what, const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return fail(ErrorKind::kInvalid, fmt::format("{} {} is a directory, not a file", what, path));
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    return fail(ErrorKind::kNotFound, fmt::format("{} {} cannot be read or is empty", what, path));
  return text.str();
}

// A TOML string on one line.
std::string quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char letter : text) {
    switch (letter) {
      case '"':
        quoted += "\\\"";
        break;
      case '\\':
        quoted += "\\\\";
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '\t':
        quoted += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) {
          quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(letter));
        } else {
          quoted += letter;
        }
    }
  }
  return quoted + "\"";
}

// Puts `definition = "..."` where `guest_file = "..."` stands: a value of one line, which the
// parser has accepted, at or after column 1 of `line`.
bool replace_guest_file(std::string& line, const std::string& definition) {
  const auto key = line.find(kKey);
  if (key == std::string::npos) return false;
  const auto open = line.find_first_of("\"'", line.find('=', key));
  if (open == std::string::npos) return false;
  auto close = open + 1;
  while (close < line.size() && line[close] != line[open])
    close += line[open] == '"' && line[close] == '\\' ? 2 : 1;
  if (close >= line.size()) return false;
  line.replace(open, close - open + 1, quote(definition));
  line.replace(key, kKey.size(), "definition");
  return true;
}

std::string error_at(const std::string& path, const toml::source_region& region,
                     std::string_view message) {
  return fmt::format("{}:{}:{}: {}", path, region.begin.line, region.begin.column, message);
}

}  // namespace

std::string drain_plan(const std::string& host) {
  return fmt::format("name = {}\nhosts = [{}]\ndrain_only = true\nparallel = 1\n",
                     quote("drain " + host), quote(host));
}

Expected<std::string> read_plan(const std::string& path) {
  auto text = read_file("plan", path);
  if (!text) return text;
  toml::table root;
  try {
    root = toml::parse(*text, path);
  } catch (const toml::parse_error& error) {
    return fail(ErrorKind::kInvalid, error_at(path, error.source(), error.description()));
  }
  const toml::table* const canary = root["canary"].as_table();
  const toml::node* const node = canary == nullptr ? nullptr : canary->get(kKey);
  if (node == nullptr) return text;
  const auto& where = node->source();
  const auto name = node->value_exact<std::string>();
  if (!name || name->empty()) {
    return fail(ErrorKind::kInvalid,
                error_at(path, where, "canary.guest_file must be the path of a guest file"));
  }
  if (canary->contains("definition")) {
    return fail(ErrorKind::kInvalid,
                error_at(path, where, "canary has both guest_file and definition; keep one"));
  }
  auto definition = read_file(error_at(path, where, "guest file"),
                              (std::filesystem::path(path).parent_path() / *name).string());
  if (!definition) return definition;

  std::vector<std::string> lines;
  std::istringstream stream(*text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  if (where.begin.line > lines.size() ||
      !replace_guest_file(lines[where.begin.line - 1], *definition)) {
    return fail(ErrorKind::kInvalid,
                error_at(path, where, "write guest_file = \"PATH\" on a line of its own"));
  }
  return fmt::format("{}\n", fmt::join(lines, "\n"));
}

}  // namespace sluice::cli
