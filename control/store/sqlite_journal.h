// The journal in an SQLite file: write-ahead log, full synchronisation.
#pragma once

#include <SQLiteCpp/Database.h>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "control/store/journal.h"

namespace sluice::store {

// Any thread. Processes that open the same file are kept apart by SQLite's own locks.
class SqliteJournal final : public Journal {
 public:
  // Makes the file if there is none. kInvalid for a file of another kind or version, kUnsupported
  // on a network file system, kPermission where it cannot be written.
  [[nodiscard]] static Expected<std::unique_ptr<SqliteJournal>> open(const std::string& path);

  [[nodiscard]] Expected<Identity> identity() override;
  [[nodiscard]] Expected<std::string> keep(const std::string& name,
                                           const std::string& value) override;
  [[nodiscard]] Expected<std::string> kept(const std::string& name) override;
  [[nodiscard]] Expected<std::uint64_t> take_lease(const std::string& holder, TimeMs now_ms,
                                                   TimeMs ttl_ms) override;
  [[nodiscard]] Expected<void> renew_lease(std::uint64_t epoch, TimeMs now_ms,
                                           TimeMs ttl_ms) override;
  void drop_lease(std::uint64_t epoch) override;
  [[nodiscard]] Expected<void> append(std::uint64_t epoch, const std::string& run,
                                      const std::string& body) override;
  [[nodiscard]] Expected<std::vector<Entry>> read(const std::string& run) override;
  [[nodiscard]] Expected<std::vector<std::string>> runs() override;

  // Gives the journal a new id, which it returns: it replaces its own, `journals` and those that it
  // replaced before. What was kept is not any more. The lease of `epoch` ends, and the next one has
  // an epoch above `highest`.
  [[nodiscard]] Expected<std::string> replace(std::uint64_t epoch, std::uint64_t highest,
                                              std::vector<std::string> journals);

 private:
  SqliteJournal(std::string path, SQLite::Database database)
      : path_(std::move(path)), database_(std::move(database)) {}
  // What SQLite said, in a line that names the file and the remedy.
  [[nodiscard]] Error error_of(const SQLite::Exception& exception) const;
  template <typename Work>
  auto guarded(Work work) -> decltype(work());

  std::string path_;
  std::mutex mutex_;
  SQLite::Database database_;
};

// Of a file system, by statfs(2)'s f_type: its name if several machines share it, whose processes
// SQLite's write-ahead log does not keep apart. Empty: it is this machine's own.
[[nodiscard]] std::string_view shared_by_machines(std::uint64_t file_system_type);

}  // namespace sluice::store
