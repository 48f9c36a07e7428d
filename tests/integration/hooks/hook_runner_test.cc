#include "control/hooks/hook_runner.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace sluice::hooks {
namespace {

namespace fs = std::filesystem;

class HookRunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sluice-hooks-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    fs::create_directory(directory_ / "hooks");
    ASSERT_TRUE(HookRunner::prepare(state()));
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] std::string state() const { return (directory_ / "state").string(); }
  [[nodiscard]] HookRunner runner() const { return {(directory_ / "hooks").string(), state()}; }
  // A hook that writes a line to the file `ran` each time it runs.
  void write_hook(const std::string& name, const std::string& body) const {
    const fs::path path = directory_ / "hooks" / name;
    std::ofstream(path) << "#!/bin/sh\necho ran >>" << (directory_ / "ran").string() << "\n"
                        << body;
    fs::permissions(path, fs::perms::owner_all);
  }
  [[nodiscard]] int times_run() const {
    std::ifstream file(directory_ / "ran");
    int lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    return lines;
  }
  void wait_until_run() const {
    for (int i = 0; i < 1000 && times_run() == 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_EQ(times_run(), 1);
  }

  fs::path directory_;
};

Call call_of(const std::string& name, bool idempotent = false) {
  return {"r1-7", name, 30, idempotent, {{"SLUICE_HOST", "h1"}}};
}

TEST_F(HookRunnerTest, RunsAHookOnceForItsKeyAndRemembersWhatBecameOfIt) {
  write_hook("patch", "echo on $SLUICE_HOST; echo trouble >&2\n");
  for (int again = 0; again < 3; ++again) {
    auto here = runner();
    const auto end = here.run(call_of("patch"));
    ASSERT_TRUE(end) << end.error().message;
    EXPECT_TRUE(end->ok);
    EXPECT_EQ(end->output, "on h1\ntrouble\n");
  }
  EXPECT_EQ(times_run(), 1);
  auto other = call_of("patch");
  other.key = "r1-8";
  EXPECT_TRUE(runner().run(other)->ok);
  EXPECT_EQ(times_run(), 2);
}

TEST_F(HookRunnerTest, InheritsNoneOfItsCallersFiles) {
  const int leaked = open("/dev/null", O_RDONLY);  // without O_CLOEXEC
  ASSERT_GE(leaked, 0);
  write_hook("patch", "[ ! -e /proc/self/fd/" + std::to_string(leaked) + " ]\n");
  auto here = runner();
  const auto end = here.run(call_of("patch"));
  close(leaked);
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->ok) << end->output;
}

TEST_F(HookRunnerTest, AFailureIsAnEndToo) {
  write_hook("patch", "echo no space; exit 3\n");
  for (int again = 0; again < 2; ++again) {
    auto here = runner();
    const auto end = here.run(call_of("patch"));
    ASSERT_TRUE(end);
    EXPECT_FALSE(end->ok);
    EXPECT_EQ(end->output, "exit status 3: no space\n");
  }
  EXPECT_EQ(times_run(), 1);
}

TEST_F(HookRunnerTest, OfMuchOutputTheBeginningAndTheEndAreKept) {
  write_hook("patch",
             "echo first; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last; exit 1\n");
  auto here = runner();
  const auto end = here.run(call_of("patch"));
  ASSERT_TRUE(end);
  EXPECT_LT(end->output.size(), kOutputBytesMax + 100);
  EXPECT_TRUE(end->output.starts_with("exit status 1: first\n")) << end->output.substr(0, 40);
  EXPECT_TRUE(end->output.ends_with("x\nlast\n"));
  // "first", 300000 times x, "last" and their line ends, but for what is kept.
  const std::size_t missing = 300012 - kOutputBytesMax;
  EXPECT_NE(end->output.find("\n[" + std::to_string(missing) + " bytes left out]\n"),
            std::string::npos);
  EXPECT_LT(bounded_output(std::string(1 << 20, 'x')).size(), kOutputBytesMax + 100);
  EXPECT_EQ(bounded_output("all of it"), "all of it");
}

TEST_F(HookRunnerTest, OutputThatIsNoTextBecomesSome) {
  write_hook("patch", "printf 'gr\\303\\274n \\377\\303 \\355\\240\\200'\n");
  auto here = runner();
  const auto end = here.run(call_of("patch"));
  ASSERT_TRUE(end);
  EXPECT_EQ(end->output, "gr\u00fcn ?? ???");
}

TEST_F(HookRunnerTest, OneThatHangsIsKilledWithItsChildren) {
  write_hook("patch", "echo begun; sleep 1000 & sleep 1000\n");
  auto call = call_of("patch");
  call.timeout_s = 1;
  auto here = runner();
  const auto end = here.run(call);
  ASSERT_TRUE(end);
  EXPECT_FALSE(end->ok);
  EXPECT_EQ(end->output, "it did not end within 1 s and was killed\nbegun\n");
  EXPECT_EQ(here.run(call)->output, end->output);
  EXPECT_EQ(times_run(), 1);
}

