#include "drivers/guest/qemu/record.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "drivers/base/file_descriptor.h"

namespace sluice::guest::qemu {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 5> kPhaseNames = {"starting", "running", "incoming", "kept",
                                                         "handed_over"};

Json to_json(const Record& record) {
  const Description& description = record.description;
  const Definition& definition = description.definition;
  return {{"driver", definition.driver},
          {"name", definition.name},
          {"memory_bytes", definition.memory_bytes},
          {"qemu_binary", definition.qemu_binary},
          {"qemu_args", definition.qemu_args},
          {"ram_backend_id", description.ram_backend_id},
          {"machine_type", description.machine_type},
          {"qemu_version", description.qemu_version},
          {"adopted", description.adopted},
          {"cpu_level", description.cpu_level},
          {"pid", record.pid},
          {"start_time", record.start_time},
          {"phase", kPhaseNames[static_cast<std::size_t>(record.phase) - 1]},
          {"session", record.session},
          {"qmp_socket", record.qmp_socket}};
}

// Nothing if it is another driver's or has an unknown phase; throws nlohmann's exceptions where a
// field is missing or has another type.
std::optional<Record> from_json(const Json& json) {
  Record record;
  Definition& definition = record.description.definition;
  json.at("driver").get_to(definition.driver);
  if (definition.driver != "qemu") return std::nullopt;
  json.at("name").get_to(definition.name);
  json.at("memory_bytes").get_to(definition.memory_bytes);
  json.at("qemu_binary").get_to(definition.qemu_binary);
  json.at("qemu_args").get_to(definition.qemu_args);
  json.at("ram_backend_id").get_to(record.description.ram_backend_id);
  json.at("machine_type").get_to(record.description.machine_type);
  json.at("qemu_version").get_to(record.description.qemu_version);
  json.at("adopted").get_to(record.description.adopted);
  // A record that an agent of an earlier version has written lacks these.
  record.description.cpu_level = json.value("cpu_level", 0U);
  record.session = json.value("session", std::uint64_t{0});
  json.at("pid").get_to(record.pid);
  json.at("start_time").get_to(record.start_time);
  json.at("qmp_socket").get_to(record.qmp_socket);
  const auto phase = json.at("phase").get<std::string>();
  const auto* const found = std::find(kPhaseNames.begin(), kPhaseNames.end(), phase);
  if (found == kPhaseNames.end()) return std::nullopt;
  record.phase = static_cast<RecordedPhase>(found - kPhaseNames.begin() + 1);
  return record;
}

}  // namespace

std::string guests_directory(const HostContext& context) { return context.run_dir + "/guests"; }

std::string guest_directory(const HostContext& context, const std::string& name) {
  return guests_directory(context) + "/" + name;
}

Expected<void> write_record(const std::string& directory, const Record& record) {
  const std::string path = directory + "/guest.json";
  const std::string temporary = path + ".new";
  const std::string text = to_json(record).dump(2) + "\n";
  const FileDescriptor file(
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid() ||
      write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      rename(temporary.c_str(), path.c_str()) != 0)
    return fail(ErrorKind::kFailed, "cannot write " + path + ": " + std::strerror(errno));
  return {};
}

Expected<Record> read_record(const std::string& directory) {
  const std::string path = directory + "/guest.json";
  errno = 0;
  std::ifstream file(path);
  if (!file) {
    const int reason = errno;
    return fail(reason == ENOENT ? ErrorKind::kNotFound : ErrorKind::kFailed,
                "cannot read " + path + ": " + std::strerror(reason));
  }
  try {
    auto record = from_json(Json::parse(file));
    if (!record) return fail(ErrorKind::kInvalid, path + " was not written by this driver");
    return std::move(*record);
  } catch (const Json::exception& error) {
    return fail(ErrorKind::kInvalid, path + " is damaged: " + error.what());
  }
}

}  // namespace sluice::guest::qemu
