#include "control/hooks/hook_runner.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <optional>
#include <random>
#include <spawn.h>
#include <sstream>
#include <string_view>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "drivers/base/durable_file.h"

namespace sluice::hooks {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Of a hook's output: the beginning says what it did, the end why it failed.
constexpr std::size_t kHeadBytes = 16 * 1024;
constexpr std::size_t kTailBytes = 48 * 1024;
// A file larger than this loses what lies between them.
constexpr std::int64_t kOutputOnDiskMax = std::int64_t{1} << 20;
constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr auto kKillGrace = std::chrono::seconds(2);

// The shell writes the exit status itself, so that it is known also when we have gone meanwhile.
// $1: the call's files, $2: the hook. Whoever makes .pid decides whether the hook runs: the shell,
// or somebody who found nobody alive and gives the call up; see is_given_up(). The status is on
// disk before anybody can act on it: the next thing may be a reboot.
constexpr const char* kShell = R"sh(
may_run=
echo $$ >"$1.pid.$$" && ln "$1.pid.$$" "$1.pid" 2>/dev/null && may_run=yes
rm -f "$1.pid.$$"
[ "$may_run" ] || exit 1
"$2" >"$1.output" 2>&1 </dev/null
echo $? >"$1.exit.partial" && sync "$1.exit.partial" && mv "$1.exit.partial" "$1.exit"
sync "$(dirname "$1")"
)sh";

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<long> read_number(const std::string& path) {
  const auto text = read_file(path);
  if (!text || text->empty()) return std::nullopt;
  return std::strtol(text->c_str(), nullptr, 10);
}

// How many bytes the character takes that begins at `at`; 0: there is no whole one.
std::size_t character_bytes(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return 1;
  const std::size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + bytes > text.size()) return 0;
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  }
  // Longer than need be, surrogates, and what is beyond Unicode.
  const unsigned char second = byte(at + 1);
  const bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                   (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return bad ? 0 : bytes;
}

// Messages carry UTF-8, hooks print what they like.
std::string printable(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = character_bytes(text, at);
    result += bytes == 0 ? "?" : text.substr(at, bytes);
    at += std::max<std::size_t>(bytes, 1);
  }
  return result;
}

// Of `size` bytes in all, which may be more than those two hold together.
std::string joined(std::string head, const std::string& tail, std::size_t size) {
  if (const std::size_t kept = head.size() + tail.size(); kept < size)
    head += fmt::format("\n[{} bytes left out]\n", size - kept);
  return head + tail;
}

