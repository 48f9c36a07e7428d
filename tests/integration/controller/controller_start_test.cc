// How a controller comes to lead: its journal, its lease, and agents that keep it waiting.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "control/controller/adoption.h"
#include "control/controller/controller.h"
#include "control/patch/record.h"
#include "control/store/sqlite_journal.h"
#include "tests/integration/cli/fake_agent.h"
#include "tests/integration/test_pki.h"

namespace sluice::controller {
namespace {

// Counts renewals, or holds them up.
class WatchedJournal final : public store::Journal {
 public:
  explicit WatchedJournal(store::Journal& inner) : inner_(inner) {}
  Expected<Identity> identity() override { return inner_.identity(); }
  Expected<std::string> keep(const std::string& name, const std::string& value) override {
    return inner_.keep(name, value);
  }
  Expected<std::string> kept(const std::string& name) override { return inner_.kept(name); }
  Expected<std::uint64_t> take_lease(const std::string& holder, store::TimeMs now_ms,
                                     store::TimeMs ttl_ms) override {
    return inner_.take_lease(holder, now_ms, ttl_ms);
  }
  Expected<void> renew_lease(std::uint64_t epoch, store::TimeMs now_ms,
                             store::TimeMs ttl_ms) override {
    ++begun;
    while (stuck) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (busy) return fail(ErrorKind::kFailed, "database is locked");
    auto renewed = inner_.renew_lease(epoch, now_ms, ttl_ms);
    ++renewals;
    return renewed;
  }
  void drop_lease(std::uint64_t epoch) override { inner_.drop_lease(epoch); }
  Expected<void> append(std::uint64_t epoch, const std::string& run,
                        const std::string& body) override {
    auto appended = inner_.append(epoch, run, body);
    if (appended && appends_unheard) return fail(ErrorKind::kFailed, "disk I/O error");
    return appended;
  }
  Expected<std::vector<store::Entry>> read(const std::string& run) override {
    return inner_.read(run);
  }
  Expected<std::vector<std::string>> runs() override { return inner_.runs(); }

  std::atomic<int> begun = 0;
  std::atomic<int> renewals = 0;
  std::atomic<bool> stuck = false;
  std::atomic<bool> busy = false;  // renewals fail at once
  std::atomic<bool> appends_unheard = false;

