// The controller: its lease and the thread that decides (controller.cc), marks, what runs are told,
// and runs (controller_*.cc). Everything that changes a run or a mark happens on that one thread;
// the services hand it work and wait.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "control/controller/choose_run.h"
#include "control/controller/config.h"
#include "control/controller/executor.h"
#include "control/controller/forecast.h"
#include "control/controller/inventory.h"
#include "control/controller/lease_keeper.h"
#include "control/patch/driver.h"
#include "control/patch/planned_mover.h"
#include "control/planner/duration.h"
#include "control/store/journal.h"

namespace sluice::controller {

class Controller {
 public:
  // What the process does when it may not or cannot go on: the journal is lost, or another
  // controller has taken over. Called once, from any thread.
  using OnFatal = std::function<void(const std::string& message)>;

  // Takes the lease first, however long that takes (a standby waits here); kFailed if `stop` comes
  // before. kInvalid if controllers of this journal keep what hooks have done in another directory.
  // Then folds every run of the journal and takes up what was in doubt.
  [[nodiscard]] static Expected<std::unique_ptr<Controller>> start(
      const Config& config, const security::Credentials& credentials, store::Journal& journal,
      const std::stop_token& stop, OnFatal on_fatal);
  // Waits for what is under way; resign() and the process's end do not.
  ~Controller() = default;
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  // Decides nothing more and gives the lease up, so that a successor need not wait. Agents go on
  // with what they were told. Not from the deciding thread.
  void resign();

  // ---- any thread; `by` is the operator's certificate, empty if there is none ----
  [[nodiscard]] v1::ClusterInfo cluster();
  [[nodiscard]] Expected<void> cordon(const std::string& host, const std::string& by);
  [[nodiscard]] Expected<void> uncordon(const std::string& host, const std::string& by);
  [[nodiscard]] Expected<v1::Preview> preview(const std::string& plan_toml,
                                              const std::string& source);
  [[nodiscard]] Expected<std::string> start_run(const std::string& plan_toml,
                                                const std::string& source, const std::string& by);
  // An empty `run` is the only one that has not ended. Returns its id.
  [[nodiscard]] Expected<std::string> command(const std::string& run, patch::RunEvent event,
                                              const std::string& by);
  [[nodiscard]] v1::RunList runs();
  // An empty `run` is the only one that has not ended, or else the latest one. kNotFound names
  // those that there are.
  [[nodiscard]] Expected<v1::RunStatus> status(const std::string& run);
  [[nodiscard]] Expected<v1::Report> report(const std::string& run);

 private:
  struct Mark {
    std::string cordoned_by;
    bool quarantined = false;
  };
  // What is known at one moment, to plan with on another thread than the deciding one.
  struct Moment {
    patch::Facts facts;
    planner::Cluster cluster;
    planner::DurationModel durations;
    MeasuredPatch measured{};
  };
  // A plan that may be run now, and what it would do.
  struct Checked {
    patch::Plan plan;
    patch::Resolution resolution;
    v1::Preview preview;
  };

  Controller(const Config& config, const security::Credentials& credentials,
             store::Journal& journal, model::ControllerIdentity self, patch::TimeMs lease_taken_ms,
             OnFatal on_fatal);

  // Runs `work` on the deciding thread and returns what it returns.
  template <typename Work>
  auto decide(Work work) -> decltype(work()) {
    auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
    auto result = task->get_future();
    post([task] { (*task)(); });
    return result.get();
  }
  void post(std::function<void()> work);
  void loop(const std::stop_token& stop);
  // As after a start: what nobody watched counts for nothing, and every host is asked.
  void begin_anew();
  void ask_all_hosts();
  void look_around();
  // kPermission, with the remedy, where an agent obeys another controller.
  [[nodiscard]] Expected<void> is_obeyed();
  [[nodiscard]] Expected<void> may_lead();
  [[nodiscard]] Expected<void> check(const std::map<std::string, v1::HostInfo>& infos);
  void refused(const std::string& message);
  void step_runs();
  void finish(const std::string& run, const patch::Outcome& outcome);
  [[nodiscard]] v1::RunStatus status_of(const patch::Run& run) const;
  // On the caller's thread, which is not the deciding one: planning takes its time on a large
  // cluster, and neither runs nor the lease wait for it.
  [[nodiscard]] Expected<Checked> check_plan(const std::string& plan_toml,
                                             const std::string& source);
  [[nodiscard]] Expected<std::pair<patch::Plan, patch::Resolution>> read_plan(
      const std::string& plan_toml, const std::string& source) const;
  void fatal(const std::string& message);

  // ---- the deciding thread alone ----
  [[nodiscard]] Expected<void> restore();
  // Returns each run's newest record's time.
  [[nodiscard]] Expected<std::map<std::string, patch::TimeMs>> restore_marks(
      const std::vector<std::string>& runs);
  // As `run` sees them (empty: as nobody's). Without the controller's hooks, which only an
  // admission asks for.
  [[nodiscard]] patch::Facts facts(const Hosts& hosts, const std::string& run) const;
  [[nodiscard]] planner::Cluster cluster_of(const Hosts& hosts) const;
  [[nodiscard]] patch::PlannedMover mover(const Hosts& hosts) const;
  [[nodiscard]] Moment now() const;
  [[nodiscard]] Expected<void> set_mark(const std::string& host, patch::Mark mark,
                                        const std::string& by);
  void learn_again(const patch::Run& run);
  void apply_mark(const patch::MarkStep& step, const std::string& by);
  void note_marks(const patch::Run& run);
  [[nodiscard]] Expected<MeasuredPatch> measured_patch(const patch::Plan& plan);
  [[nodiscard]] Expected<std::vector<patch::Record>> records_of(const std::string& run);
  // The first of its hosts that is part of a run already.
  [[nodiscard]] Expected<void> refuse_busy_hosts(const patch::Plan& plan) const;
  [[nodiscard]] Expected<patch::Driver*> find(const std::string& run,
                                              Unnamed unnamed = Unnamed::kActiveOrLast);
  // Of runs: the wall clock when this controller began to watch, and from then on a clock that
  // nobody sets.
  [[nodiscard]] patch::TimeMs now_ms() const;
  // Begins to watch now, at `at_ms` or later.
  void watch_from(patch::TimeMs at_ms);

  const Config& config_;
  const security::Credentials& credentials_;
  store::Journal& journal_;
  const model::ControllerIdentity self_;
  const OnFatal on_fatal_;
  Inventory inventory_;
  // What ends posts here: these outlive all that may.
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::function<void()>> work_;
  bool failed_ = false;
  Executor executor_;
  planner::DurationModel durations_;
  std::map<std::string, Mark> marks_;
  std::map<std::string, std::size_t> marks_noted_;       // run: how many of its marks
  std::vector<std::unique_ptr<patch::Driver>> drivers_;  // in the order in which they began
  patch::TimeMs watching_since_ms_ = 0;
  RunningClock::TimePoint watching_since_;
  RunningClock::Duration stood_still_{};
  std::int64_t looked_around_ms_ = 0;
  std::vector<std::string> strangers_;  // what was last said of hosts that obey another journal

  LeaseKeeper lease_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace sluice::controller
