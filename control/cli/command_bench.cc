// bench
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <random>
#include <utility>
#include <vector>

#include "control/cli/commands.h"
#include "control/cli/json_output.h"
#include "control/cli/quantity.h"
#include "control/cli/render_progress.h"
#include "control/cli/render_table.h"

namespace sluice::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Figure {
  double median = 0;
  double min = 0;
  double max = 0;
};

Figure figure_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

Json to_json(const Figure& figure) {
  return {{"median", figure.median}, {"min", figure.min}, {"max", figure.max}};
}

// One benchmark: a guest of its own, moved to and fro, checked and removed.
class Bench {
 public:
  Bench(const Terminal& terminal, const BenchOptions& options, AgentClient& from, AgentClient& to)
      : terminal_(terminal), options_(options), from_(from), to_(to), at_(&from) {
    std::random_device entropy;
    name_ = fmt::format("bench-{:08x}", entropy());
  }

  int run();

 private:
  [[nodiscard]] Expected<void> start();
  [[nodiscard]] Expected<void> move_to_and_fro();
  [[nodiscard]] Expected<void> move_once();
  [[nodiscard]] Expected<void> verify();
  // Removes the guest wherever it is; the hosts that could not be asked are named.
  void clean_up();

  template <typename Value>
  [[nodiscard]] Figure over_completed_moves(Value value) const;
  [[nodiscard]] Figure goodput() const;
  [[nodiscard]] Figure downtime_ms() const;
  [[nodiscard]] Figure busy_core_seconds() const;
  void print_move(const v1::MigrateSummary& move) const;
  void print_table() const;
  [[nodiscard]] Json document(const Expected<void>& outcome) const;
  void say(const std::string& line) const {
    if (!terminal_.json) terminal_.out << line << std::endl;
  }

  const Terminal& terminal_;
  const BenchOptions& options_;
  AgentClient& from_;
  AgentClient& to_;
  AgentClient* at_;  // where the guest is
  std::string name_;
  std::vector<v1::MigrateSummary> moves_;  // the last one may have failed
  std::optional<v1::VerifyGuestResult> verified_;
};

int Bench::run() {
  // The first Ctrl-C ends the benchmark after the move under way, which cannot be taken back; a
  // second one ends the process at once.
  const Interrupts::Listener listener(terminal_.interrupts, [this] {
    terminal_.err << "sluice: interrupted; finishing the step under way, then removing " << name_
                  << std::endl;
  });
  Expected<void> outcome = start();
  if (outcome) {
    outcome = move_to_and_fro();
    if (outcome && !moves_.empty()) outcome = verify();
    clean_up();
  }
  if (outcome && terminal_.interrupts.raised()) outcome = fail(ErrorKind::kFailed, "interrupted");

  if (terminal_.json) {
    terminal_.out << document(outcome).dump() << std::endl;
  } else if (!moves_.empty()) {
    print_table();
  }
  if (outcome) return kExitDone;
  terminal_.err << "sluice: " << outcome.error().message << std::endl;
  return exit_status(outcome.error());
}

Expected<void> Bench::start() {
  const std::string definition = fmt::format(
      "name = \"{}\"\ndriver = \"memory\"\nmemory = \"{}\"\n[memory]\ndirty_rate = \"{}\"\npattern "
      "= \"{}\"\n",
      name_, options_.memory_bytes, options_.dirty_bytes_per_second, options_.pattern);
  say(fmt::format(
      "{}: {}, dirty rate {}/s ({}), between {} and {}", name_, format_bytes(options_.memory_bytes),
      format_bytes(options_.dirty_bytes_per_second), options_.pattern, from_.host(), to_.host()));
  const auto started = from_.start_guest(definition, name_ + ".toml");
  if (!started) return tl::unexpected(started.error());
  return {};
}

Expected<void> Bench::move_to_and_fro() {
  const Clock::time_point begin = Clock::now();
  do {
    if (terminal_.interrupts.raised()) break;
    if (auto moved = move_once(); !moved) return moved;
  } while (seconds_since(begin) < options_.seconds);
  return {};
}

Expected<void> Bench::move_once() {
  AgentClient& destination = at_ == &from_ ? to_ : from_;
  v1::MigrateRequest request;
  request.set_guest(name_);
  request.set_to(destination.host());
  request.set_mode(v1::MIGRATION_MODE_LIVE);
  request.set_proof(options_.proof);
  request.set_plaintext(options_.plaintext);

  std::optional<ProgressView> view;
  if (terminal_.live && !terminal_.json) view.emplace(terminal_);
  const auto show = [&view](const v1::MigrateUpdate& update) {
    if (view && update.has_progress()) view->show(update);
  };
  const auto summary = at_->migrate(request, show, nullptr);
  view.reset();
  if (!summary) return tl::unexpected(summary.error());
  const v1::MigrateSummary& move = summary->value();
  moves_.push_back(move);
  if (move.status() != "completed") {
    return fail(move.status() == "unknown" ? ErrorKind::kUnknownOutcome : ErrorKind::kFailed,
                fmt::format("move {} from {} to {} {}: {}", moves_.size(), move.from(), move.to(),
                            move.status(), move.error()));
  }
  at_ = &destination;
  print_move(move);
  return {};
}

