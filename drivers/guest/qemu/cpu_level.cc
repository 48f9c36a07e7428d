#include "drivers/guest/qemu/cpu_level.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "drivers/guest/qemu/command_line.h"

namespace sluice::guest::qemu {
namespace {

// As the kernel names them in /proc/cpuinfo; abm stands for LZCNT, xsave for OSXSAVE. x86-64 psABI,
// table "Micro-Architecture Levels".
const std::array<std::vector<std::string_view>, 4>& features_of_levels() {
  static const std::array<std::vector<std::string_view>, 4> features = {{
      {"lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"},
      {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
      {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
      {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
  }};
  return features;
}

struct ModelLevel {
  std::string_view prefix;
  std::uint32_t level;
};
// QEMU's models (qemu-system-x86_64 -cpu help); the first prefix that fits counts.
constexpr std::array<ModelLevel, 32> kModels = {{
    {"qemu64", 1},      {"kvm64", 1},          {"Conroe", 1},         {"Penryn", 1},
    {"Opteron_G1", 1},  {"Opteron_G2", 1},     {"Opteron_G3", 1},     {"phenom", 1},
    {"core2duo", 1},    {"x86-64-v1", 1},      {"Nehalem", 2},        {"Westmere", 2},
    {"SandyBridge", 2}, {"IvyBridge", 2},      {"Opteron_G4", 2},     {"Opteron_G5", 2},
    {"Denverton", 2},   {"Snowridge", 2},      {"x86-64-v2", 2},      {"Haswell", 3},
    {"Broadwell", 3},   {"Skylake-Client", 3}, {"EPYC-Genoa", 4},     {"EPYC-Turin", 4},
    {"EPYC", 3},        {"Dhyana", 3},         {"x86-64-v3", 3},      {"Skylake-Server", 4},
    {"Cascadelake", 4}, {"Cooperlake", 4},     {"Icelake-Server", 4}, {"x86-64-v4", 4},
}};

std::set<std::string_view> words_of(std::string_view line) {
  std::set<std::string_view> words;
  while (!line.empty()) {
    const auto end = std::min(line.find(' '), line.size());
    if (end != 0) words.insert(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

// Of a -cpu argument: up to the next comma, which it loses with it.
std::string_view next_part(std::string_view& argument) {
  const auto end = std::min(argument.find(','), argument.size());
  const std::string_view part = argument.substr(0, end);
  argument.remove_prefix(std::min(end + 1, argument.size()));
  return part;
}

std::string model_of(const std::vector<std::string>& args) {
  const std::string argument = cpu_argument(args);
  std::string_view rest = argument;
  return std::string(next_part(rest));
}

// In the words of features_of_levels(); empty if the part of a -cpu argument adds none. QEMU spells
// with - or . what the kernel spells with _, and has second names for some.
std::string added_feature(std::string_view part) {
  const auto equals = part.find('=');
  if (equals != std::string_view::npos) {
    const std::string_view value = part.substr(equals + 1);
    if (value != "on" && value != "yes" && value != "true" && value != "y") return {};
  }
  std::string name(part.substr(0, equals));
  if (name.starts_with('+')) name.erase(0, 1);
  if (name.starts_with('-')) return {};
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  if (name == "sse3") return "pni";
  if (name == "lzcnt") return "abm";
  // Those that are not of level 4 come with processors that are.
  return name.starts_with("avx512") ? "avx512f" : name;
}

// The highest level that one of the features belongs to which are added to the model; 0: none does.
std::uint32_t level_of_added(const std::vector<std::string>& args) {
  const std::string argument = cpu_argument(args);
  std::string_view rest = argument;
  (void)next_part(rest);
  std::uint32_t highest = 0;
  while (!rest.empty()) {
    const std::string feature = added_feature(next_part(rest));
    std::uint32_t level = 0;
    for (const auto& features : features_of_levels()) {
      ++level;
      if (std::find(features.begin(), features.end(), feature) != features.end())
        highest = std::max(highest, level);
    }
  }
  return highest;
}

std::optional<std::uint32_t> level_of_model(std::string_view model) {
  // Without -cpu QEMU takes qemu64.
  if (model.empty()) return 1;
  const auto* const found = std::find_if(kModels.begin(), kModels.end(), [&](const auto& known) {
    return model.starts_with(known.prefix);
  });
  if (found == kModels.end()) return std::nullopt;
  return found->level;
}

}  // namespace

std::uint32_t cpu_level_of(std::string_view cpuinfo) {
  const auto flags = cpuinfo.find("\nflags");
  if (flags == std::string_view::npos) return 0;
  std::string_view line = cpuinfo.substr(flags + 1);
  line = line.substr(0, line.find('\n'));
  line.remove_prefix(std::min(line.find(':'), line.size()));
  const auto present = words_of(line);
  std::uint32_t level = 0;
  for (const auto& features : features_of_levels()) {
    const bool all = std::all_of(features.begin(), features.end(),
                                 [&](const auto& feature) { return present.count(feature) != 0; });
    if (!all) break;
    ++level;
  }
  return level;
}

bool takes_cpu_of_host(const std::vector<std::string>& args) {
  return !level_of_model(model_of(args));
}

std::uint32_t cpu_level_needed(const std::vector<std::string>& args, std::uint32_t host_level) {
  const auto level = level_of_model(model_of(args));
  return level ? std::max(*level, level_of_added(args)) : host_level;
}

}  // namespace sluice::guest::qemu
