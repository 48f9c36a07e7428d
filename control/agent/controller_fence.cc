#include "control/agent/controller_fence.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>

#include "drivers/base/durable_file.h"

namespace sluice::agent {
namespace {

constexpr const char* kFile = "controller-epoch";
constexpr std::size_t kJournalCharactersMax = 64;

bool is_journal(const std::string& id) {
  return id.size() <= kJournalCharactersMax && std::all_of(id.begin(), id.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

// "17 0123456789abcdef"; earlier versions wrote, and read, the number alone.
Expected<ControllerFence::Obeyed> ControllerFence::load(const std::string& state_directory) {
  const std::string path = state_directory + "/" + kFile;
  std::ifstream file(path);
  if (!file) return Obeyed{};
  Obeyed obeyed;
  if (file >> obeyed.epoch) {
    file >> obeyed.journal;
    if (is_journal(obeyed.journal)) return obeyed;
  }
  return fail(ErrorKind::kInvalid,
              fmt::format("{} does not hold a number and a journal's id; remove it if no old "
                          "controller is left",
                          path));
}

Expected<ControllerFence::Obeyed> ControllerFence::successor(
    const model::ControllerIdentity& controller) const {
  if (!is_journal(controller.journal))
    return fail(ErrorKind::kInvalid, "a controller's journal is named by hexadecimal digits");
  const auto& replaced = controller.replaced;
  if (!obeyed_.journal.empty() && !controller.journal.empty() &&
      controller.journal != obeyed_.journal) {
    if (std::find(replaced.begin(), replaced.end(), obeyed_.journal) != replaced.end())
      return Obeyed{controller.epoch, controller.journal};
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
  return Obeyed{controller.epoch,
                controller.journal.empty() ? obeyed_.journal : controller.journal};
}

Expected<void> ControllerFence::admit(const model::ControllerIdentity& controller) {
  const std::lock_guard lock(mutex_);
  auto next = successor(controller);
  if (!next) return tl::unexpected<Error>(next.error());
  if (next->epoch == obeyed_.epoch && next->journal == obeyed_.journal) return {};
  if (!write_durably(state_directory_, kFile, fmt::format("{} {}", next->epoch, next->journal))) {
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
