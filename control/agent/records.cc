#include "control/agent/records.h"

#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

namespace sluice::agent {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

Expected<std::string> make_directory(const std::string& run_dir, const char* name) {
  std::string directory = run_dir + "/" + name;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return fail(ErrorKind::kPermission,
                fmt::format("{} cannot be made: {}", directory, error.message()));
  }
  return directory;
}

// A reader sees the whole old or the whole new file.
Expected<void> write_whole(const std::string& path, const Json& content) {
  const std::string temporary = path + ".new";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << content.dump();
    if (!file.flush())
      return fail(ErrorKind::kFailed, fmt::format("{} cannot be written", temporary));
  }
  std::error_code error;
  fs::rename(temporary, path, error);
  if (error)
    return fail(ErrorKind::kFailed, fmt::format("{} cannot be written: {}", path, error.message()));
  return {};
}

std::string file_of(const std::string& directory, std::uint64_t session) {
  return fmt::format("{}/{:016x}.json", directory, session);
}

// Every file of the directory that holds an object with these texts.
std::vector<Json> read_objects(const std::string& directory,
                               std::initializer_list<const char*> texts) {
  std::vector<Json> objects;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    Json object = Json::parse(file, nullptr, /*allow_exceptions=*/false);
    bool complete = object.is_object();
    for (const char* key : texts)
      complete = complete && object.contains(key) && object[key].is_string();
    if (complete) objects.push_back(std::move(object));
  }
  return objects;
}

}  // namespace

Expected<HandoverRecords> HandoverRecords::open(const std::string& run_dir) {
  return make_directory(run_dir, "handover").map([](std::string directory) {
    return HandoverRecords(std::move(directory));
  });
}

Expected<void> HandoverRecords::write(const HandoverRecord& record) const {
  return write_whole(file_of(directory_, record.session),
                     Json{{"session", fmt::format("{:016x}", record.session)},
                          {"guest", record.guest},
                          {"to", record.to},
                          {"address", record.address},
                          {"state", "handed-over"}});
}

void HandoverRecords::remove(std::uint64_t session) const {
  std::error_code error;
  fs::remove(file_of(directory_, session), error);
}

std::vector<HandoverRecord> HandoverRecords::read_all() const {
  std::vector<HandoverRecord> records;
  for (const auto& object : read_objects(directory_, {"session", "guest", "to", "address"})) {
    records.push_back({std::strtoull(object["session"].get<std::string>().c_str(), nullptr, 16),
                       object["guest"], object["to"], object["address"]});
  }
  return records;
}

Expected<std::unique_ptr<OutcomeRecords>> OutcomeRecords::open(const std::string& run_dir) {
  return make_directory(run_dir, "outcome").map([](std::string directory) {
    return std::unique_ptr<OutcomeRecords>(new OutcomeRecords(std::move(directory)));
  });
}

std::string OutcomeRecords::path(std::uint64_t session) const {
  return file_of(directory_, session);
}

bool OutcomeRecords::begin(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  return !fs::exists(path(session)) && undecided_.insert(session).second;
}

Expected<void> OutcomeRecords::own(std::uint64_t session, const std::string& guest) {
  const std::lock_guard lock(mutex_);
  if (!undecided_.contains(session)) {
    return fail(ErrorKind::kFailed,
                fmt::format("commit refused: session {:016x} was discarded", session));
  }
  if (auto written = write_whole(path(session), Json{{"guest", guest}, {"state", "owned"}});
      !written)
    return written;
  undecided_.erase(session);
  return {};
}

void OutcomeRecords::mark_running(std::uint64_t session, const std::string& guest) {
  const std::lock_guard lock(mutex_);
  // A failure leaves "owned", which asks a restarted agent for a resume that changes nothing.
  (void)write_whole(path(session), Json{{"guest", guest}, {"state", "running"}});
}

void OutcomeRecords::discard(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  undecided_.erase(session);
  std::error_code error;
  fs::remove(path(session), error);
}

Ownership OutcomeRecords::outcome(std::uint64_t session) const {
  const std::lock_guard lock(mutex_);
  if (undecided_.contains(session)) return Ownership::kUndecided;
  return fs::exists(path(session)) ? Ownership::kOwned : Ownership::kNever;
}

std::vector<std::string> OutcomeRecords::owned_but_not_running() const {
  std::vector<std::string> guests;
  for (const auto& object : read_objects(directory_, {"guest", "state"})) {
    if (object["state"] == "owned") guests.push_back(object["guest"]);
  }
  return guests;
}

}  // namespace sluice::agent
