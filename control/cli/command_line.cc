#include "control/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "control/cli/commands.h"
#include "control/cli/quantity.h"
#include "control/model/version.h"
#include "dataplane/base/parse_size.h"
#include "dataplane/base/units.h"

namespace sluice::cli {
namespace {

using Command = std::function<int(Fleet&, const Terminal&)>;

// What the arguments ask for; the option callbacks below fill it in.
struct Parsed {
  std::optional<std::string> config;
  bool json = false;
  std::string guest;
  std::string host;
  std::string file;
  DoctorOptions doctor;
  MigrateOptions migrate;
  BenchOptions bench;
  PkiOptions pki;
  PatchPlanOptions patch_plan;
  DrainOptions drain;
  std::string run;
  bool destination_is_gone = false;
  bool watch = false;
  bool all = false;
  Command command;
  // Instead of `command`: what needs no host.
  std::function<int(const Terminal&)> local;
};

void add_bytes(CLI::App& app, const char* name, std::uint64_t& bytes, const char* help) {
  app.add_option_function<std::string>(
         name,
         [name, &bytes](const std::string& text) {
           const auto parsed = parse_bytes(text);
           if (!parsed) {
             throw CLI::ValidationError(name, "\"" + text +
                                                  "\" is no size; write a whole number with K, M, "
                                                  "G or T, such as 200M");
           }
           bytes = *parsed;
         },
         help)
      ->type_name("SIZE");
}

void add_lists(CLI::App& app, Parsed& parsed) {
  app.add_subcommand("hosts", "Lists the hosts with what they offer")->callback([&parsed] {
    parsed.command = [](Fleet& fleet, const Terminal& terminal) {
      return list_hosts(fleet, terminal);
    };
  });
  app.add_subcommand("guests", "Lists the guests with where they run")->callback([&parsed] {
    parsed.command = [](Fleet& fleet, const Terminal& terminal) {
      return list_guests(fleet, terminal);
    };
  });
}

void add_doctor(CLI::App& app, Parsed& parsed) {
  CLI::App& doctor = *app.add_subcommand(
      "doctor", "Says what is in use on hosts, what to mend, and what arrives between two of them");
  doctor.add_option("--on", parsed.doctor.on, "Only this host; default: all")->type_name("HOST");
  doctor
      .add_option("--peer", parsed.doctor.peer,
                  "Probe the paths to this host and back; no guest is needed, none is touched")
      ->type_name("HOST");
  doctor.callback([&parsed] {
    if (!parsed.doctor.on.empty() && parsed.doctor.on == parsed.doctor.peer)
      throw CLI::ValidationError("--peer", "name another host than --on");
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return examine(fleet, terminal, parsed.doctor);
    };
  });
}

constexpr const char* kDestinationIsGoneHelp =
    "The guest waits for the word of a host that never comes back; if it does, the guest may run "
    "twice: see docs/recovery.md";

void add_guest(CLI::App& app, Parsed& parsed) {
  CLI::App& guest = *app.add_subcommand("guest", "Starts, stops, resumes and adopts guests");
  guest.require_subcommand(1);

  CLI::App& start = *guest.add_subcommand("start", "Starts a guest from a guest file");
  start.add_option("FILE", parsed.file, "Guest file, see docs/guests.md")->required();
  start.add_option("--on", parsed.host, "Host that is to run it")->required()->type_name("HOST");
  start.callback([&parsed] {
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return start_guest(fleet, terminal, parsed.file, parsed.host);
    };
  });

  CLI::App& stop = *guest.add_subcommand("stop", "Ends a guest for good");
  stop.add_option("NAME", parsed.guest, "The guest")->required();
  stop.add_flag("--destination-is-gone", parsed.destination_is_gone, kDestinationIsGoneHelp);
  stop.callback([&parsed] {
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return stop_guest(fleet, terminal, parsed.guest, parsed.destination_is_gone);
    };
  });

  CLI::App& resume = *guest.add_subcommand(
      "resume", "Lets a guest in state \"forgotten\" run on as it stood; see docs/recovery.md");
  resume.add_option("NAME", parsed.guest, "The guest")->required();
  resume.add_flag("--destination-is-gone", parsed.destination_is_gone, kDestinationIsGoneHelp);
  resume.callback([&parsed] {
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return resume_guest(fleet, terminal, parsed.guest, parsed.destination_is_gone);
    };
  });

  CLI::App& adopt = *guest.add_subcommand("adopt", "Takes over a QEMU that runs already");
  adopt.add_option("--on", parsed.host, "Host that it runs on")->required()->type_name("HOST");
  adopt.add_option("--qmp", parsed.file, "Its QMP socket")->required()->type_name("SOCKET");
  adopt.callback([&parsed] {
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return adopt_guest(fleet, terminal, parsed.file, parsed.host);
    };
  });
}

