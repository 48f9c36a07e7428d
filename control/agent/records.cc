#include "control/agent/records.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
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
Expected<void> write_whole(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".new";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << content;
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

// The number in `path`, drawn and written there if there is none.
Expected<std::uint64_t> read_or_draw_id(const std::string& path) {
  std::uint64_t id = 0;
  if (std::ifstream file(path); file >> std::hex >> id && id != 0) return id;
  std::random_device device;
  while (id == 0) id = static_cast<std::uint64_t>(device()) << 32 | device();
  return write_whole(path, fmt::format("{:016x}", id)).map([&] { return id; });
}

struct FoundObject {
  std::uint64_t session = 0;
  Json content;
};

// Every file of the directory that holds an object with these texts; its name is the session.
std::vector<FoundObject> read_objects(const std::string& directory,
                                      std::initializer_list<const char*> texts) {
  std::vector<FoundObject> objects;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    Json object = Json::parse(file, nullptr, /*allow_exceptions=*/false);
    bool complete = object.is_object();
    for (const char* key : texts)
      complete = complete && object.contains(key) && object[key].is_string();
    if (!complete) continue;
    objects.push_back({std::strtoull(entry.path().stem().c_str(), nullptr, 16), std::move(object)});
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
  auto written = write_whole(file_of(directory_, record.session),
                             Json{{"session", fmt::format("{:016x}", record.session)},
                                  {"guest", record.guest},
                                  {"to", record.to},
                                  {"address", record.address},
                                  {"records", fmt::format("{:016x}", record.records_id)},
                                  {"state", "handed-over"}}
                                 .dump());
  if (!written) return written;
  // What became of an earlier copy of the guest says nothing about this one.
  for (const auto& earlier : read_all()) {
    if (earlier.guest == record.guest && earlier.session != record.session) remove(earlier.session);
  }
  return {};
}

void HandoverRecords::remove(std::uint64_t session) const {
  std::error_code error;
  fs::remove(file_of(directory_, session), error);
}

std::vector<HandoverRecord> HandoverRecords::read_all() const {
  std::vector<HandoverRecord> found;
  for (const auto& [session, object] :
       read_objects(directory_, {"session", "guest", "to", "address"})) {
    // No store has the number 0: of a record without one only an operator can say the outcome.
    const auto records = object.find("records");
    const std::string records_id =
        records != object.end() && records->is_string() ? records->get<std::string>() : "";
    found.push_back({session, object["guest"], object["to"], object["address"],
                     std::strtoull(records_id.c_str(), nullptr, 16)});
  }
  return found;
}

Expected<std::unique_ptr<OutcomeRecords>> OutcomeRecords::open(const std::string& run_dir) {
  return make_directory(run_dir, "outcome").and_then([](const std::string& directory) {
    return read_or_draw_id(directory + "/store").map([&](std::uint64_t id) {
      return std::unique_ptr<OutcomeRecords>(new OutcomeRecords(directory, id));
    });
  });
}

OutcomeRecords::OutcomeRecords(std::string directory, std::uint64_t store_id)
    : directory_(std::move(directory)), store_id_(store_id) {
  for (const auto& [session, object] : read_objects(directory_, {"guest", "state"})) {
    if (object["state"] == "owned") not_running_.emplace(object["guest"], session);
  }
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
  if (auto written = write_whole(path(session), Json{{"guest", guest}, {"state", "owned"}}.dump());
      !written)
    return written;
  undecided_.erase(session);
  resuming_.insert(session);
  not_running_.emplace(guest, session);
  return {};
}

void OutcomeRecords::keep(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  resuming_.erase(session);
}

void OutcomeRecords::mark_running(std::uint64_t session, const std::string& guest) {
  const std::lock_guard lock(mutex_);
  const auto [begin, end] = not_running_.equal_range(guest);
  const auto found =
      std::find_if(begin, end, [&](const auto& entry) { return entry.second == session; });
  if (found != end) not_running_.erase(found);
  write_running(session, guest);
}

void OutcomeRecords::conclude(const std::string& guest) {
  const std::lock_guard lock(mutex_);
  const auto [begin, end] = not_running_.equal_range(guest);
  for (auto it = begin; it != end; ++it) write_running(it->second, guest);
  not_running_.erase(begin, end);
}

void OutcomeRecords::write_running(std::uint64_t session, const std::string& guest) {
  resuming_.erase(session);
  // A failure leaves "owned", which asks a restarted agent for a resume that changes nothing.
  (void)write_whole(path(session), Json{{"guest", guest}, {"state", "running"}}.dump());
}

void OutcomeRecords::disown(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  std::erase_if(not_running_, [&](const auto& entry) { return entry.second == session; });
  std::error_code error;
  fs::remove(path(session), error);
}

void OutcomeRecords::discard(std::uint64_t session) {
  disown(session);
  const std::lock_guard lock(mutex_);
  undecided_.erase(session);
  resuming_.erase(session);
}

Ownership OutcomeRecords::outcome(std::uint64_t session) const {
  const std::lock_guard lock(mutex_);
  if (undecided_.contains(session) || resuming_.contains(session)) return Ownership::kUndecided;
  return fs::exists(path(session)) ? Ownership::kOwned : Ownership::kNever;
}

std::vector<std::string> OutcomeRecords::owned_but_not_running() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> guests;
  for (const auto& [guest, session] : not_running_) guests.push_back(guest);
  return guests;
}

}  // namespace sluice::agent
