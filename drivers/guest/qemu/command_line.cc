#include "drivers/guest/qemu/command_line.h"

#include <algorithm>
#include <array>
#include <fnmatch.h>

namespace sluice::guest::qemu {
namespace {

// QEMU's options that take no value (qemu-options.hx, HAS_ARG not set); every other one takes the
// next argument.
constexpr std::array<std::string_view, 31> kFlags = {"h",
                                                     "help",
                                                     "version",
                                                     "preconfig",
                                                     "mem-prealloc",
                                                     "portrait",
                                                     "full-screen",
                                                     "no-quit",
                                                     "alt-grab",
                                                     "ctrl-grab",
                                                     "nographic",
                                                     "curses",
                                                     "sdl",
                                                     "snapshot",
                                                     "no-fd-bootchk",
                                                     "no-acpi",
                                                     "no-hpet",
                                                     "win2k-hack",
                                                     "singlestep",
                                                     "S",
                                                     "daemonize",
                                                     "no-reboot",
                                                     "no-shutdown",
                                                     "enable-kvm",
                                                     "nodefaults",
                                                     "no-user-config",
                                                     "nouserconfig",
                                                     "usb",
                                                     "only-migratable",
                                                     "s",
                                                     "enable-sync-profile"};

// Options that the agent owns, whatever their value.
constexpr std::array<std::string_view, 12> kOwned = {
    "m", "mem-path",  "mem-prealloc", "incoming", "qmp",        "qmp-pretty",
    "S", "daemonize", "preconfig",    "loadvm",   "readconfig", "pidfile"};

template <std::size_t size>
bool contains(const std::array<std::string_view, size>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

struct Option {
  std::string_view name;  // without dashes; empty for a disk image given without an option
  std::string_view value;
  std::size_t index = 0;  // in the arguments
  std::size_t count = 1;  // of arguments it takes up
};

std::vector<Option> parse_options(const std::vector<std::string>& args) {
  std::vector<Option> options;
  for (std::size_t i = 0; i < args.size();) {
    const std::string_view text = args[i];
    Option option{{}, text, i, 1};
    if (text.size() > 1 && text.front() == '-') {
      option.name = text.substr(text.starts_with("--") ? 2 : 1);
      option.value = {};
      if (!contains(kFlags, option.name) && i + 1 < args.size()) {
        option.value = args[i + 1];
        option.count = 2;
      }
    }
    options.push_back(option);
    i += option.count;
  }
  return options;
}

// The parts of "a=1,b=x,,y": commas are doubled inside values.
std::vector<std::string_view> split_properties(std::string_view text) {
  std::vector<std::string_view> parts;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] != ',') continue;
    if (i + 1 < text.size() && text[i + 1] == ',') {
      ++i;
      continue;
    }
    parts.push_back(text.substr(start, i - start));
    start = i + 1;
  }
  return parts;
}

// The value of property `key`, if the option has it.
std::optional<std::string_view> property(std::string_view text, std::string_view key) {
  for (const std::string_view part : split_properties(text)) {
    if (part.size() > key.size() && part.starts_with(key) && part[key.size()] == '=')
      return part.substr(key.size() + 1);
  }
  return std::nullopt;
}

bool is_machine(const Option& option) { return option.name == "machine" || option.name == "M"; }

bool is_memory_backend(const Option& option) {
  return option.name == "object" && option.value.find("memory-backend-") != std::string_view::npos;
}

bool is_control_monitor(const Option& option) {
  return option.name == "mon" && property(option.value, "mode") == "control";
}

// Why an argument cannot be repeated on another host; empty if it can.
std::string unrepeatable(const Option& option) {
  const std::string shown = "-" + std::string(option.name) + " " + std::string(option.value);
  if (option.name == "add-fd")
    return "'" + shown + "' hands over a descriptor that another host does not have";
  if (option.name == "netdev" || option.name == "chardev" || option.name == "net") {
    for (const std::string_view key : {"fd", "fds", "vhostfd", "vhostfds"}) {
      if (property(option.value, key))
        return "'" + shown + "' uses a descriptor that another host does not have";
    }
  }
  if (option.name == "numa" && (property(option.value, "memdev") || property(option.value, "mem")))
    return "'" + shown + "' gives the guest RAM of its own, but a guest must have one RAM backend";
  return {};
}