// --downtime-limit, --max-iterations, --mode, --proof and --plaintext mean something only when a
// migration begins.
void require_destination(const CLI::App& migrate, const MigrateOptions& options) {
  if (!options.request.to().empty()) return;
  if (!options.watch) {
    throw CLI::RequiredError("--to HOST (or --watch, to follow a migration that is under way)");
  }
  for (const char* const name :
       {"--downtime-limit", "--max-iterations", "--mode", "--proof", "--plaintext"}) {
    if (migrate.count(name) > 0) throw CLI::ValidationError(name, "needs --to HOST");
  }
}

template <typename Mode>
void add_choice(CLI::App& app, const char* name, const std::map<std::string, Mode>& choices,
                const std::function<void(Mode)>& set, const char* help) {
  app.add_option_function<std::string>(
         name, [choices, set](const std::string& text) { set(choices.at(text)); }, help)
      ->check(CLI::IsMember(choices));
}

constexpr const char* kPlaintextHelp =
    "Do not encrypt the frames; only where both hosts' configuration allows it";

void add_migrate(CLI::App& app, Parsed& parsed) {
  MigrateOptions& options = parsed.migrate;
  v1::MigrateRequest& request = options.request;
  request.set_mode(v1::MIGRATION_MODE_LIVE);
  request.set_proof(v1::PROOF_MODE_SENT);

  CLI::App& migrate_app =
      *app.add_subcommand("migrate", "Moves a running guest to another host, or follows its move");
  migrate_app.add_option("GUEST", *request.mutable_guest(), "The guest")->required();
  migrate_app.add_option("--to", *request.mutable_to(), "Host that it is to move to")
      ->type_name("HOST");
  migrate_app
      .add_option_function<std::string>(
          "--downtime-limit",
          [&request](const std::string& text) {
            const auto limit_us = parse_duration_us(text);
            if (!limit_us || *limit_us == 0) {
              throw CLI::ValidationError("--downtime-limit",
                                         "\"" + text +
                                             "\" is no duration; write a "
                                             "number with us, ms, s or m, such as 50ms");
            }
            request.set_downtime_limit_us(*limit_us);
          },
          "How long the guest may stand still; default 50ms")
      ->type_name("DURATION");
  migrate_app
      .add_option_function<std::uint32_t>(
          "--max-iterations",
          [&request](std::uint32_t count) { request.set_max_iterations(count); },
          "Passes of pre-copy at most; default 10")
      ->check(CLI::Range(1, 1000));
  add_choice<v1::MigrationMode>(
      migrate_app, "--mode",
      {{"live", v1::MIGRATION_MODE_LIVE}, {"quick", v1::MIGRATION_MODE_QUICK}},
      [&request](v1::MigrationMode mode) { request.set_mode(mode); },
      "live: copy while it runs; quick: stop, move, resume");
  add_choice<v1::ProofMode>(
      migrate_app, "--proof", {{"sent", v1::PROOF_MODE_SENT}, {"full", v1::PROOF_MODE_FULL}},
      [&request](v1::ProofMode proof) { request.set_proof(proof); },
      "sent: hashes kept while streaming; full: all memory hashed again at the stop");
  migrate_app.add_flag_callback(
      "--plaintext", [&request] { request.set_plaintext(true); }, kPlaintextHelp);
  migrate_app.add_flag("--watch", options.watch,
                       "Show progress; without --to: follow a move that is under way");
  migrate_app.callback([&parsed, &migrate_app] {
    require_destination(migrate_app, parsed.migrate);
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return migrate(fleet, terminal, parsed.migrate);
    };
  });
}

