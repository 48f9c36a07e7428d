// An operator's word that this journal's controllers are to be obeyed where others were: the
// journal that agents know is lost, or this one is a copy restored from a backup.
#pragma once

#include <string>
#include <vector>

#include "control/controller/config.h"
#include "control/store/sqlite_journal.h"

namespace sluice::controller {

// Gives the journal a new id that replaces its own and those that its hosts' agents obey now, so
// that nothing they remember of these is taken for this one's. Agents obey it from its controller's
// next start on, also those that do not answer now. Returns what was found, a line each. kBusy
// while a controller leads with this journal; kInvalid while a run of it has not ended: what was
// done for it since the copy was made, nobody knows.
[[nodiscard]] Expected<std::vector<std::string>> adopt_agents(
    const Config& config, const security::Credentials& credentials, store::SqliteJournal& journal);

}  // namespace sluice::controller
