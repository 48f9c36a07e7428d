#include "control/controller/zone_file.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <iterator>

#include "control/patch/time_zone.h"

namespace sluice::controller {
namespace {

// It becomes a path.
bool is_zone_name(const std::string& name) {
  const bool letters = std::all_of(name.begin(), name.end(), [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '/' || letter == '_' || letter == '-' ||
           letter == '+';
  });
  return letters && !name.empty() && name.front() != '/';
}

}  // namespace

// RFC 8536: the file's last line, between two line ends, holds for all time after its last entry.
Expected<std::string> read_zone_rule(const std::string& name, const std::string& directory) {
  std::string text;
  const auto path = std::filesystem::path(directory) / name;
  std::error_code ignored;
  if (is_zone_name(name) && std::filesystem::is_regular_file(path, ignored)) {
    std::ifstream file(path, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  if (!text.starts_with("TZif")) {
    return fail(ErrorKind::kNotFound,
                fmt::format("there is no time zone {} in {} of the controller; write it as "
                            "\"Europe/Berlin\", or leave window.timezone out for UTC",
                            name, directory));
  }
  const auto end = text.size() - 1;
  const auto begin = text.rfind('\n', end - 1);
  const std::string rule = text.back() == '\n' && begin != std::string::npos
                               ? text.substr(begin + 1, end - begin - 1)
                               : "";
  if (!patch::TimeZone::parse(rule)) {
    return fail(ErrorKind::kInvalid,
                fmt::format("the time zone {} has no rule for the future in {}", name, directory));
  }
  return rule;
}

}  // namespace sluice::controller
