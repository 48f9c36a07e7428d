// JSON from peers and from the journal: a guest's description and a run's records. What is accepted
// is what would be written.
#include <nlohmann/json.hpp>
#include <string>

#include "control/model/description.h"
#include "control/patch/record.h"
#include "drivers/guest/definition.h"
#include "tests/fuzz/fuzz.h"

namespace sluice {
namespace {

using fuzz::accepted;
using fuzz::require;
using Json = nlohmann::json;

void check_description(const std::string& text) {
  const auto description = model::parse_description(text);
  if (!accepted(description)) {
    return;
  }
  const guest::Definition& definition = description->definition;
  require(guest::is_valid_guest_name(definition.name), "a guest has a name");
  require(definition.memory_bytes > 0 && definition.memory_bytes % kExtentBytes == 0,
          "a guest has whole extents");
  const Json json = Json::parse(text);
  for (const char* key : {"memory_bytes", "dirty_bytes_per_second"}) {
    require(json[key].is_number_unsigned(), "a size is a whole number that is not negative");
  }
  const std::string written = model::to_json(*description);
  const auto again = model::parse_description(written);
  require(again && model::to_json(*again) == written, "a description survives being sent");
}

void check_record(const std::string& text) {
  const auto record = patch::decode(text);
  if (!accepted(record)) {
    return;
  }
  require(patch::encode(*record) == Json::parse(text).dump(),
          "a record is accepted only as it would be written");
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  sluice::check_description(text);
  sluice::check_record(text);
  return 0;
}
