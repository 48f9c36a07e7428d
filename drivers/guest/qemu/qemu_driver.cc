// Starting, adopting and finding again of QEMU guests.
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/stat.h>
#include <system_error>

#include "drivers/guest/definition.h"
#include "drivers/guest/qemu/command_line.h"
#include "drivers/guest/qemu/movability.h"
#include "drivers/guest/qemu/qemu_guest.h"

namespace sluice::guest {
namespace qemu {
namespace {

// QEMU populates preallocated RAM before it greets.
constexpr TimeNs kStartTimeoutNs = 120 * kSecondNs;
constexpr TimeNs kConnectTimeoutNs = 5 * kSecondNs;
// An agent that starts asks its guests one after the other, and again those that were too slow.
constexpr TimeNs kFindTimeoutNs = 2 * kSecondNs;
constexpr TimeNs kQuestionTimeoutNs = 20 * kSecondNs;

// A guest's directory, removed again unless start-up succeeds.
class NewDirectory {
 public:
  explicit NewDirectory(std::string path) : path_(std::move(path)) {}
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;
  ~NewDirectory() {
    std::error_code ignored;
    if (made_ && !kept_) std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] Expected<void> make(const std::string& guest) {
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
    made_ = mkdir(path_.c_str(), 0700) == 0;
    if (made_) return {};
    if (errno == EEXIST)
      return fail(ErrorKind::kBusy, "there is a guest " + guest + " on this host already");
    return fail(ErrorKind::kFailed, "cannot make " + path_ + ": " + std::strerror(errno));
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  void keep() { kept_ = true; }

 private:
  std::string path_;
  bool made_ = false;
  bool kept_ = false;
};

// A QEMU being started, killed again unless start-up succeeds.
class NewProcess {
 public:
  explicit NewProcess(Process process) : process_(std::move(process)) {}
  NewProcess(const NewProcess&) = delete;
  NewProcess& operator=(const NewProcess&) = delete;
  ~NewProcess() {
    if (process_.pidfd() >= 0) process_.kill();
  }
  [[nodiscard]] const Process& get() const { return process_; }
  [[nodiscard]] Process take() { return std::move(process_); }

