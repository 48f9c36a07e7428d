#include "control/agent/controller_fence.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>

#include "drivers/base/durable_file.h"

namespace sluice::agent {
namespace {

constexpr const char* kFile = "controller-epoch";
constexpr std::size_t kIdCharactersMax = 64;

bool is_id(const std::string& id) {
  return id.size() <= kIdCharactersMax && std::all_of(id.begin(), id.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

// "17 0123456789abcdef fedcba9876543210"; earlier versions wrote, and read, the number alone, or
// the first two.
Expected<ControllerFence::Obeyed> ControllerFence::load(const std::string& state_directory) {
  const std::string path = state_directory + "/" + kFile;
  std::ifstream file(path);
  if (!file) return Obeyed{};
  Obeyed obeyed;
  if (file >> obeyed.epoch) {
    file >> obeyed.journal >> obeyed.instance;
    if (is_id(obeyed.journal) && is_id(obeyed.instance)) return obeyed;
  }
  return fail(ErrorKind::kInvalid,
              fmt::format("{} does not hold a number and the ids of a journal and a controller; "
                          "remove it if no old controller is left",
                          path));
}

Expected<ControllerFence::Obeyed> ControllerFence::successor(
    const model::ControllerIdentity& controller) const {
  if (!is_id(controller.journal) || !is_id(controller.instance)) {
    return fail(ErrorKind::kInvalid,
                "a controller and its journal are named by hexadecimal digits");
  }
  const auto& replaced = controller.replaced;
  if (!obeyed_.journal.empty() && !controller.journal.empty() &&
      controller.journal != obeyed_.journal) {
    if (std::find(replaced.begin(), replaced.end(), obeyed_.journal) != replaced.end())
      return Obeyed{controller.epoch, controller.journal, controller.instance};
    return fail(ErrorKind::kPermission,
                fmt::format("this host obeys the controllers of the journal {} (epoch {}), and one "
                            "of the journal {} speaks: only if those are gone for good, give their "
                            "hosts to this one by sluice-controller --adopt-agents",
                            obeyed_.journal, obeyed_.epoch, controller.journal));
  }
  if (controller.epoch < obeyed_.epoch) {
    return fail(ErrorKind::kPermission,
                fmt::format("a controller of epoch {} speaks, but one of epoch {} has taken over",
                            controller.epoch, obeyed_.epoch));
  }
  const bool same_epoch = controller.epoch == obeyed_.epoch;
  if (same_epoch && !controller.instance.empty() && !obeyed_.instance.empty() &&
      controller.instance != obeyed_.instance) {
    return fail(
        ErrorKind::kPermission,
        fmt::format("this host obeys another controller of the same epoch {}: two copies of "
                    "one journal are led apart; end one of the controllers for good, and "
                    "only if it was that one, give its hosts to the other by "
                    "sluice-controller --adopt-agents",
                    obeyed_.epoch));
  }
  Obeyed next{controller.epoch, controller.journal.empty() ? obeyed_.journal : controller.journal,
              same_epoch && controller.instance.empty() ? obeyed_.instance : controller.instance};
  // Without a journal's id, the file would seem to hold one.
  if (next.journal.empty()) next.instance.clear();
  return next;
}

Expected<void> ControllerFence::admit(const model::ControllerIdentity& controller) {
  const std::lock_guard lock(mutex_);
  auto next = successor(controller);
  if (!next) return tl::unexpected<Error>(next.error());
  if (*next == obeyed_) return {};
  if (!write_durably(state_directory_, kFile,
                     fmt::format("{} {} {}", next->epoch, next->journal, next->instance))) {
    return fail(ErrorKind::kFailed,
                fmt::format("{}/{} cannot be written; nothing was done", state_directory_, kFile));
  }
  obeyed_ = std::move(*next);
  return {};
}

ControllerFence::Obeyed ControllerFence::obeyed() const {
  const std::lock_guard lock(mutex_);
  return obeyed_;
}

}  // namespace sluice::agent