void add_bench(CLI::App& app, Parsed& parsed) {
  BenchOptions& options = parsed.bench;
  CLI::App& bench_app =
      *app.add_subcommand("bench", "Moves a memory guest to and fro, measures and verifies it");
  bench_app.add_option("--from", options.from, "Host that it starts on")
      ->required()
      ->type_name("HOST");
  bench_app.add_option("--to", options.to, "The other host")->required()->type_name("HOST");
  add_bytes(bench_app, "--size", options.memory_bytes, "Its memory, a multiple of 2M");
  bench_app.get_option("--size")->required();
  add_bytes(bench_app, "--dirty-rate", options.dirty_bytes_per_second,
            "Bytes it rewrites a second; default 0");
  bench_app
      .add_option("--pattern", options.pattern,
                  "Where it writes; hotset: 90 % to 10 % of its pages")
      ->check(CLI::IsMember({"uniform", "hotset"}));
  bench_app
      .add_option("--time", options.seconds,
                  "Seconds after which no further move starts; default 10")
      ->check(CLI::Range(0.0, 86400.0))
      ->type_name("SECONDS");
  add_choice<v1::ProofMode>(
      bench_app, "--proof", {{"sent", v1::PROOF_MODE_SENT}, {"full", v1::PROOF_MODE_FULL}},
      [&options](v1::ProofMode proof) { options.proof = proof; }, "As for migrate");
  bench_app.add_flag("--plaintext", options.plaintext, kPlaintextHelp);
  bench_app.callback([&parsed] {
    const std::uint64_t bytes = parsed.bench.memory_bytes;
    if (bytes == 0 || bytes % kExtentBytes != 0)
      throw CLI::ValidationError("--size", std::to_string(bytes) + " bytes is no multiple of 2M");
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return bench(fleet, terminal, parsed.bench);
    };
  });
}

void add_certificate(CLI::App& app, Parsed& parsed) {
  PkiOptions& options = parsed.pki;
  app.add_option("NAME", options.request.name, "Whose")->required();
  app.add_option("--dir", options.directory, "Where the certificate authority is")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_flag("--force", options.force, "Replace one that is there");
  app.add_option_function<std::string>(
         "--lifetime",
         [&options](const std::string& text) {
           const auto lifetime = parse_lifetime(text);
           if (!lifetime) {
             throw CLI::ValidationError("--lifetime",
                                        "\"" + text +
                                            "\" is no lifetime; write a whole number with s, m, h "
                                            "or d, such as 90d");
           }
           options.request.lifetime = *lifetime;
         },
         "How long it is valid; default 365d")
      ->type_name("DURATION");
  app.callback([&parsed] {
    parsed.local = [&parsed](const Terminal& terminal) {
      return make_certificate(terminal, parsed.pki);
    };
  });
}

void add_pki(CLI::App& app, Parsed& parsed) {
  CLI::App& pki = *app.add_subcommand("pki", "Makes certificates, for trying out");
  pki.require_subcommand(1);
  security::CertificateRequest& request = parsed.pki.request;

  CLI::App& init = *pki.add_subcommand("init", "Makes a certificate authority");
  init.add_option("DIR", parsed.pki.directory, "Where")->required();
  init.add_flag("--force", parsed.pki.force, "Replace one that is there");
  init.callback([&parsed] {
    parsed.local = [&parsed](const Terminal& terminal) {
      return make_authority(terminal, parsed.pki);
    };
  });

  CLI::App& host = *pki.add_subcommand("host", "Makes a host's certificate");
  add_certificate(host, parsed);
  host.add_option("--address", request.addresses, "Further names and addresses, for other tools");
  host.preparse_callback([&request](std::size_t) { request.role = security::Role::kHost; });

  CLI::App& client = *pki.add_subcommand("client", "Makes a person's or a program's certificate");
  add_certificate(client, parsed);
  add_choice<security::Role>(
      client, "--role",
      {{"viewer", security::Role::kViewer},
       {"operator", security::Role::kOperator},
       {"controller", security::Role::kController}},
      [&request](security::Role role) { request.role = role; },
      "viewer: may look; operator: may start, stop and move guests; controller: the controller's");
  client.get_option("--role")->required();
}

