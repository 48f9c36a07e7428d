#include "control/controller/controller.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <random>
#include <spdlog/spdlog.h>

#include "control/controller/estimate.h"
#include "control/controller/obedience.h"

namespace sluice::controller {
namespace {

constexpr std::int64_t kLookAroundMs = 2'000;
constexpr std::chrono::milliseconds kTick{200};

std::string random_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

// Its hooks are begun once for a key as long as the directory that remembers them is the same.
Expected<void> share_state(const Config& config, store::Journal& journal) {
  const auto own = hooks::HookRunner::identify(config.state_dir);
  if (!own) return tl::unexpected<Error>(own.error());
  const auto first = journal.keep("state_dir", *own);
  if (!first) return tl::unexpected<Error>(first.error());
  if (*first == *own) return {};
  return fail(
      ErrorKind::kInvalid,
      fmt::format("state_dir {} is not the directory in which controllers of the journal {} "
                  "keep what their hooks have done (its file .id says {}, theirs {}); name "
                  "that one, or, if it is lost, let the journal begin anew by "
                  "sluice-controller --adopt-agents",
                  config.state_dir, config.journal, *own, *first));
}

}  // namespace

Expected<std::unique_ptr<Controller>> Controller::start(const Config& config,
                                                        const security::Credentials& credentials,
                                                        store::Journal& journal,
                                                        const std::stop_token& stop,
                                                        OnFatal on_fatal) {
  if (auto shared = share_state(config, journal); !shared)
    return tl::unexpected<Error>(shared.error());
  patch::TimeMs taken_ms = wall_clock_ms();
  const auto lease_ms = LeaseTimes{}.length.count();
  auto epoch = journal.take_lease(config.name, taken_ms, lease_ms);
  if (!epoch && epoch.error().kind == ErrorKind::kBusy)
    spdlog::info("standing by: {}", epoch.error().message);
  while (!epoch && epoch.error().kind == ErrorKind::kBusy) {
    if (stop.stop_requested()) return fail(ErrorKind::kFailed, "ended while standing by");
    std::this_thread::sleep_for(kTick);
    taken_ms = wall_clock_ms();
    epoch = journal.take_lease(config.name, taken_ms, lease_ms);
  }
  if (!epoch) return tl::unexpected<Error>(epoch.error());
  // Not before: somebody may have given it another one while this controller stood by.
  auto identity = journal.identity();
  if (!identity) return tl::unexpected<Error>(identity.error());
  spdlog::info("controller {} leads with epoch {}", config.name, *epoch);
  std::unique_ptr<Controller> controller(
      new Controller(config, credentials, journal,
                     {std::move(identity->id), *epoch, std::move(identity->replaced), random_id()},
                     taken_ms, std::move(on_fatal)));
  if (auto restored = controller->decide([&] { return controller->restore(); }); !restored)
    return tl::unexpected<Error>(restored.error());
  return controller;
}

Controller::Controller(const Config& config, const security::Credentials& credentials,
                       store::Journal& journal, model::ControllerIdentity self,
                       patch::TimeMs lease_taken_ms, OnFatal on_fatal)
    : config_(config),
      credentials_(credentials),
      journal_(journal),
      self_(std::move(self)),
      on_fatal_(std::move(on_fatal)),
      inventory_(config, credentials, self_),
      executor_(
          config, credentials, self_, inventory_,
          [this](const std::string& run, const patch::Outcome& outcome) {
            post([this, run, outcome] { finish(run, outcome); });
          },
          [this](const std::string& message) { post([this, message] { refused(message); }); }),
      lease_(journal, self_.epoch, lease_taken_ms,
             [this](const std::string& message) { fatal(message); }),
      thread_([this](const std::stop_token& stop) { loop(stop); }) {}

void Controller::resign() {
  thread_.request_stop();
  thread_.join();
  lease_.stop();
  journal_.drop_lease(self_.epoch);
}

patch::TimeMs Controller::now_ms() const {
  return watching_since_ms_ + std::chrono::duration_cast<std::chrono::milliseconds>(
                                  inventory_.clock().now() - watching_since_)
                                  .count();
}

void Controller::watch_from(patch::TimeMs at_ms) {
  watching_since_ms_ = std::max(at_ms, wall_clock_ms());
  stood_still_ = inventory_.clock().stood_still();
  watching_since_ = inventory_.clock().now();
  looked_around_ms_ = watching_since_ms_;
}

void Controller::fatal(const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_) return;
    failed_ = true;
  }
  on_fatal_(message);
}

// ---- the deciding thread ----

void Controller::post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  work_.push_back(std::move(work));
  wake_.notify_one();
}

void Controller::ask_all_hosts() {
  std::vector<std::string> names;
  for (const auto& host : config_.hosts) names.push_back(host.name);
  inventory_.refresh(names);
}

void Controller::begin_anew() {
  const auto stood_still = inventory_.clock().stood_still() - stood_still_;
  spdlog::warn("this controller stood still for {} s: hosts have all their time to answer again",
               std::chrono::duration_cast<std::chrono::seconds>(stood_still).count());
  watch_from(now_ms());
  ask_all_hosts();
}

