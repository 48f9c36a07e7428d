#include "control/model/description.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "drivers/guest/definition.h"

namespace sluice::model {
namespace {

using Json = nlohmann::json;

// Conversions would make something else of numbers with a sign or a fraction.
std::uint64_t whole_number(const Json& json, const char* key) {
  const Json& value = json.at(key);
  if (!value.is_number_unsigned())
    throw std::invalid_argument(fmt::format("\"{}\" is not a whole number", key));
  return value;
}

// A value of the wrong type throws, which the caller turns into an error.
guest::Description read(const Json& json) {
  guest::Description description;
  auto& definition = description.definition;
  definition.name = json.at("name");
  definition.driver = json.at("driver");
  definition.memory_bytes = whole_number(json, "memory_bytes");
  definition.qemu_binary = json.at("qemu_binary");
  definition.qemu_args = json.at("qemu_args").get<std::vector<std::string>>();
  definition.dirty_bytes_per_second = whole_number(json, "dirty_bytes_per_second");
  definition.pattern = json.at("pattern");
  description.ram_backend_id = json.at("ram_backend_id");
  description.machine_type = json.at("machine_type");
  description.qemu_version = json.at("qemu_version");
  description.adopted = json.at("adopted");
  // An agent of an earlier version does not say it.
  if (json.contains("cpu_level"))
    description.cpu_level = static_cast<std::uint32_t>(whole_number(json, "cpu_level"));
  return description;
}

}  // namespace

std::string to_json(const guest::Description& description) {
  const auto& definition = description.definition;
  return Json{{"name", definition.name},
              {"driver", definition.driver},
              {"memory_bytes", definition.memory_bytes},
              {"qemu_binary", definition.qemu_binary},
              {"qemu_args", definition.qemu_args},
              {"dirty_bytes_per_second", definition.dirty_bytes_per_second},
              {"pattern", definition.pattern},
              {"ram_backend_id", description.ram_backend_id},
              {"machine_type", description.machine_type},
              {"qemu_version", description.qemu_version},
              {"adopted", description.adopted},
              {"cpu_level", description.cpu_level}}
      .dump();
}

Expected<guest::Description> parse_description(std::string_view text) {
  guest::Description description;
  try {
    description = read(Json::parse(text));
  } catch (const std::exception& failure) {
    return fail(ErrorKind::kInvalid,
                fmt::format("the guest's description cannot be read: {}", failure.what()));
  }
  const auto& definition = description.definition;
  if (!guest::is_valid_guest_name(definition.name))
    return fail(ErrorKind::kInvalid, "the guest's description has no valid name");
  if (definition.memory_bytes == 0 || definition.memory_bytes % kExtentBytes != 0) {
    return fail(ErrorKind::kInvalid,
                fmt::format("guest {}: {} bytes of memory are not a multiple of 2 MiB",
                            definition.name, definition.memory_bytes));
  }
  return description;
}

}  // namespace sluice::model