 private:
  Process process_;
};

Expected<std::string> query_machine_type(QmpClient& qmp) {
  const auto type = qmp.execute("qom-get", {{"path", "/machine"}, {"property", "type"}});
  if (!type) return tl::unexpected(type.error());
  // The concrete class, with an alias such as "q35" already resolved: "pc-q35-7.2-machine".
  std::string name = type->is_string() ? type->get<std::string>() : "";
  constexpr std::string_view kSuffix = "-machine";
  if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
  return name;
}

Expected<std::string> query_version(QmpClient& qmp) {
  const auto reply = qmp.execute("query-version");
  if (!reply) return tl::unexpected(reply.error());
  const Json numbers = reply->is_object() && reply->contains("qemu") ? (*reply)["qemu"] : Json();
  const auto number = [&](const char* key) { return static_cast<int>(number_at(numbers, key)); };
  return to_text({number("major"), number("minor"), number("micro")});
}

// What the guest needs of a CPU, unless that is known: of a twin its source has found it out, but
// for one whose agent could not yet.
Expected<void> find_cpu_level(QmpClient& qmp, const HostContext& context,
                              Description& description) {
  if (description.cpu_level != 0) return {};
  const auto level = query_cpu_level(qmp, description.definition.qemu_args, context.cpu_level);
  if (!level) return tl::unexpected(level.error());
  description.cpu_level = *level;
  return {};
}

Expected<void> check_definition(const Definition& definition) {
  if (!is_valid_guest_name(definition.name))
    return fail(ErrorKind::kInvalid, "'" + definition.name + "' cannot be a guest's name");
  if (definition.memory_bytes == 0 || definition.memory_bytes % kExtentBytes != 0) {
    return fail(ErrorKind::kInvalid,
                "the memory of guest " + definition.name + " must be a multiple of 2M");
  }
  return check_user_args(definition.qemu_args);
}

// What QEMU would say later and less clearly, or only after memory had moved.
Expected<void> check_qemu_offers(const std::string& binary, const Description& wanted) {
  const auto version_text = run_and_capture({binary, "--version"}, kQuestionTimeoutNs);
  if (!version_text) return tl::unexpected(version_text.error());
  const QemuVersion here = parse_version(*version_text);
  const QemuVersion source = parse_version(wanted.qemu_version);
  // Releases of one series keep QEMU's migration format, so that a host can also be moved off a
  // micro release.
  if (!here.at_least(source.major, source.minor)) {
    return fail(ErrorKind::kUnsupported, "QEMU " + to_text(here) + " here is older than QEMU " +
                                             wanted.qemu_version + " that runs guest " +
                                             wanted.definition.name);
  }
  const auto machines = run_and_capture({binary, "-machine", "help"}, kQuestionTimeoutNs);
  if (!machines) return tl::unexpected(machines.error());
  if (("\n" + *machines).find("\n" + wanted.machine_type + " ") == std::string::npos) {
    return fail(ErrorKind::kUnsupported,
                "QEMU " + to_text(here) + " here does not offer the machine type " +
                    wanted.machine_type + " of guest " + wanted.definition.name);
  }
  return {};
}

Expected<void> configure_twin(QmpClient& qmp, const Description& wanted) {
  std::vector<std::string> capabilities = {"x-ignore-shared", "events"};
  const auto version = query_version(qmp);
  if (!version) return tl::unexpected(version.error());
  // The twin takes the disks' locks only when it resumes; from 10.0 on QEMU does so by itself.
  if (!parse_version(*version).at_least(10, 0) &&
      has_migration_capability(qmp, "late-block-activate"))
    capabilities.emplace_back("late-block-activate");
  auto result = set_migration_capabilities(qmp, capabilities);
  if (!result) return result;
  // A twin must not draw the network's traffic to itself when its state is loaded: it may never
  // run.
  const auto quiet = qmp.execute("migrate-set-parameters", {{"announce-rounds", 0}});
  if (!quiet) return tl::unexpected(quiet.error());
  const auto machine = query_machine_type(qmp);
  if (!machine) return tl::unexpected(machine.error());
  if (*machine != wanted.machine_type) {
    return fail(ErrorKind::kUnsupported, "the twin of guest " + wanted.definition.name +
                                             " became a " + *machine + " instead of a " +
                                             wanted.machine_type);
  }
  return {};
}

// The file behind `name`, if this host runs it as QEMU.
Expected<std::string> allowed_binary(const HostContext& context, const std::string& name) {
  auto found = find_executable(name);
  if (!found) return found;
  std::error_code error;
  const std::string path = std::filesystem::canonical(*found, error).string();
  if (!error && is_allowed_binary(path, context.qemu.binaries)) return path;
  return fail(ErrorKind::kPermission, (error ? *found : path) +
                                          " is none of the QEMU binaries that " + context.host +
                                          " runs; name it under [qemu] binaries in its agent.toml");
}

Expected<void> check_arrival(const HostContext& context, const Description& description) {
  const Definition& definition = description.definition;
  if (context.cpu_level != 0 && description.cpu_level > context.cpu_level) {
    return fail(ErrorKind::kUnsupported,
                "guest " + definition.name + " was started on a CPU of level x86-64-v" +
                    std::to_string(description.cpu_level) + " and needs it; " + context.host +
                    " has x86-64-v" + std::to_string(context.cpu_level));
  }
  if (context.qemu.arrivals_may_run_programs) return {};
  const auto option = program_option(definition.qemu_args);
  if (!option) return {};
  return fail(ErrorKind::kPermission,
              context.host + " takes no guest whose QEMU may run programs: " + *option +
                  "; to allow it, write [qemu] arrivals_may_run_programs = true in its agent.toml");
}

// Starts QEMU as a new guest or, with `incoming`, as the twin of one that `record` describes.
Expected<std::unique_ptr<Guest>> launch(const HostContext& context, Record record, bool incoming) {
  Description& description = record.description;
  const Definition& definition = description.definition;
  if (incoming) {
    const auto acceptable = check_arrival(context, description);
    if (!acceptable) return tl::unexpected(acceptable.error());
  }
  const auto binary = allowed_binary(context, definition.qemu_binary);
  if (!binary) return tl::unexpected(binary.error());
  if (incoming) {
    const auto offered = check_qemu_offers(*binary, description);
    if (!offered) return tl::unexpected(offered.error());
  }

  NewDirectory directory(guest_directory(context, definition.name));
  auto result = directory.make(definition.name);
  if (!result) return tl::unexpected(result.error());
  record.qmp_socket = directory.path() + "/qmp.sock";
  // Written before QEMU exists: an agent that dies right after spawning it leaves a trace to find
  // it by.
  result = write_record(directory.path(), record);
  if (!result) return tl::unexpected(result.error());

  auto memory = make_ram(definition.name, definition.memory_bytes);
  if (!memory) return tl::unexpected(memory.error());
  const std::string log_path = directory.path() + "/qemu.log";
  const FileDescriptor log(open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  LaunchPlan plan{*binary,           description.ram_backend_id, description.machine_type,
                  record.qmp_socket, kFirstInheritedFd,          incoming};
  auto spawned = Process::spawn({build_argv(definition, plan), log.get(), {memory->get()}});
  if (!spawned) return tl::unexpected(spawned.error());
  NewProcess process(std::move(*spawned));
  // At once: QEMU may not answer for minutes, and an agent that dies meanwhile is followed by one
  // that must end it.
  record.pid = process.get().pid();
  record.start_time = process.get().start_time();
  result = write_record(directory.path(), record);
  if (!result) return tl::unexpected(result.error());

  std::optional<Warden> warden;
  if (incoming) {
    auto watching = Warden::watch(process.get(), directory.path());
    if (!watching) return tl::unexpected(watching.error());
    warden.emplace(std::move(*watching));
  }
  // Adds QEMU's last words to an error.
  const auto explain = [&](Error error) {
    const std::string line =
        process.get().wait_exit(100 * kMillisecondNs) ? last_log_lines(log_path) : "";
    if (!line.empty()) error.message += ": " + line;
    // QEMU 7.2 says that the machine type is wrong, but not which one that was.
    if (line.find("machine type") != std::string::npos)
      error.message += " (-machine " + machine_argument(definition.qemu_args) + ")";
    return tl::unexpected(error);
  };
  auto qmp = QmpClient::connect(record.qmp_socket, definition.name, kStartTimeoutNs,
                                process.get().pidfd());
  if (!qmp) return explain(qmp.error());
  if (incoming) {
    result = configure_twin(**qmp, description);
    if (!result) return explain(result.error());
  } else {
    auto machine = query_machine_type(**qmp);
    if (!machine) return explain(machine.error());
    description.machine_type = *machine;
  }
  result = find_cpu_level(**qmp, context, description);
  if (!result) return explain(result.error());
  const auto version = query_version(**qmp);
  if (!version) return explain(version.error());
  description.qemu_version = *version;
  auto ram = find_ram(process.get().pid(), definition.memory_bytes);
  if (!ram) return explain(ram.error());
  FileDescriptor state_input;
  if (incoming) {
    auto listening = start_incoming(**qmp, *version);
    if (!listening) return explain(listening.error());
    state_input = std::move(*listening);
  }

  record.phase = incoming ? RecordedPhase::kIncoming : RecordedPhase::kRunning;
  result = write_record(directory.path(), record);
  if (!result) return tl::unexpected(result.error());
  directory.keep();
  return std::make_unique<QemuGuest>(GuestParts{
      directory.path(), std::move(record), process.take(), std::move(*qmp), std::move(*ram),
      std::move(warden), std::move(state_input), incoming ? Phase::kIncoming : Phase::kRunning});
}

// What a record and a description can hold: both are JSON.
bool is_utf8(const std::string& text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

Expected<std::vector<std::string>> read_command_line(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
  std::vector<std::string> args;
  for (std::string argument; std::getline(file, argument, '\0');) args.push_back(argument);
  if (args.empty()) {
    return fail(ErrorKind::kPermission,
                "cannot read the command line of process " + std::to_string(pid));
  }
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (!is_utf8(args[i])) {
      return fail(ErrorKind::kUnsupported, "argument " + std::to_string(i) + " of process " +
                                               std::to_string(pid) +
                                               " is not UTF-8; rename what it names");
    }
  }
  args.erase(args.begin());
  return args;
}

Expected<Definition> definition_of_running(QmpClient& qmp, pid_t pid) {
  Definition definition;
  definition.driver = "qemu";
  const auto name = qmp.execute("query-name");
  if (!name) return tl::unexpected(name.error());
  definition.name = text_at(*name, "name");
  if (definition.name.empty()) definition.name = "qemu-" + std::to_string(pid);
  if (!is_valid_guest_name(definition.name)) {
    return fail(
        ErrorKind::kUnsupported,
        "the name '" + definition.name + "' of the running guest is not made of a-z, 0-9 and -");
  }

  const auto memory = qmp.execute("query-memory-size-summary");
  if (!memory) return tl::unexpected(memory.error());
  definition.memory_bytes = number_at(*memory, "base-memory");
  if (definition.memory_bytes == 0 || definition.memory_bytes % kExtentBytes != 0) {
    return fail(ErrorKind::kUnsupported,
                "the memory of guest " + definition.name + " is not a multiple of 2M");
  }

  std::error_code error;
  definition.qemu_binary =
      std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", error).string();
  if (error)
    return fail(ErrorKind::kPermission, "cannot see the program of process " + std::to_string(pid));
  // After an upgrade the kernel says that the running program's file was replaced; the twin runs
  // the new one.
  constexpr std::string_view kDeleted = " (deleted)";
  if (definition.qemu_binary.ends_with(kDeleted))
    definition.qemu_binary.resize(definition.qemu_binary.size() - kDeleted.size());
  const auto args = read_command_line(pid);
  if (!args) return tl::unexpected(args.error());
  auto kept = strip_owned_args(*args);
  if (!kept) return tl::unexpected(kept.error());
  definition.qemu_args = std::move(*kept);
  return definition;
}

// A guest that stands still may be one half of a handover, of which the other half runs.
Expected<void> check_running(QmpClient& qmp, const std::string& qmp_socket) {
  const auto status = qmp.execute("query-status");
  if (!status) return tl::unexpected(status.error());
  const std::string state = text_at(*status, "status");
  if (state == "running") return {};
  return fail(ErrorKind::kUnsupported, "the guest of " + qmp_socket +
                                           " does not run (QEMU says \"" + state +
                                           "\"): only one that runs is adopted, since one that was "
                                           "handed over may run on another host");
}

Expected<std::unique_ptr<Guest>> adopt_running(const HostContext& context,
                                               const std::string& qmp_socket) {
  auto qmp = QmpClient::connect(qmp_socket, qmp_socket, kConnectTimeoutNs);
  if (!qmp) return tl::unexpected(qmp.error());
  auto process = Process::open((*qmp)->peer_pid(), 0);
  if (!process) return tl::unexpected(process.error());
  if (auto running = check_running(**qmp, qmp_socket); !running)
    return tl::unexpected(running.error());
  auto definition = definition_of_running(**qmp, process->pid());
  if (!definition) return tl::unexpected(definition.error());

  Record record;
  record.phase = RecordedPhase::kRunning;
  record.pid = process->pid();
  record.start_time = process->start_time();
  record.qmp_socket = qmp_socket;
  record.description.definition = std::move(*definition);
  record.description.adopted = true;
  const auto machine = query_machine_type(**qmp);
  const auto version = machine ? query_version(**qmp) : machine;
  if (!version) return tl::unexpected(version.error());
  record.description.machine_type = *machine;
  record.description.qemu_version = *version;
  const auto levelled = find_cpu_level(**qmp, context, record.description);
  if (!levelled) return tl::unexpected(levelled.error());
  // A guest whose RAM cannot be shared is adopted too: it can be seen and stopped. check_movable()
  // says why not more.
  Ram ram;
  const std::string& name = record.description.definition.name;
  const auto backend = query_ram_backend(**qmp, name);
  if (backend) record.description.ram_backend_id = backend->id;
  if (backend && backend->shared) {
    auto found = find_ram(record.pid, record.description.definition.memory_bytes);
    if (!found) return tl::unexpected(found.error());
    ram = std::move(*found);
  }
  NewDirectory directory(guest_directory(context, name));
  auto result = directory.make(name);
  if (result) result = write_record(directory.path(), record);
  if (!result) return tl::unexpected(result.error());
  directory.keep();
  auto guest = std::make_unique<QemuGuest>(
      GuestParts{directory.path(), std::move(record), std::move(*process), std::move(*qmp),
                 std::move(ram), std::nullopt, FileDescriptor(), Phase::kRunning});
  (void)guest->phase();
  return guest;
}

void remove_directory(const std::string& directory) {
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
}

tl::unexpected<Error> gone(const std::string& directory) {
  return fail(ErrorKind::kNotFound, "nothing is left of the guest of " + directory);
}

// Ends a QEMU that must not have survived its agent; its number is unknown if the agent died while
// starting it. kNotFound once it has ended; after any other error it may be there.
tl::unexpected<Error> end_leftover(const std::string& directory, const Record& record) {
  pid_t pid = record.pid;
  if (pid == 0) {
    const auto qmp = QmpClient::connect(record.qmp_socket, record.description.definition.name,
                                        kConnectTimeoutNs);
    if (!qmp && QmpClient::may_be_listened_to(record.qmp_socket))
      return fail(ErrorKind::kUnreachable, qmp.error().message);
    if (qmp) pid = (*qmp)->peer_pid();
  }
  const auto process = Process::open(pid, record.start_time);
  if (process) {
    process->kill();
    if (process->alive()) {
      return fail(ErrorKind::kUnreachable, "process " + std::to_string(pid) + " of " + directory +
                                               " was killed and does not end");
    }
  }
  if (!process && process.error().kind != ErrorKind::kNotFound)
    return tl::unexpected(process.error());
  remove_directory(directory);
  return gone(directory);
}

// A directory without a record, which is the first of its files: an agent died while making it, or
// while removing it. Unless there is a QEMU all the same.
tl::unexpected<Error> clear_unrecorded(const std::string& directory) {
  if (!QmpClient::may_be_listened_to(directory + "/qmp.sock")) {
    remove_directory(directory);
    return gone(directory);
  }
  return fail(ErrorKind::kFailed, directory +
                                      "/guest.json is missing, but a QEMU listens on qmp.sock "
                                      "there: end that QEMU");
}

// The guest of a directory. kNotFound if it has gone, or had to go; after any other error it may be
// there.
Expected<std::unique_ptr<Guest>> find_in(const HostContext& context, const std::string& directory) {
  auto record = read_record(directory);
  if (!record) {
    if (record.error().kind == ErrorKind::kNotFound) return clear_unrecorded(directory);
    return fail(ErrorKind::kFailed, record.error().message +
                                        "; make it readable or, once its QEMU has ended, remove " +
                                        directory);
  }
  if (record->phase == RecordedPhase::kStarting || record->phase == RecordedPhase::kIncoming)
    return end_leftover(directory, *record);
  auto process = Process::open(record->pid, record->start_time);
  if (!process) {
    if (process.error().kind != ErrorKind::kNotFound) return tl::unexpected(process.error());
    remove_directory(directory);
    return gone(directory);
  }
  auto qmp =
      QmpClient::connect(record->qmp_socket, record->description.definition.name, kFindTimeoutNs);
  if (!qmp) return fail(ErrorKind::kUnreachable, qmp.error().message);
  if (const std::string& name = record->description.definition.name;
      name != std::filesystem::path(directory).filename()) {
    return fail(ErrorKind::kFailed,
                directory + " holds guest " + name + ": give it that name again");
  }
  // An agent of an earlier version did not record it.
  if (record->description.cpu_level == 0) {
    (void)find_cpu_level(**qmp, context, record->description);
    if (record->description.cpu_level != 0) (void)write_record(directory, *record);
  }
  Ram ram;
  if (auto found = find_ram(record->pid, record->description.definition.memory_bytes))
    ram = std::move(*found);
  auto guest = std::make_unique<QemuGuest>(
      GuestParts{directory, std::move(*record), std::move(*process), std::move(*qmp),
                 std::move(ram), std::nullopt, FileDescriptor(), Phase::kRunning});
  if (auto settled = guest->settle_after_restart(); !settled)
    return fail(ErrorKind::kUnreachable, settled.error().message);
  return guest;
}

// What can be said of a guest that does not say it itself.
SilentGuest describe_silent(const std::string& directory, const Error& error) {
  SilentGuest silent;
  silent.name = std::filesystem::path(directory).filename().string();
  silent.reason = error.message;
  if (const auto record = read_record(directory)) {
    silent.memory_bytes = record->description.definition.memory_bytes;
    silent.pid = record->pid;
  }
  return silent;
}

class QemuDriver final : public Driver {
 public:
  explicit QemuDriver(HostContext context) : context_(std::move(context)) {}

  Expected<std::unique_ptr<Guest>> start(const Definition& definition) override {
    const auto valid = check_definition(definition);
    if (!valid) return tl::unexpected(valid.error());
    Record record;
    record.description.definition = definition;
    record.description.ram_backend_id = kRamBackendId;
    return launch(context_, std::move(record), /*incoming=*/false);
  }

  Expected<std::unique_ptr<Guest>> prepare_incoming(const Description& description) override {
    const auto valid = check_definition(description.definition);
    if (!valid) return tl::unexpected(valid.error());
    Record record;
    record.description = description;
    record.description.adopted = false;
    return launch(context_, std::move(record), /*incoming=*/true);
  }

  Expected<std::unique_ptr<Guest>> adopt(const std::string& qmp_socket) override {
    std::error_code error;
    const std::string absolute = std::filesystem::absolute(qmp_socket, error).string();
    if (error) return fail(ErrorKind::kInvalid, "cannot resolve the path " + qmp_socket);
    return adopt_running(context_, absolute);
  }

  SurvivingGuests rediscover() override {
    SurvivingGuests found;
    const std::filesystem::path guests = guests_directory(context_);
    if (!std::filesystem::exists(guests)) return found;
    std::vector<std::string> directories;
    for (const auto& entry : std::filesystem::directory_iterator(guests))
      directories.push_back(entry.path().string());
    for (const auto& directory : directories) {
      auto guest = find_in(context_, directory);
      if (guest) {
        found.guests.push_back(std::move(*guest));
      } else if (guest.error().kind != ErrorKind::kNotFound) {
        found.silent.push_back(describe_silent(directory, guest.error()));
      }
    }
    return found;
  }

  Expected<std::unique_ptr<Guest>> find_again(const std::string& name) override {
    const std::string directory = guest_directory(context_, name);
    std::error_code error;
    if (!std::filesystem::exists(directory, error) && !error) return gone(directory);
    return find_in(context_, directory);
  }

 private:
  HostContext context_;
};

}  // namespace
}  // namespace qemu

std::unique_ptr<Driver> make_qemu_driver(const HostContext& context) {
  return std::make_unique<qemu::QemuDriver>(context);
}

}  // namespace sluice::guest