// Options that run a program, load code or open QEMU's monitor: -gdb takes the monitor's commands
// too, semihosting gives the guest system(3).
constexpr std::array<std::string_view, 10> kProgramOptions = {
    "plugin",   "gdb", "s",          "semihosting", "semihosting-config",
    "incoming", "qmp", "qmp-pretty", "readconfig",  "preconfig"};

bool is_network_chardev(std::string_view value) {
  const std::string_view kind = split_properties(value).front();
  constexpr std::array<std::string_view, 5> kNetwork = {
      "tcp:", "telnet:", "tn3270:", "udp:", "websocket:"};
  const bool old_style = std::any_of(kNetwork.begin(), kNetwork.end(),
                                     [&](std::string_view name) { return kind.starts_with(name); });
  return old_style || kind == "udp" || kind == "backend=udp" || property(value, "port") ||
         property(value, "host");
}

bool opens_network_monitor(const Option& option, const std::vector<Option>& options) {
  if (option.name == "monitor" && is_network_chardev(option.value)) return true;
  // A monitor may share any of these with a serial port: mon:tcp:...
  const std::string_view shared = "mon:";
  if (option.value.starts_with(shared) && is_network_chardev(option.value.substr(shared.size())))
    return true;
  if (option.name != "mon" && option.name != "monitor") return false;
  const std::string_view first = split_properties(option.value).front();
  const std::string_view id = property(option.value, "chardev")
                                  .value_or(first.starts_with("chardev:")
                                                ? first.substr(std::string_view("chardev:").size())
                                                : first);
  return std::any_of(options.begin(), options.end(), [&](const Option& chardev) {
    return chardev.name == "chardev" && property(chardev.value, "id") == id &&
           is_network_chardev(chardev.value);
  });
}

bool runs_program(const Option& option) {
  if (contains(kProgramOptions, option.name)) return true;
  if (option.name != "netdev" && option.name != "net" && option.name != "nic") return false;
  // JSON can spell a key in many ways.
  if (option.value.starts_with("{") && option.value.find('\\') != std::string_view::npos)
    return true;
  for (const std::string_view key : {"script", "downscript", "helper", "smb", "guestfwd"}) {
    if (option.value.starts_with("{") && option.value.find(key) != std::string_view::npos)
      return true;
    const auto value = property(option.value, key);
    if (value && *value != "no") return true;
  }
  return false;
}

// As parse_options(), but whatever looks like an option is one: what this QEMU takes for a flag or
// a value, another version may not.
std::vector<Option> possible_options(const std::vector<std::string>& args) {
  std::vector<Option> options;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string_view text = args[i];
    if (text.size() < 2 || text.front() != '-') continue;
    const std::string_view value = i + 1 < args.size() ? std::string_view(args[i + 1]) : "";
    options.push_back({text.substr(text.starts_with("--") ? 2 : 1), value, i, 2});
  }
  return options;
}

}  // namespace

std::optional<std::string> program_option(const std::vector<std::string>& args) {
  const std::vector<Option> options = possible_options(args);
  for (const Option& option : options) {
    if (!runs_program(option) && !opens_network_monitor(option, options)) continue;
    return "-" + std::string(option.name) +
           (option.value.empty() ? "" : " " + std::string(option.value));
  }
  return std::nullopt;
}

bool is_allowed_binary(const std::string& path, const std::vector<std::string>& allowed) {
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME | FNM_NOESCAPE) == 0;
  });
}

std::string machine_argument(const std::vector<std::string>& args) {
  std::string merged;
  for (const Option& option : parse_options(args)) {
    if (is_machine(option)) merged += (merged.empty() ? "" : ",") + std::string(option.value);
  }
  return merged;
}

Expected<void> check_user_args(const std::vector<std::string>& args) {
  const auto refuse = [](const Option& option, const std::string& remedy) {
    return fail(ErrorKind::kInvalid,
                "QEMU argument -" + std::string(option.name) +
                    (option.value.empty() ? "" : " " + std::string(option.value)) +
                    " belongs to the agent; " + remedy);
  };
  for (const Option& option : parse_options(args)) {
    if (option.name == "m") return refuse(option, "write the size as 'memory' in the guest file");
    if (contains(kOwned, option.name) || is_control_monitor(option))
      return refuse(option, "remove it");
    if (is_memory_backend(option))
      return refuse(option, "remove it: the agent makes the guest's RAM");
    if (is_machine(option) && property(option.value, "memory-backend"))
      return refuse(option, "remove 'memory-backend' from it");
    const std::string reason = unrepeatable(option);
    if (!reason.empty()) return fail(ErrorKind::kInvalid, "QEMU argument " + reason);
  }
  return {};
}