 private:
  store::Journal& inner_;
};

class ControllerStartTest : public testing::Test {
 protected:
  void SetUp() override {
    config_.name = "c1";
    config_.journal = directory_ + "/journal.db";
    config_.state_dir = directory_ + "/state";
    journal_ = open(config_.journal);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static std::unique_ptr<store::SqliteJournal> open(const std::string& path) {
    auto journal = store::SqliteJournal::open(path);
    EXPECT_TRUE(journal) << journal.error().message;
    return std::move(*journal);
  }
  Expected<std::unique_ptr<Controller>> start(store::Journal& journal) {
    EXPECT_TRUE(hooks::HookRunner::prepare(config_.state_dir));
    return Controller::start(config_, *credentials_, journal, {},
                             [](const std::string& message) { ADD_FAILURE() << message; });
  }

  // As an earlier controller left it.
  void write(const std::string& run, const std::vector<patch::Record>& records) {
    const auto epoch = journal_->take_lease("c0", wall_clock_ms(), 10'000);
    ASSERT_TRUE(epoch) << epoch.error().message;
    for (const auto& record : records)
      ASSERT_TRUE(journal_->append(*epoch, run, patch::encode(record)));
    journal_->drop_lease(*epoch);
  }

  const std::string directory_ = [] {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-ctl-XXXXXX").string();
    return std::string(mkdtemp(pattern.data()));
  }();
  test::TestPki pki_{directory_};
  std::shared_ptr<const security::Credentials> credentials_ =
      pki_.credentials("c1", security::Role::kController);
  Config config_;
  std::unique_ptr<store::SqliteJournal> journal_;
};

TEST_F(ControllerStartTest, TheLeaseIsRenewedWhileAnAgentKeepsTheFirstQuestionWaiting) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  WatchedJournal journal(*journal_);
  std::atomic<bool> given_up = false;
  h1.on_get_host = [&](grpc::ServerContext& context) {
    while (journal.renewals == 0 && !context.IsCancelled())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    given_up = given_up || journal.renewals == 0;
  };
  auto controller = start(journal);
  ASSERT_TRUE(controller) << controller.error().message;
  EXPECT_FALSE(given_up) << "the agent was asked in vain before the lease was renewed";
}

// The next run would have its id, and no controller could read the journal again.
TEST_F(ControllerStartTest, ARunThatMayHaveBeenWrittenIsTheLastThatThisControllerBegins) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  WatchedJournal journal(*journal_);
  EXPECT_TRUE(hooks::HookRunner::prepare(config_.state_dir));
  std::string why;
  {
    auto controller = Controller::start(config_, *credentials_, journal, {},
                                        [&why](const std::string& message) { why = message; });
    ASSERT_TRUE(controller) << controller.error().message;
    const std::string plan = "name = 'p'\nhosts = ['h1']\ndrain_only = true\n";
    journal.appends_unheard = true;
    EXPECT_FALSE((*controller)->start_run(plan, "plan.toml", "anna"));
  }
  EXPECT_EQ(why, "disk I/O error");
  auto next = start(*journal_);
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_TRUE((*next)->status("r1"));
}

TEST_F(ControllerStartTest, AgentsAreToldOfACordonAndOfItsEnd) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  auto controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  ASSERT_TRUE((*controller)->cordon("h1", "anna"));
  while (h1.told() != "cordoned by an operator") std::this_thread::yield();
  (*controller)->resign();
  controller->reset();
  // The next one knows it from the journal.
  controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  EXPECT_EQ(h1.told(), "cordoned by an operator");
  ASSERT_TRUE((*controller)->uncordon("h1", "anna"));
  while (!h1.told().empty()) std::this_thread::yield();
}

TEST_F(ControllerStartTest, WhatAnAgentSaidBeforeItHeardOfACordonIsKnown) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  Inventory inventory(config_, *credentials_, {"", 1});
  inventory.refresh({"h1"});
  inventory.set_out_of_service("h1", "cordoned by run r1");
  EXPECT_FALSE(inventory.hosts().at("h1").told_out_of_service);
  inventory.refresh({"h1"});
  EXPECT_TRUE(inventory.hosts().at("h1").told_out_of_service);
  inventory.set_out_of_service("h1", "");
  inventory.refresh({"h1"});
  EXPECT_FALSE(inventory.hosts().at("h1").told_out_of_service);
}

TEST_F(ControllerStartTest, AControllerWithAnotherStateDirectoryIsRefused) {
  {
    auto first = start(*journal_);
    ASSERT_TRUE(first) << first.error().message;
    (*first)->resign();
  }
  {
    auto again = start(*journal_);
    ASSERT_TRUE(again) << again.error().message;
    (*again)->resign();
  }
  config_.state_dir = directory_ + "/other";
  const auto other = start(*journal_);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(other.error().message.find("state_dir " + config_.state_dir), std::string::npos)
      << other.error().message;
  // With a journal of its own it is welcome.
  const auto journal = open(directory_ + "/other.db");
  auto alone = start(*journal);
  ASSERT_TRUE(alone) << alone.error().message;
  (*alone)->resign();
}