void Controller::loop(const std::stop_token& stop) {
  watch_from(0);
  while (!stop.stop_requested()) {
    std::deque<std::function<void()>> work;
    {
      std::unique_lock lock(mutex_);
      // Work waits while the lease may be somebody else's.
      wake_.wait_for(lock, stop, kTick, [&] { return !work_.empty() && lease_.held(); });
      if (failed_ || !lease_.held()) continue;
      work.swap(work_);
    }
    if (inventory_.clock().stood_still() != stood_still_) begin_anew();
    for (const auto& item : work) item();
    look_around();
    step_runs();
  }
}

// The journal may be an old copy, whose lease nobody contests.
void Controller::look_around() {
  if (now_ms() < looked_around_ms_ + kLookAroundMs) return;
  looked_around_ms_ = now_ms();
  if (auto obeyed = is_obeyed(); !obeyed) fatal(obeyed.error().message);
}

Expected<void> Controller::is_obeyed() {
  std::map<std::string, v1::HostInfo> infos;
  for (auto& [name, host] : inventory_.hosts()) {
    if (!host.info.name().empty()) infos[name] = host.info;
  }
  return check(infos);
}

// As one of whom no agent has heard yet.
Expected<void> Controller::may_lead() {
  std::map<std::string, v1::HostInfo> infos;
  const auto answers = ask_unnamed(config_, credentials_);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (answers[i]) infos[config_.hosts[i].name] = *answers[i];
  }
  return check(infos);
}

Expected<void> Controller::check(const std::map<std::string, v1::HostInfo>& infos) {
  auto strangers = check_obeyed(infos, self_, config_.journal, journal_);
  if (!strangers) return tl::unexpected<Error>(strangers.error());
  for (const auto& remark : *strangers) {
    if (std::find(strangers_.begin(), strangers_.end(), remark) == strangers_.end())
      spdlog::warn("taken for one that does not answer: {}", remark);
  }
  strangers_ = std::move(*strangers);
  return {};
}

// By an agent that refuses this controller: another one leads, or that host alone is another's.
void Controller::refused(const std::string& message) {
  ask_all_hosts();
  if (auto obeyed = is_obeyed(); !obeyed) return fatal(obeyed.error().message);
  if (strangers_.empty()) return fatal(message);
}

void Controller::step_runs() {
  const auto active = [](const auto& driver) { return !patch::is_final(driver->run().state()); };
  if (std::none_of(drivers_.begin(), drivers_.end(), active)) return;
  const Hosts hosts = inventory_.hosts();
  if (!may_decide_on(hosts, std::chrono::milliseconds(now_ms() - watching_since_ms_))) return;
  const patch::PlannedMover planned_mover = mover(hosts);
  for (const auto& driver : drivers_) {
    if (!active(driver)) continue;
    const auto stepped = driver->step(facts(hosts, driver->run().id()), planned_mover);
    if (!stepped) return fatal(stepped.error().message);
    note_marks(driver->run());
    if (!active(driver)) {
      spdlog::info("run {} is {}: {}", driver->run().id(), patch::to_string(driver->run().state()),
                   driver->run().reason());
    }
  }
}

void Controller::finish(const std::string& run, const patch::Outcome& outcome) {
  const auto found = find(run);
  if (!found) return;
  const auto task = (*found)->run().task(outcome.id);
  if (task.outcome != nullptr) return;
  if (!outcome.ok)
    spdlog::warn("{} {}: {} failed: {}", run, outcome.id, task.intent->purpose, outcome.detail);
  const auto finished = (*found)->finish(outcome, now_ms());
  if (!finished) return fatal(finished.error().message);
  learn(*task.intent, outcome, make_cluster(inventory_.hosts(), config_), durations_);
}

Expected<void> Controller::restore() {
  const auto runs = journal_.runs();
  if (!runs) return tl::unexpected<Error>(runs.error());
  const auto newest_ms = restore_marks(*runs);
  if (!newest_ms) return tl::unexpected<Error>(newest_ms.error());
  if (auto lead = may_lead(); !lead) return lead;
  if (auto kept = keep_leader(journal_, self_); !kept) return kept;
  // Before anything is taken up again, every host has been asked once.
  ask_all_hosts();
  if (auto obeyed = is_obeyed(); !obeyed) return obeyed;
  inventory_.watch();
  patch::TimeMs began_ms = 0;
  for (const auto& run : *runs) {
    auto driver = patch::Driver::resume(journal_, self_.epoch, run, executor_);
    if (!driver) return tl::unexpected<Error>(driver.error());
    if (const auto& why = driver->run().unreadable(); !why.empty())
      spdlog::warn("run {} ({}): {}", run, patch::to_string(driver->run().state()), why);
    marks_noted_[run] = driver->run().marks().size();
    learn_again(driver->run());
    // Somebody may have set the wall clock back since.
    if (!patch::is_final(driver->run().state())) began_ms = std::max(began_ms, newest_ms->at(run));
    drivers_.push_back(std::make_unique<patch::Driver>(std::move(*driver)));
  }
  watch_from(began_ms);
  return {};
}

// From the journal, as if guests had been then what they are now.
void Controller::learn_again(const patch::Run& run) {
  const planner::Cluster cluster = make_cluster(inventory_.hosts(), config_);
  for (std::uint64_t id = 1; id <= run.intents(); ++id) {
    const auto task = run.task(id);
    if (task.outcome != nullptr) learn(*task.intent, *task.outcome, cluster, durations_);
  }
}

}  // namespace sluice::controller
