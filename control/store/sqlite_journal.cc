#include "control/store/sqlite_journal.h"

#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>
#include <algorithm>
#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sqlite3.h>
#include <sstream>
#include <sys/vfs.h>
#include <utility>

namespace sluice::store {
namespace {

// Kept in the file as its application id and version, so that no other file is taken for a journal.
constexpr int kApplicationId = 0x534c4a31;  // "SLJ1"
constexpr int kSchemaVersion = 2;
constexpr int kBusyTimeoutMs = 5000;
// Names of what is kept.
constexpr const char* kId = "id";
constexpr const char* kReplaced = "replaced";

constexpr const char* kSchema = R"(
  CREATE TABLE journal (sequence INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL,
                        run TEXT NOT NULL, body TEXT NOT NULL);
  CREATE INDEX journal_run ON journal (run, sequence);
  CREATE TABLE lease (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL,
                      holder TEXT NOT NULL, until_ms INTEGER NOT NULL);
  INSERT INTO lease VALUES (1, 0, '', 0);
  CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL);
  INSERT INTO kept VALUES ('id', lower(hex(randomblob(8))));
)";

int pragma_value(SQLite::Database& database, const char* name) {
  return database.execAndGet(std::string("PRAGMA ") + name).getInt();
}

tl::unexpected<Error> superseded(std::uint64_t epoch) {
  return fail(
      ErrorKind::kPermission,
      fmt::format("another controller has taken over since epoch {}; this one must stop", epoch));
}

// Empty if nothing is kept under it.
std::string kept_value(SQLite::Database& database, const std::string& name) {
  SQLite::Statement select(database, "SELECT value FROM kept WHERE name = ?");
  select.bind(1, name);
  return select.executeStep() ? select.getColumn(0).getString() : "";
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(std::move(part));
  return parts;
}

std::uint64_t newest_epoch(SQLite::Database& database) {
  return static_cast<std::uint64_t>(
      database.execAndGet("SELECT epoch FROM lease WHERE one = 1").getInt64());
}

Expected<void> refuse_shared_file_system(const std::string& path) {
  const auto directory = std::filesystem::absolute(path).parent_path();
  struct statfs about {};
  if (statfs(directory.c_str(), &about) != 0) return {};  // opening says what is wrong
  const auto name = shared_by_machines(static_cast<std::uint64_t>(about.f_type));
  if (name.empty()) return {};
  return fail(ErrorKind::kUnsupported,
              fmt::format("the journal {} is on a file system that machines share ({}), where "
                          "nothing keeps their controllers apart; put it on a disk of this machine",
                          path, name));
}

}  // namespace

std::string_view shared_by_machines(std::uint64_t file_system_type) {
  // As linux/magic.h and statfs(2) have them.
  constexpr std::array<std::pair<std::uint32_t, std::string_view>, 11> kShared = {{
      {0x6969, "NFS"},
      {0x517b, "SMB"},
      {0xff534d42, "CIFS"},
      {0xfe534d42, "SMB2"},
      {0x01021997, "9p"},
      {0x00c36400, "Ceph"},
      {0x5346414f, "AFS"},
      {0x6b414653, "AFS"},
      {0x0bd00bd0, "Lustre"},
      {0x01161970, "GFS2"},
      {0x7461636f, "OCFS2"},
  }};
  for (const auto& [type, name] : kShared) {
    // The kernel's own type of it is signed on some machines.
    if (type == static_cast<std::uint32_t>(file_system_type)) return name;
  }
  return {};
}

Expected<std::unique_ptr<SqliteJournal>> SqliteJournal::open(const std::string& path) {
  if (auto own = refuse_shared_file_system(path); !own) return tl::unexpected<Error>(own.error());
  try {
    SQLite::Database database(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyTimeoutMs);
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    const int application = pragma_value(database, "application_id");
    const int tables = database.execAndGet("SELECT count(*) FROM sqlite_master").getInt();
    if (application == 0 && tables == 0) {
      database.exec(kSchema);
      database.exec(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}",
                                kApplicationId, kSchemaVersion));
    } else if (application != kApplicationId) {
      return fail(ErrorKind::kInvalid, path + " is no journal of Sluice; name another file");
    } else if (const int version = pragma_value(database, "user_version");
               version != kSchemaVersion) {
      return fail(ErrorKind::kInvalid,
                  fmt::format("{} has version {}, this controller writes {}; use the version of "
                              "Sluice that wrote it",
                              path, version, kSchemaVersion));
    }
    transaction.commit();
    return std::unique_ptr<SqliteJournal>(new SqliteJournal(path, std::move(database)));
  } catch (const SQLite::Exception& exception) {
    return fail(ErrorKind::kPermission,
                fmt::format("the journal {} cannot be opened: {}", path, exception.what()));
  }
}

Error SqliteJournal::error_of(const SQLite::Exception& exception) const {
  if (exception.getErrorCode() == SQLITE_FULL) {
    return {ErrorKind::kNoCapacity,
            fmt::format("the disk under the journal {} is full; make room, then go on", path_)};
  }
  return {ErrorKind::kFailed,
          fmt::format("the journal {} cannot be written: {}", path_, exception.what())};
}

template <typename Work>
auto SqliteJournal::guarded(Work work) -> decltype(work()) {
  const std::lock_guard lock(mutex_);
  try {
    return work();
  } catch (const SQLite::Exception& exception) {
    return tl::unexpected<Error>(error_of(exception));
  }
}

Expected<store::Journal::Identity> SqliteJournal::identity() {
  return guarded([&]() -> Expected<Identity> {
    return Identity{kept_value(database_, kId), split(kept_value(database_, kReplaced))};
  });
}