// Its host broke in the middle of its patch, and was taken out of the configuration.
TEST_F(ControllerStartTest, ARunOfAHostThatIsNotConfiguredAnyMoreComesToItsEnd) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  const auto epoch = journal_->take_lease("c1", wall_clock_ms(), 1);
  ASSERT_TRUE(epoch);
  patch::Intent hook{1, patch::ActionKind::kHook, "version-before", "h3"};
  hook.hook.name = "version";
  using Body = decltype(patch::Record::body);
  for (const Body& body :
       {Body(patch::Created{"name = 'p'\nhosts = ['h3']\n[hooks]\npatch = 'patch'\n"
                            "version = 'version'\n"}),
        Body(patch::RunStep{patch::RunEvent::kAdmit, ""}),
        Body(patch::RunStep{patch::RunEvent::kStart, ""}),
        Body(patch::HostStep{"h3", patch::HostEvent::kBegin, ""}), Body(hook)})
    ASSERT_TRUE(journal_->append(*epoch, "r1", patch::encode({wall_clock_ms(), body})));
  auto controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  auto status = (*controller)->status("r1");
  while (status && !status->at_rest()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    status = (*controller)->status("r1");
  }
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(status->hosts(0).state(), "skipped");
  ASSERT_EQ(status->tasks_size(), 1);
  EXPECT_NE(status->tasks(0).detail().find("h3 is not in [hosts]"), std::string::npos)
      << status->tasks(0).detail();
}

TEST_F(ControllerStartTest, AgentsOfAnotherJournalAreTakenOverByAnOperatorsWordAlone) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}, {"h2", "unix:" + directory_ + "/silent.sock"}};
  h1.more.set_controller_journal("aaaa");
  h1.more.set_controller_epoch(17);
  const auto refused = start(*journal_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kPermission);
  for (const char* word : {"h1 obeys", "aaaa", "--adopt-agents"})
    EXPECT_NE(refused.error().message.find(word), std::string::npos) << refused.error().message;

  const auto before = journal_->identity();
  const auto lines = adopt_agents(config_, *credentials_, *journal_);
  ASSERT_TRUE(lines) << lines.error().message;
  EXPECT_EQ(lines->at(0), "h1 obeyed aaaa, epoch 17");
  EXPECT_EQ(lines->at(1).find("h2 was not asked"), 0U) << lines->at(1);
  const auto after = journal_->identity();
  EXPECT_NE(after->id, before->id) << "agents would take its hooks for those of an earlier copy";
  for (const auto& id : {before->id, std::string("aaaa")})
    EXPECT_EQ(std::count(after->replaced.begin(), after->replaced.end(), id), 1) << id;

  // As the agent says once it has seen which journal this one replaces.
  h1.more.set_controller_journal(after->id);
  std::atomic<bool> told = false;
  h1.on_get_host = [&](grpc::ServerContext& call) {
    const auto& metadata = call.client_metadata();
    const auto replaced = metadata.find(model::kReplacedMetadata);
    const auto journal = metadata.find(model::kJournalMetadata);
    told = told ||
           (replaced != metadata.end() && replaced->second.find("aaaa") != grpc::string_ref::npos &&
            journal != metadata.end() && journal->second == after->id);
  };
  // With the machine, what its hooks have done is lost too.
  config_.state_dir = directory_ + "/other";
  auto controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  EXPECT_GT((*controller)->cluster().epoch(), 17U);
  EXPECT_TRUE(told);
}

// Put into [hosts] by mistake, or back from a long absence.
TEST_F(ControllerStartTest, AHostThatObeysAnotherJournalCountsAsSilentUnlessMostDo) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  cli::FakeAgent h2("h2", directory_, *pki_.credentials("h2"));
  cli::FakeAgent h3("h3", directory_, *pki_.credentials("h3"));
  config_.hosts = {{"h1", h1.address()}, {"h2", h2.address()}, {"h3", h3.address()}};
  h3.more.set_controller_journal("aaaa");
  h3.more.set_controller_epoch(17);
  {
    const auto controller = start(*journal_);
    ASSERT_TRUE(controller) << controller.error().message;
    const auto cluster = (*controller)->cluster();
    EXPECT_TRUE(cluster.hosts(0).reachable());
    EXPECT_TRUE(cluster.hosts(1).reachable());
    EXPECT_FALSE(cluster.hosts(2).reachable());
    (*controller)->resign();
  }
  h2.more.set_controller_journal("aaaa");
  const auto refused = start(*journal_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("take h2 out of [hosts]"), std::string::npos)
      << refused.error().message;
}