Expected<void> Bench::verify() {
  const auto result = at_->verify_guest(name_);
  if (!result) return tl::unexpected(result.error());
  verified_ = *result;
  if (result->mismatches() == 0) return {};
  return fail(ErrorKind::kFailed,
              fmt::format("after the moves {} of {} are wrong", format_count(result->mismatches()),
                          format_counted(result->pages(), "page", "pages")));
}

void Bench::clean_up() {
  for (AgentClient* const agent : {&from_, &to_}) {
    const auto stopped = agent->stop_guest(name_);
    if (stopped || stopped.error().kind == ErrorKind::kNotFound) continue;
    terminal_.err << fmt::format("sluice: {} may be left on {}: {}", name_, agent->host(),
                                 stopped.error().message)
                  << std::endl;
  }
}

template <typename Value>
Figure Bench::over_completed_moves(Value value) const {
  std::vector<double> values;
  for (const auto& move : moves_) {
    if (move.status() == "completed") values.push_back(value(move));
  }
  return figure_of(std::move(values));
}

Figure Bench::goodput() const {
  return over_completed_moves([](const v1::MigrateSummary& move) { return move.goodput_gbps(); });
}

Figure Bench::downtime_ms() const {
  return over_completed_moves(
      [](const v1::MigrateSummary& move) { return static_cast<double>(move.downtime_us()) / 1e3; });
}

Figure Bench::busy_core_seconds() const {
  return over_completed_moves([](const v1::MigrateSummary& move) {
    return move.busy_core_seconds_from() + move.busy_core_seconds_to();
  });
}

void Bench::print_move(const v1::MigrateSummary& move) const {
  say(fmt::format("{:3}  {} -> {}  {:6.2f} s  {:6.2f} Gb/s  downtime {:>9}  {}, {}", moves_.size(),
                  move.from(), move.to(), move.seconds(), move.goodput_gbps(),
                  format_ms(move.downtime_us()),
                  format_counted(move.iterations(), "iteration", "iterations"),
                  move.proof_match() ? "proven" : "not proven"));
}

void Bench::print_table() const {
  const auto row = [](const char* name, const Figure& figure, const char* unit) {
    return std::vector<std::string>{name, fmt::format("{:.2f}", figure.median),
                                    fmt::format("{:.2f}", figure.min),
                                    fmt::format("{:.2f}", figure.max), unit};
  };
  terminal_.out << '\n'
                << render_table({{"", "MEDIAN", "MIN", "MAX", ""},
                                 row("goodput", goodput(), "Gb/s"),
                                 row("downtime", downtime_ms(), "ms"),
                                 row("busy cores", busy_core_seconds(), "core-seconds a move")});
  if (verified_) {
    terminal_.out << fmt::format(
        "\nverified: {} after {}, {}\n", format_counted(verified_->pages(), "page", "pages"),
        format_counted(verified_->writes(), "write", "writes"),
        verified_->mismatches() == 0 ? "all as its writer left them"
                                     : format_count(verified_->mismatches()) + " WRONG");
  }
  terminal_.out << std::flush;
}

Json Bench::document(const Expected<void>& outcome) const {
  Json moves = Json::array();
  for (const auto& move : moves_) moves.push_back(sluice::cli::to_json(move));
  Json document = {{"guest", name_},
                   {"from", from_.host()},
                   {"to", to_.host()},
                   {"status", outcome                                              ? "completed"
                              : outcome.error().kind == ErrorKind::kUnknownOutcome ? "unknown"
                                                                                   : "failed"},
                   {"memory_bytes", options_.memory_bytes},
                   {"dirty_bytes_per_second", options_.dirty_bytes_per_second},
                   {"pattern", options_.pattern},
                   {"moves", moves},
                   {"goodput_gbps", to_json(goodput())},
                   {"downtime_ms", to_json(downtime_ms())},
                   {"busy_core_seconds", to_json(busy_core_seconds())},
                   {"verify", verified_ ? sluice::cli::to_json(*verified_) : Json(nullptr)}};
  if (!outcome) document["error"] = outcome.error().message;
  return document;
}

}  // namespace

int bench(Fleet& fleet, const Terminal& terminal, const BenchOptions& options) {
  const auto from = fleet.host(options.from);
  if (!from) return terminal.fail(from.error());
  const auto to = fleet.host(options.to);
  if (!to) return terminal.fail(to.error());
  if (options.from == options.to) {
    return terminal.fail({ErrorKind::kInvalid, "--from and --to are both " + options.from +
                                                   "; a benchmark needs two hosts"});
  }
  return Bench(terminal, options, **from, **to).run();
}

}  // namespace sluice::cli