void add_drain(CLI::App& app, Parsed& parsed) {
  CLI::App& drain_app = *app.add_subcommand(
      "drain", "Moves all guests off a host and keeps it out of service until it is uncordoned");
  drain_app.add_option("HOST", parsed.drain.host, "The host")->required();
  drain_app.add_flag("--dry-run", parsed.drain.dry_run,
                     "Say what would move where, and move nothing");
  drain_app.add_flag("--watch", parsed.drain.watch, "Show every move")->excludes("--dry-run");
  drain_app.callback([&parsed] {
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return drain(fleet, terminal, parsed.drain);
    };
  });
  const auto add_mark = [&](const char* name, const char* help, bool cordon) {
    CLI::App& mark = *app.add_subcommand(name, help);
    mark.add_option("HOST", parsed.host, "The host")->required();
    mark.callback([&parsed, cordon] {
      parsed.command = [&parsed, cordon](Fleet& fleet, const Terminal& terminal) {
        return mark_host(fleet, terminal, parsed.host, cordon);
      };
    });
  };
  add_mark("cordon", "Takes a host out of placement: no guest is moved there", true);
  add_mark("uncordon", "Gives a host back to placement, also out of quarantine", false);
}

void add_patch_plan(CLI::App& patch, Parsed& parsed) {
  PatchPlanOptions& options = parsed.patch_plan;
  CLI::App& plan = *patch.add_subcommand("plan",
                                         "Says what would move and how long it takes: of a plan "
                                         "file, or of a whole inventory in waves");
  auto* const file =
      plan.add_option("FILE", parsed.file, "Plan file, of hosts that the controller knows");
  auto* const inventory = plan.add_option("--inventory", options.inventory,
                                          "Hosts and guests, see docs/patching.md; asks nobody")
                              ->type_name("FILE")
                              ->excludes(file);
  plan.add_option("--hosts", options.hosts, "Only these, separated by commas; default: all")
      ->delimiter(',')
      ->needs(inventory)
      ->type_name("HOST,...");
  plan.add_option_function<std::string>(
          "--patch-time",
          [&options](const std::string& text) {
            const auto time_us = parse_duration_us(text);
            if (!time_us) {
              throw CLI::ValidationError(
                  "--patch-time",
                  "\"" + text + "\" is no duration; write a number with s or m, such as 10m");
            }
            options.patch_ms = *time_us / 1000;
          },
          "A host's time from empty to back in service; default 10m")
      ->needs(inventory)
      ->type_name("DURATION");
  plan.add_option("--hosts-at-once", options.hosts_at_once,
                  "At most so many in one wave; default: as many as there is room for")
      ->needs(inventory)
      ->check(CLI::Range(1, 100000));
  plan.add_option("--seed", options.seed, "Of the search for a good order; default 1")
      ->needs(inventory);
  plan.callback([&parsed] {
    if (!parsed.file.empty()) {
      parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
        return preview_patch(fleet, terminal, parsed.file);
      };
    } else if (!parsed.patch_plan.inventory.empty()) {
      parsed.local = [&parsed](const Terminal& terminal) {
        return plan_patch(terminal, parsed.patch_plan);
      };
    } else {
      throw CLI::RequiredError("FILE (a plan file) or --inventory FILE");
    }
  });
}

using RunCommand = std::function<int(Fleet&, const Terminal&, const Parsed&)>;

// A command for one run.
CLI::App& add_run_command(CLI::App& patch, Parsed& parsed, const char* name, const char* help,
                          const RunCommand& command) {
  CLI::App& app = *patch.add_subcommand(name, help);
  app.add_option("RUN", parsed.run,
                 "Its name, see sluice patch list; default: the one that has not ended");
  app.callback([&parsed, command] {
    parsed.command = [&parsed, command](Fleet& fleet, const Terminal& terminal) {
      return command(fleet, terminal, parsed);
    };
  });
  return app;
}

void add_patch_control(CLI::App& patch, Parsed& parsed) {
  const auto add_control = [&](const char* name, const char* help,
                               v1::CommandRunRequest::Command command) {
    add_run_command(patch, parsed, name, help,
                    [command](Fleet& fleet, const Terminal& terminal, const Parsed& given) {
                      return command_run(fleet, terminal, given.run, command);
                    });
  };
  add_control("pause", "Lets no further host begin; those under way go on",
              v1::CommandRunRequest::PAUSE);
  add_control("resume", "Goes on with a run that is paused", v1::CommandRunRequest::RESUME);
  add_control("abort", "Ends a run: hosts whose patch has not begun are given back",
              v1::CommandRunRequest::ABORT);
}