// Started again and again, a copy would come to the highest epoch.
TEST_F(ControllerStartTest,
       ACopyOfTheJournalThatAgentsObeyIsNotLedWhateverItsEpochAndNoneHearsOfIt) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  h1.more.set_controller_journal(journal_->identity()->id);
  h1.more.set_controller_epoch(2);
  h1.more.set_controller_instance("a2");
  std::atomic<bool> told = false;
  h1.on_get_host = [&](grpc::ServerContext& call) {
    told = told || call.client_metadata().count(model::kEpochMetadata) != 0;
  };
  for (int epoch = 1; epoch <= 4; ++epoch) {
    const auto refused = start(*journal_);
    ASSERT_FALSE(refused) << epoch;
    EXPECT_EQ(refused.error().kind, ErrorKind::kPermission);
    for (const char* word : {"h1 obeys", "epoch 2", "cop", "--adopt-agents"})
      EXPECT_NE(refused.error().message.find(word), std::string::npos) << refused.error().message;
  }
  EXPECT_FALSE(told) << "an agent obeys the higher epoch at once";
}

TEST_F(ControllerStartTest, TheJournalKnowsWhoHasLedWithIt) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  // As an agent does.
  std::mutex mutex;
  std::string epoch;
  std::string instance;
  h1.on_get_host = [&](grpc::ServerContext& call) {
    const auto& metadata = call.client_metadata();
    const std::lock_guard lock(mutex);
    if (const auto found = metadata.find(model::kEpochMetadata); found != metadata.end())
      epoch = std::string(found->second.data(), found->second.size());
    if (const auto found = metadata.find(model::kInstanceMetadata); found != metadata.end())
      instance = std::string(found->second.data(), found->second.size());
  };
  {
    const auto first = start(*journal_);
    ASSERT_TRUE(first) << first.error().message;
    (*first)->resign();
  }
  h1.stop();
  cli::FakeAgent again("h1", directory_, *pki_.credentials("h1"));
  again.more.set_controller_journal(journal_->identity()->id);
  again.more.set_controller_epoch(1);
  EXPECT_EQ(epoch, "1");
  EXPECT_EQ(instance.size(), 16U);
  again.more.set_controller_instance(instance);
  const auto second = start(*journal_);
  ASSERT_TRUE(second) << second.error().message;
  (*second)->resign();
}

TEST_F(ControllerStartTest, AnOldCopyWithARunThatGoesOnIsNotLed) {
  const auto epoch = journal_->take_lease("c1", wall_clock_ms(), 1);
  ASSERT_TRUE(epoch);
  const patch::Created created{"name = 'july'\nhosts = ['h1']\ndrain_only = true\n"};
  ASSERT_TRUE(journal_->append(*epoch, "r1", patch::encode({wall_clock_ms(), created})));
  const auto refused = adopt_agents(config_, *credentials_, *journal_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message.find("run r1 (july) of this journal has not ended"), 0U)
      << refused.error().message;
}