// A hook may print without end.
std::string output_of(const std::string& base) {
  std::ifstream file(base + ".output", std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<std::size_t>(file.tellg());
  const auto read = [&file](std::size_t from, std::size_t bytes) {
    std::string part(bytes, '\0');
    file.seekg(static_cast<std::streamoff>(from));
    file.read(part.data(), static_cast<std::streamsize>(bytes));
    part.resize(static_cast<std::size_t>(file.gcount()));
    return part;
  };
  if (size <= kOutputBytesMax) return printable(read(0, size));
  return printable(joined(read(0, kHeadBytes), read(size - kTailBytes, kTailBytes), size));
}

// What nobody will read takes no room on the disk, as long as somebody waits for the hook. A file
// system that cannot do that keeps it all.
void forget_middle(const std::string& base) {
  constexpr int kHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const FileDescriptor file(open((base + ".output").c_str(), O_WRONLY | O_CLOEXEC));
  struct stat about {};
  if (!file.valid() || fstat(file.get(), &about) != 0) return;
  if (about.st_blocks * 512 <= kOutputOnDiskMax || about.st_size <= kOutputOnDiskMax) return;
  fallocate(file.get(), kHole, kHeadBytes,
            about.st_size - static_cast<off_t>(kHeadBytes + kTailBytes));
}

// The shell of this very call; its number may have been given to somebody else since.
std::optional<pid_t> living_shell(const std::string& base) {
  const auto pid = read_number(base + ".pid");
  if (!pid) return std::nullopt;
  const auto command = read_file(fmt::format("/proc/{}/cmdline", *pid));
  if (!command || command->find(base + '\0') == std::string::npos) return std::nullopt;
  return static_cast<pid_t>(*pid);
}

// Of a call whose end is not known: nobody runs it, and nobody will. A shell that its dead caller
// had just started finds .pid taken.
bool is_given_up(const std::string& base) {
  if (living_shell(base)) return false;
  const std::string pid = base + ".pid";
  const FileDescriptor fence(open(pid.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  // It may have begun, or ended, between the two looks.
  return fence.valid() || !living_shell(base);
}

// Whose call it is: "1700000000000 patch"; earlier versions wrote the time alone.
std::string begun_hook(const std::string& base) {
  const auto text = read_file(base + ".begun").value_or("");
  const auto space = text.find(' ');
  return space == std::string::npos ? "" : text.substr(space + 1);
}

bool has_ended(const std::string& base) {
  return fs::exists(base + ".exit") || fs::exists(base + ".killed");
}

// By a clock that all processes of this boot share.
std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch())
      .count();
}

// Children of ours are reaped by whoever waits for them.
void reap(pid_t shell) { waitpid(shell, nullptr, WNOHANG); }

End timed_out(const Call& call, const std::string& base, pid_t shell) {
  // It leads a session of its own, which all its children are in unless they left it. The shell
  // itself ends at once; what it runs may have something to put in order.
  kill(-shell, SIGTERM);
  const auto deadline = Clock::now() + kKillGrace;
  while (kill(-shell, 0) == 0 && Clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
    reap(shell);
  }
  if (kill(-shell, 0) == 0) kill(-shell, SIGKILL);
  const std::string why =
      fmt::format("it did not end within {} s and was killed\n", call.timeout_s);
  std::ofstream(base + ".killed") << why;
  return {false, why + output_of(base)};
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// In a session of its own, with nothing of ours but the environment.
Expected<pid_t> start(std::vector<std::string> arguments, std::vector<std::string> environment) {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  // We ignore it; a program that writes to one that has ended should end.
  sigset_t usual;
  sigemptyset(&usual);
  sigaddset(&usual, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_RDWR, 0);
  // Libraries leave some open: an agent that a reboot starts must not find its predecessor's ports.
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  pid_t pid = 0;
  const int status = posix_spawn(&pid, arguments.front().c_str(), &actions, &attributes,
                                 pointers_to(arguments).data(), pointers_to(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (status != 0) return fail(ErrorKind::kFailed, std::generic_category().message(status));
  return pid;
}

bool is_key(const std::string& key) {
  return !key.empty() && key.front() != '.' && std::all_of(key.begin(), key.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
  });
}

}  // namespace

// One call of a key at a time.
class HookRunner::Lock {
 public:
  Lock(HookRunner& runner, std::string key) : runner_(runner), key_(std::move(key)) {
    std::unique_lock lock(runner_.mutex_);
    runner_.ended_.wait(lock, [&] { return runner_.running_.count(key_) == 0; });
    runner_.running_.insert(key_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    const std::lock_guard lock(runner_.mutex_);
    runner_.running_.erase(key_);
    runner_.ended_.notify_all();
  }

 private:
  HookRunner& runner_;
  std::string key_;
};

Expected<void> HookRunner::prepare(const std::string& state_directory) {
  std::error_code error;
  fs::create_directories(state_directory, error);
  if (error || access(state_directory.c_str(), W_OK) != 0) {
    return fail(ErrorKind::kPermission,
                fmt::format("{} cannot be made or written; it keeps what hooks have done, and must "
                            "outlive reboots",
                            state_directory));
  }
  return {};
}

Expected<std::string> HookRunner::identify(const std::string& state_directory) {
  // Keys never begin with a dot.
  const std::string path = state_directory + "/.id";
  if (auto id = read_file(path)) return *id;
  std::random_device random;
  const std::string id = fmt::format("{:08x}{:08x}", random(), random());
  // Of several that do this at once the first one's stays.
  const std::string own = ".id-" + id;
  const std::string own_path = state_directory + "/" + own;
  const bool written = write_durably(state_directory, own, id);
  const bool named = written && (link(own_path.c_str(), path.c_str()) == 0 || errno == EEXIST) &&
                     sync_directory(state_directory);
  std::error_code ignored;
  fs::remove(own_path, ignored);
  const auto kept = read_file(path);
  if (named && kept) return *kept;
  return fail(ErrorKind::kPermission,
              fmt::format("{} cannot be written; it keeps what hooks have done", path));
}

HookRunner::HookRunner(std::string hook_directory, std::string state_directory)
    : hook_directory_(std::move(hook_directory)), state_directory_(std::move(state_directory)) {}

std::set<std::string> HookRunner::names() const {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(hook_directory_, error)) {
    const std::string name = entry.path().filename();
    if (entry.is_regular_file(error) && access(entry.path().c_str(), X_OK) == 0 &&
        name.front() != '.')
      names.insert(name);
  }
  return names;
}

Expected<End> HookRunner::run(const Call& call) {
  if (!is_key(call.key))
    return fail(ErrorKind::kInvalid, fmt::format("\"{}\" is no key of a hook's call", call.key));
  const Lock lock(*this, call.key);
  return run_alone(call);
}

void HookRunner::stop() { stopping_ = true; }

// Each try has files of its own: a shell of one that was given up finds its fence for ever.
Expected<End> HookRunner::run_alone(const Call& call) {
  for (int attempt = 1;; ++attempt) {
    std::string base = state_directory_ + "/" + call.key;
    if (attempt > 1) base += fmt::format("~{}", attempt);  // no key has this character
    if (!fs::exists(base + ".begun")) {
      if (auto started = begin(call, base); !started) return tl::unexpected<Error>(started.error());
      return wait(call, base);
    }
    if (const auto other = begun_hook(base); !other.empty() && other != call.name) {
      return fail(
          ErrorKind::kInvalid,
          fmt::format("hook {0} was not run: its key {1} was hook {2}'s, as where controllers "
                      "lead by two copies of one journal; see to it that one of them ends "
                      "for good",
                      call.name, call.key, other));
    }
    if (has_ended(base) || !is_given_up(base) || has_ended(base)) return wait(call, base);
    if (!call.idempotent)
      return End{false, "it was interrupted; whether it took effect is not known"};
  }
}

// "Begun", and when, is on disk before anything runs.
Expected<void> HookRunner::begin(const Call& call, const std::string& base) const {
  if (names().count(call.name) == 0) {
    return fail(ErrorKind::kNotFound,
                fmt::format("there is no hook {} in {}", call.name, hook_directory_));
  }
  const std::string begun = base + ".begun";
  // Another process may be about to begin it too.
  const FileDescriptor file(open(begun.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const std::string text = fmt::format("{} {}", now_ms(), call.name);
  const bool written = file.valid() && write(file.get(), text.data(), text.size()) ==
                                           static_cast<ssize_t>(text.size());
  if (!written || fsync(file.get()) != 0 || !sync_directory(state_directory_)) {
    if (file.valid()) fs::remove(begun);
    return fail(ErrorKind::kNoCapacity,
                fmt::format("{} cannot be written; hook {} was not run", begun, call.name));
  }
  auto spawned = spawn(call, base);
  if (!spawned) fs::remove(begun);
  return spawned;
}

Expected<void> HookRunner::spawn(const Call& call, const std::string& base) const {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable)
    environment.emplace_back(*variable);
  for (const auto& [name, value] : call.environment)
    environment.push_back(fmt::format("{}={}", name, value));
  const auto pid =
      start({"/bin/sh", "-c", kShell, "sluice-hook", base, hook_directory_ + "/" + call.name},
            environment);
  if (!pid) {
    return fail(ErrorKind::kFailed,
                fmt::format("hook {} cannot be started: {}", call.name, pid.error().message));
  }
  // Until it has said who it is, nobody may take it for gone.
  while (!fs::exists(base + ".pid")) {
    if (waitpid(*pid, nullptr, WNOHANG) != 0 && !fs::exists(base + ".pid")) {
      return fail(ErrorKind::kFailed, fmt::format("hook {} ended before it began; is {} full?",
                                                  call.name, state_directory_));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return {};
}

Expected<End> HookRunner::wait(const Call& call, const std::string& base) const {
  // Since it began, whoever waited for it then.
  const std::int64_t deadline_ms =
      read_number(base + ".begun").value_or(now_ms()) + std::int64_t{call.timeout_s} * 1000;
  while (true) {
    if (const auto killed = read_file(base + ".killed"))
      return End{false, *killed + output_of(base)};
    const auto status = read_number(base + ".exit");
    const auto shell = living_shell(base);
    forget_middle(base);
    if (status) {
      if (shell) reap(*shell);
      return End{*status == 0, *status == 0
                                   ? output_of(base)
                                   : fmt::format("exit status {}: {}", *status, output_of(base))};
    }
    if (!shell) {
      // It may have ended between the two looks.
      if (fs::exists(base + ".exit")) continue;
      return End{false, "it was killed from outside\n" + output_of(base)};
    }
    reap(*shell);
    if (stopping_) {
      return fail(ErrorKind::kUnreachable,
                  fmt::format("who waited for hook {} ends; the hook goes on", call.name));
    }
    if (now_ms() >= deadline_ms) return timed_out(call, base, *shell);
    std::this_thread::sleep_for(kPoll);
  }
}

std::string bounded_output(const std::string& output) {
  if (output.size() <= kOutputBytesMax) return output;
  return printable(joined(output.substr(0, kHeadBytes), output.substr(output.size() - kTailBytes),
                          output.size()));
}

Expected<pid_t> start_detached(const std::vector<std::string>& arguments) {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable)
    environment.emplace_back(*variable);
  auto started = start(arguments, environment);
  if (started) return started;
  return fail(ErrorKind::kFailed,
              fmt::format("{} cannot be started: {}", arguments.front(), started.error().message));
}

}  // namespace sluice::hooks