std::vector<std::string> build_argv(const Definition& definition, const LaunchPlan& plan) {
  const std::string size = std::to_string(definition.memory_bytes >> 20U) + "M";
  std::vector<std::string> argv = {plan.binary_path};
  argv.insert(argv.end(), definition.qemu_args.begin(), definition.qemu_args.end());

  const std::vector<Option> options = parse_options(definition.qemu_args);
  const auto has = [&](std::initializer_list<std::string_view> names) {
    return std::any_of(options.begin(), options.end(), [&](const Option& option) {
      return std::find(names.begin(), names.end(), option.name) != names.end();
    });
  };
  if (!has({"name"})) argv.insert(argv.end(), {"-name", "guest=" + definition.name});
  // Without this QEMU opens a window or a VNC port, and the second guest of a host finds the port
  // taken.
  if (!has({"display", "nographic", "vnc", "spice", "curses", "sdl"}))
    argv.insert(argv.end(), {"-display", "none"});

  argv.insert(argv.end(),
              {"-object", "memory-backend-file,id=" + plan.ram_backend_id + ",size=" + size +
                              ",share=on,mem-path=/proc/self/fd/" + std::to_string(plan.ram_fd)});
  // QEMU merges several -machine; the last type wins.
  argv.insert(argv.end(),
              {"-machine", (plan.machine_type.empty() ? "" : "type=" + plan.machine_type + ",") +
                               "memory-backend=" + plan.ram_backend_id});
  argv.insert(argv.end(), {"-m", "size=" + size});
  argv.insert(argv.end(), {"-qmp", "unix:" + plan.qmp_socket + ",server=on,wait=off"});
  if (plan.incoming) argv.insert(argv.end(), {"-S", "-incoming", "defer"});
  return argv;
}

std::string cpu_argument(const std::vector<std::string>& args) {
  std::string value;
  for (const Option& option : parse_options(args)) {
    if (option.name == "cpu") value = option.value;
  }
  return value;
}

Expected<std::vector<std::string>> strip_owned_args(const std::vector<std::string>& args) {
  const std::vector<Option> options = parse_options(args);
  std::vector<std::string> control_chardevs;
  for (const Option& option : options) {
    const std::string reason = unrepeatable(option);
    if (!reason.empty())
      return fail(ErrorKind::kUnsupported, "the guest's QEMU argument " + reason);
    if (option.name == "m" && property(option.value, "maxmem")) {
      return fail(ErrorKind::kUnsupported,
                  "the guest has hot-pluggable memory (-m maxmem=), which is not supported");
    }
    if (option.name == "readconfig") {
      return fail(ErrorKind::kUnsupported,
                  "the guest was started with -readconfig, so its devices cannot be known");
    }
    if (is_control_monitor(option)) {
      control_chardevs.emplace_back(
          property(option.value, "chardev").value_or(split_properties(option.value).front()));
    }
  }

  std::vector<std::string> kept;
  for (const Option& option : options) {
    if (contains(kOwned, option.name) || is_memory_backend(option) || is_control_monitor(option))
      continue;
    if (option.name == "chardev") {
      const auto id = property(option.value, "id");
      if (id && std::find(control_chardevs.begin(), control_chardevs.end(), *id) !=
                    control_chardevs.end())
        continue;
    }
    for (std::size_t i = 0; i < option.count; ++i) kept.push_back(args[option.index + i]);
    if (!is_machine(option)) continue;
    std::string properties;
    for (const std::string_view part : split_properties(option.value)) {
      if (part.starts_with("memory-backend=")) continue;
      properties += (properties.empty() ? "" : ",") + std::string(part);
    }
    kept.back() = properties;
    if (properties.empty()) kept.resize(kept.size() - 2);
  }
  return kept;
}

}  // namespace sluice::guest::qemu