// Of a version that knew more, or less: whatever may stand in there.
TEST_F(ControllerStartTest, PlansThatCannotBeReadKeepNobodyFromLeading) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  config_.hosts = {{"h1", h1.address()}};
  using patch::HostEvent, patch::HostStep, patch::MarkStep, patch::RunEvent, patch::RunStep;
  const patch::Created created{"name = 'a'\nnonsense = 1\n"};
  write("r1", {{1, created},
               {2, RunStep{RunEvent::kAdmit, ""}},
               {3, RunStep{RunEvent::kAbort, "an operator asked for it"}},
               {4, HostStep{"h1", HostEvent::kAbort, "the run was aborted"}},
               {5, RunStep{RunEvent::kFinished, "it was told to end"}}});
  write("r2", {{6, created},
               {7, RunStep{RunEvent::kAdmit, ""}},
               {8, RunStep{RunEvent::kStart, ""}},
               {9, HostStep{"h1", HostEvent::kBegin, ""}},
               {9, MarkStep{"h1", patch::Mark::kCordon}},
               {9, patch::Intent{1, patch::ActionKind::kHook, "version-before", "h1"}}});
  auto controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  const auto ended = (*controller)->status("r1");
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(ended->state(), "aborted");
  ASSERT_EQ(ended->hosts_size(), 1);
  EXPECT_EQ(ended->hosts(0).state(), "skipped");
  const auto report = (*controller)->report("r1");
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_NE(report->markdown().find("h1: abort: the run was aborted"), std::string::npos)
      << report->markdown();

  const auto live = (*controller)->status("r2");
  ASSERT_TRUE(live) << live.error().message;
  EXPECT_EQ(live->state(), "running");
  EXPECT_EQ(live->waits_for(),
            "plan of run r2:2:1: unknown key nonsense; known: name, hosts, waves, labels, except, "
            "wave_by, drain_only, parallel, failures, attempts, shut_down_guests, window, hooks, "
            "reboot, expect, canary, refill, soak; this version cannot read it: go on with the one "
            "that began the run");
  EXPECT_TRUE(live->at_rest());
  EXPECT_EQ(live->tasks(0).state(), "under way");
  const auto aborted = (*controller)->command("r2", RunEvent::kAbort, "anna");
  ASSERT_FALSE(aborted);
  EXPECT_EQ(aborted.error().message, live->waits_for());
  (*controller)->resign();
}

// A run whose h1 is in quarantine and that waits with h2 for an operator.
TEST_F(ControllerStartTest, AMendedHostIsGivenBackWhileItsRunIsPaused) {
  cli::FakeAgent h1("h1", directory_, *pki_.credentials("h1"));
  cli::FakeAgent h2("h2", directory_, *pki_.credentials("h2"));
  config_.hosts = {{"h1", h1.address()}, {"h2", h2.address()}};
  using patch::HostEvent, patch::HostStep, patch::MarkStep, patch::RunEvent, patch::RunStep;
  std::vector<patch::Record> records = {
      {1, patch::Created{"name = 'a'\nhosts = ['h1', 'h2']\nhooks.patch = 'p'\n"}},
      {1, RunStep{RunEvent::kAdmit, ""}},
      {1, RunStep{RunEvent::kStart, ""}},
      {1, HostStep{"h1", HostEvent::kBegin, ""}},
      {1, patch::Baseline{"h1", "boot", "", "", {}}},
      {1, MarkStep{"h1", patch::Mark::kCordon}}};
  for (const auto event : {HostEvent::kReady, HostEvent::kDrainStarted, HostEvent::kDrained,
                           HostEvent::kPatchStarted, HostEvent::kFailure, HostEvent::kFailure})
    records.push_back({1, HostStep{"h1", event, "it broke"}});
  records.push_back({1, MarkStep{"h1", patch::Mark::kQuarantine}});
  records.push_back({1, MarkStep{"h1", patch::Mark::kUncordon}});
  records.push_back({1, RunStep{RunEvent::kPause, "1 hosts failed"}});
  write("r1", records);
  auto controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  while (h1.told() != "in quarantine") std::this_thread::yield();
  EXPECT_EQ((*controller)->uncordon("h2", "anna").error().kind, ErrorKind::kBusy);
  EXPECT_EQ((*controller)->cordon("h1", "anna").error().kind, ErrorKind::kBusy);
  ASSERT_TRUE((*controller)->uncordon("h1", "CN=anna"));
  EXPECT_FALSE((*controller)->cluster().hosts(0).quarantined());
  while (!h1.told().empty()) std::this_thread::yield();
  EXPECT_EQ((*controller)->status("r1")->hosts(0).state(), "quarantined");
  (*controller)->resign();
  controller->reset();
  // The next one knows it from the journal, with whose word it was.
  controller = start(*journal_);
  ASSERT_TRUE(controller) << controller.error().message;
  EXPECT_FALSE((*controller)->cluster().hosts(0).quarantined());
  EXPECT_EQ(h1.told(), "");
  EXPECT_NE((*controller)->report("r1")->json().find("\"by\":\"CN=anna\""), std::string::npos);
  (*controller)->resign();
}