Expected<std::string> SqliteJournal::replace(std::uint64_t epoch, std::uint64_t highest,
                                             std::vector<std::string> journals) {
  return guarded([&]() -> Expected<std::string> {
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
    if (newest_epoch(database_) != epoch) return superseded(epoch);
    journals.push_back(kept_value(database_, kId));
    for (auto& earlier : split(kept_value(database_, kReplaced)))
      journals.push_back(std::move(earlier));
    std::sort(journals.begin(), journals.end());
    journals.erase(std::unique(journals.begin(), journals.end()), journals.end());
    SQLite::Statement forget(database_, "DELETE FROM kept WHERE name <> ?");
    forget.bind(1, kId);
    forget.exec();
    SQLite::Statement replaced(database_, "INSERT INTO kept VALUES (?, ?)");
    replaced.bind(1, kReplaced);
    replaced.bind(2, fmt::format("{}", fmt::join(journals, ",")));
    replaced.exec();
    SQLite::Statement lease(database_, "UPDATE lease SET epoch = ?, until_ms = 0");
    lease.bind(1, static_cast<std::int64_t>(std::max(epoch, highest)));
    lease.exec();
    database_.exec("UPDATE kept SET value = lower(hex(randomblob(8))) WHERE name = 'id'");
    transaction.commit();
    return kept_value(database_, kId);
  });
}

Expected<std::string> SqliteJournal::keep(const std::string& name, const std::string& value) {
  return guarded([&]() -> Expected<std::string> {
    SQLite::Statement insert(database_, "INSERT OR IGNORE INTO kept VALUES (?, ?)");
    insert.bind(1, name);
    insert.bind(2, value);
    insert.exec();
    SQLite::Statement select(database_, "SELECT value FROM kept WHERE name = ?");
    select.bind(1, name);
    select.executeStep();
    return select.getColumn(0).getString();
  });
}

Expected<std::string> SqliteJournal::kept(const std::string& name) {
  return guarded([&]() -> Expected<std::string> { return kept_value(database_, name); });
}

Expected<std::uint64_t> SqliteJournal::take_lease(const std::string& holder, TimeMs now_ms,
                                                  TimeMs ttl_ms) {
  return guarded([&]() -> Expected<std::uint64_t> {
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
    SQLite::Statement lease(database_, "SELECT holder, until_ms FROM lease WHERE one = 1");
    lease.executeStep();
    const std::string other = lease.getColumn(0).getString();
    const TimeMs until_ms = lease.getColumn(1).getInt64();
    lease.reset();
    if (other != holder && until_ms > now_ms) {
      return fail(ErrorKind::kBusy,
                  fmt::format("controller {} holds the lease on {} for another {} ms", other, path_,
                              until_ms - now_ms));
    }
    const std::uint64_t epoch = newest_epoch(database_) + 1;
    SQLite::Statement take(database_, "UPDATE lease SET epoch = ?, holder = ?, until_ms = ?");
    take.bind(1, static_cast<std::int64_t>(epoch));
    take.bind(2, holder);
    take.bind(3, now_ms + ttl_ms);
    take.exec();
    transaction.commit();
    return epoch;
  });
}

Expected<void> SqliteJournal::renew_lease(std::uint64_t epoch, TimeMs now_ms, TimeMs ttl_ms) {
  return guarded([&]() -> Expected<void> {
    SQLite::Statement renew(database_, "UPDATE lease SET until_ms = ? WHERE epoch = ?");
    renew.bind(1, now_ms + ttl_ms);
    renew.bind(2, static_cast<std::int64_t>(epoch));
    if (renew.exec() == 0) return superseded(epoch);
    return {};
  });
}

void SqliteJournal::drop_lease(std::uint64_t epoch) {
  const auto dropped = guarded([&]() -> Expected<void> {
    SQLite::Statement drop(database_, "UPDATE lease SET until_ms = 0 WHERE epoch = ?");
    drop.bind(1, static_cast<std::int64_t>(epoch));
    drop.exec();
    return {};
  });
  static_cast<void>(dropped);  // the lease runs out by itself
}

Expected<void> SqliteJournal::append(std::uint64_t epoch, const std::string& run,
                                     const std::string& body) {
  return guarded([&]() -> Expected<void> {
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
    if (newest_epoch(database_) != epoch) return superseded(epoch);
    SQLite::Statement insert(database_, "INSERT INTO journal (epoch, run, body) VALUES (?, ?, ?)");
    insert.bind(1, static_cast<std::int64_t>(epoch));
    insert.bind(2, run);
    insert.bind(3, body);
    insert.exec();
    transaction.commit();
    return {};
  });
}

Expected<std::vector<Entry>> SqliteJournal::read(const std::string& run) {
  return guarded([&]() -> Expected<std::vector<Entry>> {
    std::vector<Entry> entries;
    SQLite::Statement select(database_,
                             "SELECT sequence, body FROM journal WHERE run = ? ORDER BY sequence");
    select.bind(1, run);
    while (select.executeStep()) {
      entries.push_back({static_cast<std::uint64_t>(select.getColumn(0).getInt64()), run,
                         select.getColumn(1).getString()});
    }
    return entries;
  });
}

Expected<std::vector<std::string>> SqliteJournal::runs() {
  return guarded([&]() -> Expected<std::vector<std::string>> {
    std::vector<std::string> runs;
    SQLite::Statement select(
        database_, "SELECT run FROM journal WHERE run <> '' GROUP BY run ORDER BY min(sequence)");
    while (select.executeStep()) runs.push_back(select.getColumn(0).getString());
    return runs;
  });
}

}  // namespace sluice::store