TEST_F(HookRunnerTest, OneThatOutlivesItsTimeoutHasTimeToPutThingsInOrder) {
  const std::string done = (directory_ / "done").string();
  write_hook("patch", "trap 'sleep 0.5; echo put in order; touch " + done +
                          "; exit' TERM\nsleep 1000 & wait\n");
  auto call = call_of("patch");
  call.timeout_s = 1;
  const auto end = runner().run(call);
  ASSERT_TRUE(end);
  EXPECT_FALSE(end->ok);
  EXPECT_TRUE(fs::exists(done));
  EXPECT_EQ(end->output, "it did not end within 1 s and was killed\nput in order\n");
}

TEST_F(HookRunnerTest, OneThatDoesNotListenIsKilledAllTheSame) {
  write_hook("patch", "trap '' TERM\nsleep 1000\n");
  auto call = call_of("patch");
  call.timeout_s = 1;
  const auto begun = std::chrono::steady_clock::now();
  const auto end = runner().run(call);
  ASSERT_TRUE(end);
  EXPECT_FALSE(end->ok);
  EXPECT_LT(std::chrono::steady_clock::now(), begun + std::chrono::seconds(30));
}

// Agents and controllers ignore SIGPIPE.
TEST_F(HookRunnerTest, WhoWritesToAProgramThatHasEndedEndsToo) {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  write_hook("patch", "sh -c 'kill -PIPE $$; echo goes on'\n[ $? = 141 ]\n");
  const auto end = runner().run(call_of("patch"));
  std::signal(SIGPIPE, before);
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->ok) << end->output;
}

TEST_F(HookRunnerTest, OutputThatNobodyWillReadTakesNoRoom) {
  write_hook("patch", "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last\n");
  const auto end = runner().run(call_of("patch"));
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->output.starts_with("first\n")) << end->output.substr(0, 40);
  EXPECT_TRUE(end->output.ends_with("x\nlast\n"));
  struct stat about {};
  ASSERT_EQ(stat((state() + "/r1-7.output").c_str(), &about), 0);
  EXPECT_LE(about.st_blocks * 512, std::int64_t{2} << 20);
}

// A process that is killed while its hook runs, and one that comes after it.
TEST_F(HookRunnerTest, OneThatOutlivesItsCallerIsWaitedForAndNotRunAgain) {
  write_hook("patch", "while [ ! -e " + (directory_ / "go").string() + " ]; do sleep 0.02; done\n");
  const pid_t caller = fork();
  if (caller == 0) {
    auto here = runner();
    static_cast<void>(here.run(call_of("patch")));
    _exit(0);
  }
  wait_until_run();
  kill(caller, SIGKILL);
  waitpid(caller, nullptr, 0);
  std::ofstream(directory_ / "go") << "go";
  auto here = runner();
  const auto end = here.run(call_of("patch"));
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->ok) << end->output;
  EXPECT_EQ(times_run(), 1);
}

// As a patch that starts its agent anew: the one waits for the other.
TEST_F(HookRunnerTest, OneThatWaitsForTheEndOfItsCallerIsFoundByTheNextOne) {
  const fs::path gone = directory_ / "gone";
  write_hook("patch", "while [ ! -e " + gone.string() + " ]; do sleep 0.02; done; echo new\n");
  {
    auto here = runner();
    auto waits = std::async(std::launch::async, [&] { return here.run(call_of("patch")); });
    wait_until_run();
    // For the same call as the first one, which it would wait for.
    auto waits_too = std::async(std::launch::async, [&] { return here.run(call_of("patch")); });
    here.stop();
    for (auto* waiting : {&waits, &waits_too}) {
      const auto end = waiting->get();
      ASSERT_FALSE(end);
      EXPECT_EQ(end.error().kind, ErrorKind::kUnreachable);
    }
  }
  std::ofstream(gone) << "gone";
  auto next = runner();
  const auto end = next.run(call_of("patch"));
  ASSERT_TRUE(end) << end.error().message;
  EXPECT_TRUE(end->ok);
  EXPECT_EQ(end->output, "new\n");
  EXPECT_EQ(times_run(), 1);
}