void add_patch(CLI::App& app, Parsed& parsed) {
  CLI::App& patch = *app.add_subcommand("patch", "Patches hosts: plans, runs, reports");
  patch.require_subcommand(1);
  add_patch_plan(patch, parsed);

  CLI::App& run = *patch.add_subcommand("run", "Patches the hosts of a plan file");
  run.add_option("FILE", parsed.file, "Plan file, see docs/patching.md")->required();
  run.add_flag("--watch", parsed.watch, "Show what happens until it ends");
  run.callback([&parsed] {
    parsed.command = [&parsed](Fleet& fleet, const Terminal& terminal) {
      return run_patch(fleet, terminal, parsed.file, parsed.watch);
    };
  });

  CLI::App& status = add_run_command(
      patch, parsed, "status", "Shows a run: its hosts, what is under way and what failed",
      [](Fleet& fleet, const Terminal& terminal, const Parsed& given) {
        return show_run(fleet, terminal, given.run, given.watch, given.all);
      });
  CLI::Option* watch = status.add_flag("--watch", parsed.watch, "Show what happens until it ends");
  status.add_flag("--all", parsed.all, "Show every task that is done, too")->excludes(watch);
  add_patch_control(patch, parsed);
  add_run_command(patch, parsed, "report",
                  "Prints what a run did, in Markdown; with --json as JSON",
                  [](Fleet& fleet, const Terminal& terminal, const Parsed& given) {
                    return report_run(fleet, terminal, given.run);
                  });
  patch.add_subcommand("list", "Lists the runs, oldest first")->callback([&parsed] {
    parsed.command = [](Fleet& fleet, const Terminal& terminal) {
      return list_runs(fleet, terminal);
    };
  });
}

// CLI11 says some things in several lines; a person gets one. A word that is no command reaches it
// as a missing one.
int usage_error(const CLI::App& app, const Terminal& terminal, const CLI::ParseError& error) {
  std::string message = error.what();
  if (app.get_subcommands().empty() && app.remaining_size() > 0)
    message = "there is no command " + app.remaining().front();
  std::replace(message.begin(), message.end(), '\n', ' ');
  terminal.err << "sluice: " << message << "; see sluice --help" << std::endl;
  return kExitUsage;
}

}  // namespace

int run(const std::vector<std::string>& arguments, Terminal terminal,
        const Environment& environment, const std::vector<std::string>& default_configs) {
  CLI::App app("Moves running virtual machines between hosts.", "sluice");
  Parsed parsed;
  app.require_subcommand(1);
  app.fallthrough();
  app.add_flag("--json", parsed.json, "One JSON document, or one per line when streaming");
  app.add_option("--config", parsed.config, "Which hosts there are")->type_name("FILE");
  app.set_version_flag("--version",
                       std::string("sluice ") + model::version() + " (" + model::revision() + ")");
  add_lists(app, parsed);
  add_doctor(app, parsed);
  add_guest(app, parsed);
  add_migrate(app, parsed);
  add_bench(app, parsed);
  add_drain(app, parsed);
  add_patch(app, parsed);
  add_pki(app, parsed);

  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success, terminal.out, terminal.err);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, terminal, error);
  }
  terminal.json = parsed.json;
  if (parsed.local) return parsed.local(terminal);
  const auto config = load_config(parsed.config, environment, default_configs);
  if (!config) {
    const int status = terminal.fail(config.error());
    return status == kExitFailed ? kExitUsage : status;
  }
  const auto credentials = security::Credentials::load(
      config->security,
      "to make some: sluice pki client NAME --role operator (or write tls = false there, if the "
      "agents have it too)");
  if (!credentials) {
    terminal.fail({credentials.error().kind, config->path + ": " + credentials.error().message});
    return kExitUsage;
  }
  Fleet fleet(*config, **credentials);
  return parsed.command(fleet, terminal);
}

}  // namespace sluice::cli
