// What an agent keeps on tmpfs about handovers, so that one that starts anew knows what it may do.
// No fsync: a guest cannot outlive its host's reboot, so neither need the records.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::agent {

// Source: written before Commit is sent. From then on the guest here may only run again if the
// destination says that it never owned it.
struct HandoverRecord {
  std::uint64_t session = 0;
  std::string guest;
  std::string to;       // host name
  std::string address;  // of its agent
  // The destination's OutcomeRecords::store_id() when it made its twin: what another store does not
  // know says nothing.
  std::uint64_t records_id = 0;
};

// What is on file. A record that is there and cannot be read is not one that is absent: its guest
// was handed over.
struct FoundHandovers {
  std::vector<HandoverRecord> records;
  std::vector<std::string> unreadable;  // for the log: the file, why, and what to do
};

// RUN_DIR/handover/SESSION.json. Any thread.
class HandoverRecords {
 public:
  // Makes the directory; kPermission if that fails. Records of another boot than `boot_id` are
  // dropped, with a line in the log: their guests are gone.
  [[nodiscard]] static Expected<HandoverRecords> open(const std::string& run_dir,
                                                      const std::string& boot_id);

  // Takes the place of what earlier sessions of the same guest left.
  [[nodiscard]] Expected<void> write(const HandoverRecord& record) const;
  void remove(std::uint64_t session) const;
  [[nodiscard]] FoundHandovers read_all() const;

 private:
  explicit HandoverRecords(std::string directory) : directory_(std::move(directory)) {}
  std::string directory_;
};

enum class Ownership : std::uint8_t {
  kNever = 1,  // not here, and a late commit will be refused
  kUndecided,  // a twin waits for its commit, or for its first run after it
  kOwned,
  kLost,  // its record could not be read when the agent began: only operators can say
};

// What is known of a session here. Its number is in every frame's header, for all on the link to
// read: it alone says nothing about who asks, or about which guest.
struct SessionOutcome {
  Ownership ownership = Ownership::kNever;
  std::string guest;  // empty: not known
  std::string from;   // the source; empty: not known, as in a record of an earlier version
};

// A guest that was committed to this host and is not known to have run here.
struct OwnedTwin {
  std::uint64_t session = 0;
  std::string guest;
};

// Destination: what became of each session; RUN_DIR/outcome/SESSION.json for those that were owned.
// Any thread.
class OutcomeRecords {
 public:
  // Makes the directory; kPermission if that fails, kFailed names a store that cannot be read.
  // Records of another boot than `boot_id` are dropped, with a line in the log.
  [[nodiscard]] static Expected<std::unique_ptr<OutcomeRecords>> open(const std::string& run_dir,
                                                                      const std::string& boot_id);

  // Drawn when the store was made: a host that has lost its records, by a reboot, has another one.
  [[nodiscard]] std::uint64_t store_id() const { return store_id_; }
  // For the log: records that could not be read, why, and what to do. Any twin may be theirs.
  [[nodiscard]] const std::vector<std::string>& unreadable() const { return unreadable_; }

  // A twin of `guest` is being made for the host `from`. False if this session was seen before, as
  // far as is remembered: all that were owned, and of those that were discarded the newest since
  // this agent began.
  [[nodiscard]] bool begin(std::uint64_t session, const std::string& guest,
                           const std::string& from);
  // The commit: from the return on this host owns the guest. The outcome stays undecided until the
  // guest is known to have run or never to run, since who hears "owned" ends its own copy. kFailed
  // if the session was discarded or never began.
  [[nodiscard]] Expected<void> own(std::uint64_t session);
  // The guest has run here, or may have run and is gone: after a restart nothing has to be done for
  // it.
  void mark_running(std::uint64_t session);
  // As mark_running(), for whichever earlier sessions of this guest are on file as owned. After a
  // failure a restarted agent may take a later twin of the same name for one that was committed.
  Expected<void> conclude(const std::string& guest);
  // The guest certainly never ran and its twin is about to be ended: a restarted agent must not
  // answer "owned" for it. Undecided until discard().
  void disown(std::uint64_t session);
  // The twin is gone, without having run.
  void discard(std::uint64_t session);

  [[nodiscard]] SessionOutcome look_up(std::uint64_t session) const;
  [[nodiscard]] Ownership outcome(std::uint64_t session) const {
    return look_up(session).ownership;
  }
  // Also those of earlier agents, whose kept twins must be let run.
  [[nodiscard]] std::vector<OwnedTwin> owned_but_not_running() const;

 private:
  enum class Stage : std::uint8_t {
    kWaiting = 1,  // a twin is being made, or waits for its commit
    kOwned,        // committed, and not known to have run
    kRan,          // has run, but its file says "owned" still
    kEnding,       // certainly never ran, and its twin is there still
  };
  struct Session {
    std::string guest;
    std::string from;
    Stage stage = Stage::kWaiting;
  };

  OutcomeRecords(std::string directory, std::uint64_t store_id);
  [[nodiscard]] std::string path(std::uint64_t session) const;
  [[nodiscard]] Expected<void> write(std::uint64_t session, const Session& parties,
                                     const char* state) const;
  [[nodiscard]] SessionOutcome on_file(std::uint64_t session) const;
  void bury(std::uint64_t session);

  std::string directory_;
  const std::uint64_t store_id_;
  std::vector<std::string> unreadable_;
  std::set<std::uint64_t> lost_;  // sessions of the unreadable files
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Session> sessions_;  // those that are not over
  // So that nobody gives one of these numbers another meaning while its source still asks about it.
  std::set<std::uint64_t> discarded_;
  std::deque<std::uint64_t> discarded_in_order_;
};

}  // namespace sluice::agent
