// Whom the hosts' agents obey: the controllers of a journal, and of these one. A controller finds
// out before it tells an agent who it is, since agents obey a higher epoch at once, also that of a
// copy of their journal.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "control/controller/config.h"
#include "control/model/controller_identity.h"
#include "control/proto/sluice.pb.h"
#include "control/security/credentials.h"
#include "control/store/journal.h"

namespace sluice::controller {

// What every host's agent says of itself, in the order of [hosts], to somebody who does not say who
// asks.
[[nodiscard]] std::vector<Expected<v1::HostInfo>> ask_unnamed(
    const Config& config, const security::Credentials& credentials);

// Keeps in the journal that `self` leads with it from now on. Before any agent hears of it: an
// agent that obeys a controller of which the journal knows nothing obeys one of another copy of it.
[[nodiscard]] Expected<void> keep_leader(store::Journal& journal,
                                         const model::ControllerIdentity& self);

// Whether a host with this word of its agent can be led by `self`, as far as its journal goes.
[[nodiscard]] bool is_stranger(const v1::HostInfo& host, const model::ControllerIdentity& self);

// By host, of those that have answered. Returns what is to be said of those that obey another
// journal, if they are not most of them: somebody has put them into [hosts] by mistake, or they
// were away when the others were adopted. kPermission, with the remedy, if they are, and where one
// obeys another controller than `self` and those that have led with this journal (in `file`)
// before.
[[nodiscard]] Expected<std::vector<std::string>> check_obeyed(
    const std::map<std::string, v1::HostInfo>& hosts, const model::ControllerIdentity& self,
    const std::string& file, store::Journal& journal);

}  // namespace sluice::controller
