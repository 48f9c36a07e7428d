// What a controller must not forget, behind one interface: an append-only journal, and the lease
// that says whose it is. A record that append() has accepted survives the machine's crash.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/expected.h"

namespace sluice::store {

// Milliseconds since the Unix epoch, or of a simulator's clock.
using TimeMs = std::int64_t;

struct Entry {
  std::uint64_t sequence = 0;  // grows over the whole journal
  std::string run;             // a run's id; empty: about the cluster
  std::string body;            // one JSON object
};

class Journal {
 public:
  Journal() = default;
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  virtual ~Journal() = default;

  struct Identity {
    std::string id;                     // sixteen hexadecimal digits that no other journal has
    std::vector<std::string> replaced;  // ids of those whose hosts an operator has given to it
  };
  [[nodiscard]] virtual Expected<Identity> identity() = 0;
  // What was first kept under this name with this id: `value`, if nothing was.
  [[nodiscard]] virtual Expected<std::string> keep(const std::string& name,
                                                   const std::string& value) = 0;
  // Empty: nothing was.
  [[nodiscard]] virtual Expected<std::string> kept(const std::string& name) = 0;

  // Makes `holder` the one controller for `ttl_ms` and returns its epoch, greater than every
  // earlier one. kBusy, naming the holder, while somebody else's lease has not run out.
  [[nodiscard]] virtual Expected<std::uint64_t> take_lease(const std::string& holder, TimeMs now_ms,
                                                           TimeMs ttl_ms) = 0;
  // kPermission once somebody else has taken it.
  [[nodiscard]] virtual Expected<void> renew_lease(std::uint64_t epoch, TimeMs now_ms,
                                                   TimeMs ttl_ms) = 0;
  // Gives it up at once, so that a successor need not wait. No effect with an older epoch.
  virtual void drop_lease(std::uint64_t epoch) = 0;

  // kPermission with an epoch that is not the newest: another controller has taken over, and
  // nothing was written.
  [[nodiscard]] virtual Expected<void> append(std::uint64_t epoch, const std::string& run,
                                              const std::string& body) = 0;
  // In the order in which they were appended.
  [[nodiscard]] virtual Expected<std::vector<Entry>> read(const std::string& run) = 0;
  // In the order in which they began.
  [[nodiscard]] virtual Expected<std::vector<std::string>> runs() = 0;
};

}  // namespace sluice::store