TEST_F(ControllerStartTest, JournalsAreToldApartAndKeepWhatTheyAreFirstTold) {
  const std::string id = journal_->identity()->id;
  EXPECT_EQ(id.size(), 16U);
  EXPECT_EQ(open(config_.journal)->identity()->id, id);
  EXPECT_NE(open(directory_ + "/other.db")->identity()->id, id);
  EXPECT_EQ(*journal_->keep("name", "first"), "first");
  EXPECT_EQ(*open(config_.journal)->keep("name", "second"), "first");
}

TEST_F(ControllerStartTest, AJournalThatIsBusyForLessThanALeaseEndsNobody) {
  WatchedJournal journal(*journal_);
  const LeaseTimes times{std::chrono::hours(1), std::chrono::milliseconds(5),
                         std::chrono::milliseconds(5)};
  const store::TimeMs taken_ms = wall_clock_ms();
  const auto epoch = journal.take_lease("c1", taken_ms, times.length.count());
  ASSERT_TRUE(epoch);
  journal.busy = true;
  LeaseKeeper keeper(
      journal, *epoch, taken_ms, [](const std::string& message) { ADD_FAILURE() << message; },
      times);
  while (journal.begun < 3) std::this_thread::yield();
  EXPECT_TRUE(keeper.held());
  journal.busy = false;
  while (journal.renewals == 0) std::this_thread::yield();
}

TEST_F(ControllerStartTest, AJournalThatStaysBusyEndsItWhenItsLeaseHasRunOut) {
  WatchedJournal journal(*journal_);
  const LeaseTimes times{std::chrono::milliseconds(50), std::chrono::milliseconds(5),
                         std::chrono::milliseconds(5)};
  const store::TimeMs taken_ms = wall_clock_ms();
  const auto epoch = journal.take_lease("c1", taken_ms, times.length.count());
  ASSERT_TRUE(epoch);
  journal.busy = true;
  std::atomic<bool> lost = false;
  LeaseKeeper keeper(
      journal, *epoch, taken_ms, [&lost](const std::string&) { lost = true; }, times);
  while (!lost) std::this_thread::yield();
  EXPECT_FALSE(keeper.held());
}

TEST_F(ControllerStartTest, ALeaseThatCannotBeRenewedInTimeIsNotHeld) {
  WatchedJournal journal(*journal_);
  const LeaseTimes times{std::chrono::milliseconds(50), std::chrono::milliseconds(5)};
  const store::TimeMs taken_ms = wall_clock_ms();
  const auto epoch = journal.take_lease("c1", taken_ms, times.length.count());
  ASSERT_TRUE(epoch);
  std::atomic<bool> lost = false;
  LeaseKeeper keeper(
      journal, *epoch, taken_ms, [&lost](const std::string&) { lost = true; }, times);
  while (journal.renewals < 3) std::this_thread::yield();
  journal.stuck = true;
  while (keeper.held()) std::this_thread::yield();
  EXPECT_FALSE(lost);
  // Meanwhile another one has taken it.
  ASSERT_TRUE(journal_->take_lease("c2", taken_ms + 3'600'000, 1000));
  journal.stuck = false;
  while (!lost) std::this_thread::yield();
  EXPECT_FALSE(keeper.held());
}

}  // namespace
}  // namespace sluice::controller
