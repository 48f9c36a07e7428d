#include "control/agent/records.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <spdlog/spdlog.h>
#include <sstream>
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

// The number in a file's name; nothing if it is none.
std::optional<std::uint64_t> session_of(const fs::path& path) {
  const std::string name = path.stem();
  char* end = nullptr;
  errno = 0;
  const std::uint64_t session = std::strtoull(name.c_str(), &end, 16);
  if (name.empty() || *end != '\0' || errno != 0 || session == 0) return std::nullopt;
  return session;
}

struct FoundObject {
  std::uint64_t session = 0;
  Json content;
};
struct UnreadableFile {
  std::string path;
  std::string reason;
  std::optional<std::uint64_t> session;
};
struct FoundFiles {
  std::vector<FoundObject> objects;
  std::vector<UnreadableFile> unreadable;
};

// Of discarded sessions; each takes some hundred bytes.
constexpr std::size_t kDiscardedMax = 1U << 14U;

// What an earlier version has not written is empty.
std::string text_or_empty(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// An object with these texts. kNotFound if there is certainly no such file.
Expected<Json> read_object(const fs::path& path, std::initializer_list<const char*> texts) {
  errno = 0;
  const std::ifstream file(path);
  if (!file) {
    return fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kFailed,
                std::system_category().message(errno));
  }
  std::ostringstream text;
  text << file.rdbuf();
  Json object = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return fail(ErrorKind::kFailed, "it holds no JSON object");
  for (const char* key : texts) {
    if (!object.contains(key) || !object[key].is_string())
      return fail(ErrorKind::kFailed, fmt::format("it has no text \"{}\"", key));
  }
  return object;
}

// Every *.json of the directory: its name is the session.
FoundFiles read_objects(const std::string& directory, std::initializer_list<const char*> texts) {
  FoundFiles found;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const fs::path& path = entry->path();
    if (path.extension() != ".json") continue;
    const auto session = session_of(path);
    auto object = read_object(path, texts);
    if (object && session) {
      found.objects.push_back({*session, std::move(*object)});
    } else {
      found.unreadable.push_back(
          {path, object ? "its name is no session" : object.error().message, session});
    }
  }
  if (error) found.unreadable.push_back({directory, error.message(), std::nullopt});
  return found;
}

void remove_records(const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> records;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".json") records.push_back(entry.path());
  }
  for (const auto& record : records) fs::remove(record, error);
}

// The number of the store of records in `directory`, which belongs to this boot of the host: no
// guest outlives a boot, so its records must not either, wherever RUN_DIR is.
Expected<std::uint64_t> open_store(const std::string& directory, const std::string& boot_id) {
  const std::string path = directory + "/store";
  std::error_code error;
  if (fs::exists(path, error) || error) {
    std::uint64_t id = 0;
    std::string boot;
    std::ifstream file(path);
    file >> std::hex >> id;
    if (!file || id == 0) {
      return fail(
          ErrorKind::kFailed,
          fmt::format("{} cannot be read: make it readable; if it is damaged, stop this "
                      "host's guests or move them away, then remove {} (hosts that wait for "
                      "an answer about a handover will ask an operator)",
                      path, directory));
    }
    file >> boot;
    if (boot == boot_id) return id;
    spdlog::warn("the records in {} are of an earlier boot of this host: dropped", directory);
    remove_records(directory);
  }
  std::uint64_t id = 0;
  std::random_device device;
  while (id == 0) id = static_cast<std::uint64_t>(device()) << 32 | device();
  return write_whole(path, fmt::format("{:016x} {}\n", id, boot_id)).map([&] { return id; });
}

}  // namespace