// Who takes over does not begin the timeout anew.
TEST_F(HookRunnerTest, OneThatOutlivesItsCallerHasTheTimeoutThatItBeganWith) {
  write_hook("patch", "sleep 1000\n");
  auto call = call_of("patch");
  call.timeout_s = 4;
  const auto begun = std::chrono::steady_clock::now();
  const pid_t caller = fork();
  if (caller == 0) {
    auto here = runner();
    static_cast<void>(here.run(call));
    _exit(0);
  }
  wait_until_run();
  while (std::chrono::steady_clock::now() < begun + std::chrono::seconds(3))
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  kill(caller, SIGKILL);
  waitpid(caller, nullptr, 0);
  auto here = runner();
  const auto end = here.run(call);
  ASSERT_TRUE(end);
  EXPECT_FALSE(end->ok);
  EXPECT_EQ(end->output, "it did not end within 4 s and was killed\n");
  EXPECT_LT(std::chrono::steady_clock::now(), begun + std::chrono::milliseconds(6500));
}

// The caller dies when its hook is marked as begun and about to run, and the hook comes too late:
// whoever takes over has given it up by then.
TEST_F(HookRunnerTest, OneWhoseCallerDiedAsItBeganRunsNeverOrOnce) {
  for (const bool idempotent : {false, true}) {
    write_hook("patch", "");
    // The shell's way to say that it runs is slow.
    const fs::path slow = directory_ / "slow";
    const fs::path go = directory_ / (idempotent ? "go-again" : "go");
    fs::create_directory(slow);
    std::ofstream(slow / "ln")
        << "#!/bin/sh\nwhile [ ! -e " << go.string()
        << " ]; do sleep 0.02; done\nexec /usr/bin/env PATH=/usr/bin:/bin ln \"$@\"\n";
    fs::permissions(slow / "ln", fs::perms::owner_all);
    auto call = call_of("patch", idempotent);
    call.key = idempotent ? "r1-8" : "r1-7";
    const pid_t caller = fork();
    if (caller == 0) {
      setenv("PATH", (slow.string() + ":/usr/bin:/bin").c_str(), 1);
      auto here = runner();
      static_cast<void>(here.run(call));
      _exit(0);
    }
    const auto late = [&] {
      for (const auto& entry : fs::directory_iterator(state())) {
        if (entry.path().filename().string().find(".pid.") != std::string::npos) return true;
      }
      return false;
    };
    while (!late()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    kill(caller, SIGKILL);
    waitpid(caller, nullptr, 0);
    auto here = runner();
    const auto end = here.run(call);
    ASSERT_TRUE(end);
    EXPECT_EQ(end->ok, idempotent);
    if (!idempotent) {
      EXPECT_EQ(end->output, "it was interrupted; whether it took effect is not known");
    }
    std::ofstream(go) << "go";
    while (late()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(times_run(), idempotent ? 1 : 0);
    fs::remove_all(slow);
  }
}

// As after a crash of the whole machine: it was begun, and nothing more is known.
TEST_F(HookRunnerTest, OneWhoseEndNobodyKnowsIsRunAgainOnlyIfThatDoesNoHarm) {
  write_hook("patch", "");
  std::ofstream(state() + "/r1-7.begun") << "";
  auto here = runner();
  const auto end = here.run(call_of("patch"));
  ASSERT_TRUE(end);
  EXPECT_FALSE(end->ok);
  EXPECT_EQ(end->output, "it was interrupted; whether it took effect is not known");
  EXPECT_EQ(times_run(), 0);
  EXPECT_TRUE(here.run(call_of("patch", /*idempotent=*/true))->ok);
  EXPECT_EQ(times_run(), 1);
}

// Nobody gives a key twice, but for controllers with copies of one journal.
TEST_F(HookRunnerTest, AHookIsNotTakenForAnotherOneOfTheSameKey) {
  write_hook("before", "");
  write_hook("patch", "");
  auto here = runner();
  ASSERT_TRUE(here.run(call_of("before"))->ok);
  const auto refused = runner().run(call_of("patch"));
  ASSERT_FALSE(refused) << refused->output;
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(refused.error().message.find("its key r1-7 was hook before's"), std::string::npos)
      << refused.error().message;
  EXPECT_TRUE(runner().run(call_of("before"))->ok);
  EXPECT_EQ(times_run(), 1);
  // Earlier versions did not say which hook it was.
  std::ofstream(state() + "/r1-7.begun") << "1700000000000";
  EXPECT_TRUE(runner().run(call_of("patch"))->ok);
}

TEST_F(HookRunnerTest, UnknownNamesAndBadKeysAreRefused) {
  write_hook("patch", "");
  std::ofstream(directory_ / "hooks" / "notes.txt") << "not executable";
  auto here = runner();
  EXPECT_EQ(here.names(), std::set<std::string>{"patch"});
  EXPECT_EQ(here.run(call_of("notes.txt")).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(here.run(call_of("../patch")).error().kind, ErrorKind::kNotFound);
  auto call = call_of("patch");
  for (const char* key : {"", "..", "../x", "a b"}) {
    call.key = key;
    EXPECT_EQ(here.run(call).error().kind, ErrorKind::kInvalid) << key;
  }
  EXPECT_EQ(times_run(), 0);
}

}  // namespace
}  // namespace sluice::hooks