Expected<HandoverRecords> HandoverRecords::open(const std::string& run_dir,
                                                const std::string& boot_id) {
  return make_directory(run_dir, "handover").and_then([&](const std::string& directory) {
    return open_store(directory, boot_id).map([&](std::uint64_t /*id*/) {
      return HandoverRecords(directory);
    });
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
  for (const auto& earlier : read_all().records) {
    if (earlier.guest == record.guest && earlier.session != record.session) remove(earlier.session);
  }
  return {};
}

void HandoverRecords::remove(std::uint64_t session) const {
  std::error_code error;
  fs::remove(file_of(directory_, session), error);
}

FoundHandovers HandoverRecords::read_all() const {
  const FoundFiles files = read_objects(directory_, {"session", "guest", "to", "address"});
  FoundHandovers found;
  for (const auto& [session, object] : files.objects) {
    // No store has the number 0: of a record without one only an operator can say the outcome.
    const std::string records_id = text_or_empty(object, "records");
    found.records.push_back({session, object["guest"], object["to"], object["address"],
                             std::strtoull(records_id.c_str(), nullptr, 16)});
  }
  for (const auto& file : files.unreadable) {
    found.unreadable.push_back(fmt::format(
        "{} cannot be read ({}): a guest that was handed over without another record stays paused, "
        "as \"forgotten\"; make it readable and restart the agent, or remove it once sluice guest "
        "resume or sluice guest stop has settled its guest",
        file.path, file.reason));
  }
  return found;
}

Expected<std::unique_ptr<OutcomeRecords>> OutcomeRecords::open(const std::string& run_dir,
                                                               const std::string& boot_id) {
  return make_directory(run_dir, "outcome").and_then([&](const std::string& directory) {
    return open_store(directory, boot_id).map([&](std::uint64_t id) {
      return std::unique_ptr<OutcomeRecords>(new OutcomeRecords(directory, id));
    });
  });
}

OutcomeRecords::OutcomeRecords(std::string directory, std::uint64_t store_id)
    : directory_(std::move(directory)), store_id_(store_id) {
  const FoundFiles files = read_objects(directory_, {"guest", "state"});
  for (const auto& [session, object] : files.objects) {
    if (object["state"] == "owned") {
      sessions_.emplace(session,
                        Session{object["guest"], text_or_empty(object, "from"), Stage::kOwned});
    }
  }
  for (const auto& file : files.unreadable) {
    if (file.session) lost_.insert(*file.session);
    unreadable_.push_back(fmt::format(
        "{} cannot be read ({}): a twin that waits to run without another record is \"forgotten\"; "
        "make it readable and restart the agent, or say sluice guest resume or sluice guest stop. "
        "Do not remove it alone: its source would take the guest for one that never ran here",
        file.path, file.reason));
  }
}

std::string OutcomeRecords::path(std::uint64_t session) const {
  return file_of(directory_, session);
}

Expected<void> OutcomeRecords::write(std::uint64_t session, const Session& parties,
                                     const char* state) const {
  // Before the file is there: nothing may run out of memory afterwards.
  const std::string text =
      Json{{"guest", parties.guest}, {"from", parties.from}, {"state", state}}.dump();
  return write_whole(path(session), text);
}

// Of a session that is not in memory.
SessionOutcome OutcomeRecords::on_file(std::uint64_t session) const {
  if (lost_.contains(session)) return {Ownership::kLost, {}, {}};
  const auto object = read_object(path(session), {"guest", "state"});
  if (!object) {
    // What cannot be read for now, for want of a descriptor perhaps, is not known to be absent, and
    // nothing that an operator must decide: whoever asks is to ask again.
    const bool absent = object.error().kind == ErrorKind::kNotFound;
    return {absent ? Ownership::kNever : Ownership::kUndecided, {}, {}};
  }
  // A twin that is not in memory is let run by nobody: a restarted agent finds it.
  const bool ran = (*object)["state"] != "owned";
  return {ran ? Ownership::kOwned : Ownership::kUndecided, (*object)["guest"],
          text_or_empty(*object, "from")};
}

bool OutcomeRecords::begin(std::uint64_t session, const std::string& guest,
                           const std::string& from) {
  const std::lock_guard lock(mutex_);
  if (discarded_.contains(session) || on_file(session).ownership != Ownership::kNever) return false;
  return sessions_.try_emplace(session, Session{guest, from, Stage::kWaiting}).second;
}

Expected<void> OutcomeRecords::own(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end() || found->second.stage != Stage::kWaiting) {
    return fail(ErrorKind::kFailed,
                fmt::format("commit refused: session {:016x} was discarded", session));
  }
  if (auto written = write(session, found->second, "owned"); !written) return written;
  found->second.stage = Stage::kOwned;
  return {};
}

void OutcomeRecords::mark_running(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  found->second.stage = Stage::kRan;
  // A failure leaves "owned", which asks a restarted agent for a resume that changes nothing;
  // before a later twin of the guest may be made it is tried again.
  if (write(session, found->second, "running")) sessions_.erase(found);
}

Expected<void> OutcomeRecords::conclude(const std::string& guest) {
  const std::lock_guard lock(mutex_);
  Expected<void> concluded;
  for (auto entry = sessions_.begin(); entry != sessions_.end();) {
    const auto at = entry++;
    Session& session = at->second;
    const bool owned = session.stage == Stage::kOwned || session.stage == Stage::kRan;
    if (session.guest != guest || !owned) continue;
    session.stage = Stage::kRan;
    const auto written = write(at->first, session, "running");
    if (!written) concluded = written;
    if (written) sessions_.erase(at);
  }
  return concluded;
}

void OutcomeRecords::disown(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  if (const auto found = sessions_.find(session); found != sessions_.end())
    found->second.stage = Stage::kEnding;
  std::error_code error;
  fs::remove(path(session), error);
}

void OutcomeRecords::discard(std::uint64_t session) {
  disown(session);
  const std::lock_guard lock(mutex_);
  if (sessions_.erase(session) != 0) bury(session);
}

void OutcomeRecords::bury(std::uint64_t session) {
  if (!discarded_.insert(session).second) return;
  discarded_in_order_.push_back(session);
  if (discarded_in_order_.size() <= kDiscardedMax) return;
  discarded_.erase(discarded_in_order_.front());
  discarded_in_order_.pop_front();
}

SessionOutcome OutcomeRecords::look_up(std::uint64_t session) const {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return on_file(session);
  const auto& [guest, from, stage] = found->second;
  return {stage == Stage::kRan ? Ownership::kOwned : Ownership::kUndecided, guest, from};
}

std::vector<OwnedTwin> OutcomeRecords::owned_but_not_running() const {
  const std::lock_guard lock(mutex_);
  std::vector<OwnedTwin> twins;
  for (const auto& [session, parties] : sessions_) {
    if (parties.stage == Stage::kOwned) twins.push_back({session, parties.guest});
  }
  return twins;
}

}  // namespace sluice::agent
