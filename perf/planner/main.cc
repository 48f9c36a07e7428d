// Compares the planner with published plans, and times it on generated clusters. Not a test: it
// needs data that is not part of this repository (see --help). Every figure is checked by
// control/planner/checker.h.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <numeric>

#include "control/planner/checker.h"
#include "control/planner/duration.h"
#include "control/planner/planner.h"
#include "control/planner/synthetic.h"
#include "perf/planner/mvm_data.h"

namespace {

using namespace sluice;           // NOLINT(google-build-using-namespace)
using namespace sluice::planner;  // NOLINT(google-build-using-namespace)

struct Arguments {
  std::string data;
  bool generate = false;
  SyntheticOptions synthetic;
  std::uint32_t schedules = 500;
  std::uint64_t seed = 1;
};

class Report {
 public:
  void line(bool pass, const std::string& text) {
    fmt::print("{} {}\n", pass ? "PASS" : "FAIL", text);
    failed_ = failed_ || !pass;
  }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double ratio(std::uint64_t a, std::uint64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

std::size_t print_violations(const std::string& name, const std::vector<std::string>& violations) {
  for (const std::string& violation : violations) fmt::print("{}: {}\n", name, violation);
  return violations.size();
}

// Both schedules take the durations of the published plans: the same migration at the same rate
// takes as long in ours.
void compare_with_published(const std::vector<perf::PublishedPlan>& plans,
                            const perf::PlannedDurations& durations, const Arguments& arguments,
                            Report& report) {
  fmt::print("{:<12} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "plan", "published", "ours s", "bound s",
             "published", "ours");
  std::vector<double> published_ratios;
  std::vector<double> our_ratios;
  std::size_t better = 0;
  std::size_t worse = 0;
  std::size_t violations = 0;
  for (const perf::PublishedPlan& published : plans) {
    PlanOptions options{.search = {.seed = arguments.seed, .schedules_max = arguments.schedules},
                        .move_time = [&](const Guest& guest, std::uint64_t rate) {
                          return durations.at({guest.populated_bytes, rate});
                        }};
    const auto plan =
        plan_moves(published.instance.cluster, published.instance.destinations, options);
    if (!plan || !plan->complete()) {
      report.line(false, published.instance.name + ": " +
                             (plan ? plan->obstacles.front() : plan.error().message));
      continue;
    }
    std::uint64_t published_ms = 0;
    for (const Move& move : published.moves) published_ms = std::max(published_ms, move.end_ms);
    violations += print_violations(published.instance.name,
                                   check_plan(published.instance.cluster, plan->moves, {}));
    violations += print_violations(published.instance.name + " as published",
                                   check_plan(published.instance.cluster, published.moves, {}));
    published_ratios.push_back(ratio(published_ms, plan->bound.ms));
    our_ratios.push_back(ratio(plan->makespan_ms, plan->bound.ms));
    better += plan->makespan_ms < published_ms ? 1 : 0;
    worse += plan->makespan_ms > published_ms ? 1 : 0;
    fmt::print(
        "{:<12} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.3f} {:>9.3f}\n", published.instance.name,
        static_cast<double>(published_ms) / 1000, static_cast<double>(plan->makespan_ms) / 1000,
        static_cast<double>(plan->bound.ms) / 1000, published_ratios.back(), our_ratios.back());
  }
  report.line(worse == 0, fmt::format("makespan above the published plan's: {} of {} plans", worse,
                                      plans.size()));
  report.line(better >= 34,
              fmt::format("makespan below the published plan's: {} of {} plans (at least 34)",
                          better, plans.size()));
  report.line(mean(our_ratios) <= 1.02,
              fmt::format("makespan ÷ lower bound, mean: {:.4f} (at most 1.02; published {:.4f})",
                          mean(our_ratios), mean(published_ratios)));
  report.line(violations == 0,
              fmt::format("constraints broken, published plans included: {}", violations));
}

// Calibrated on all other plans' measurements, judged on the plan left out.
void compare_with_measured(const std::vector<perf::PublishedPlan>& plans, Report& report) {
  std::vector<double> errors;
  std::vector<double> published_errors;
  std::size_t within = 0;
  for (std::size_t out = 0; out < plans.size(); ++out) {
    DurationModel model({.downtime_limit_ms = 30});
    for (std::size_t i = 0; i < plans.size(); ++i) {
      if (i == out) continue;
      for (const perf::Run& run : plans[i].runs) {
        model.refine(plans[i].instance.cluster.guests[run.guest], run.bytes_per_second,
                     run.measured_ms);
      }
    }
    for (const perf::Run& run : plans[out].runs) {
      const DurationEstimate estimate =
          model.estimate(plans[out].instance.cluster.guests[run.guest], run.bytes_per_second);
      errors.push_back(std::abs(ratio(estimate.ms, run.measured_ms) - 1.0));
      within += run.measured_ms >= estimate.low_ms && run.measured_ms <= estimate.high_ms ? 1 : 0;
      for (const Move& move : plans[out].moves) {
        if (move.guest != run.guest) continue;
        published_errors.push_back(
            std::abs(ratio(move.end_ms - move.start_ms, run.measured_ms) - 1.0));
      }
    }
  }
  fmt::print("\nprediction of {} measured migrations in {} runs, each plan left out in turn\n",
             errors.size(), plans.size() * 4);
  fmt::print("{:<12} {:>9} {:>9}\n", "error", "published", "ours");
  fmt::print("{:<12} {:>8.1f}% {:>8.1f}%\n", "mean", 100 * mean(published_errors),
             100 * mean(errors));
  fmt::print("{:<12} {:>8.1f}% {:>8.1f}%\n", "p90", 100 * quantile(published_errors, 0.9),
             100 * quantile(errors, 0.9));
  fmt::print("within the predicted range: {:.1f} %\n", 100.0 * ratio(within, errors.size()));
  report.line(quantile(errors, 0.9) <= 0.12,
              fmt::format("p90 of the prediction's error: {:.1f} % (at most 12 %)",
                          100 * quantile(errors, 0.9)));
}

void solve_instances(const std::vector<perf::Instance>& instances, const Arguments& arguments,
                     Report& report) {
  fmt::print("\n{:<56} {:>6} {:>9} {:>9} {:>7} {:>6} {:>7}\n", "instance", "moves", "ours s",
             "bound s", "ratio", "stops", "took s");
  const DurationModel model;
  std::vector<double> ratios;
  std::size_t violations = 0;
  for (const perf::Instance& instance : instances) {
    const auto start = std::chrono::steady_clock::now();
    PlanOptions options{.search = {.seed = arguments.seed, .schedules_max = arguments.schedules},
                        .move_time = [&](const Guest& guest, std::uint64_t rate) {
                          return model.estimate(guest, rate).ms;
                        }};
    const auto plan = plan_moves(instance.cluster, instance.destinations, options);
    if (!plan || !plan->complete()) {
      report.line(false,
                  instance.name + ": " + (plan ? plan->obstacles.front() : plan.error().message));
      continue;
    }
    violations += print_violations(instance.name, check_plan(instance.cluster, plan->moves, {}));
    ratios.push_back(ratio(plan->makespan_ms, plan->bound.ms));
    fmt::print("{:<56} {:>6} {:>9.1f} {:>9.1f} {:>7.4f} {:>6} {:>7.2f}\n", instance.name,
               plan->moves.size(), static_cast<double>(plan->makespan_ms) / 1000,
               static_cast<double>(plan->bound.ms) / 1000, ratios.back(), plan->stops,
               seconds_since(start));
  }
  const double worst = *std::max_element(ratios.begin(), ratios.end());
  report.line(
      worst <= 1.05,
      fmt::format(
          "larger instances, makespan ÷ lower bound: mean {:.4f}, worst {:.4f} (at most 1.05)",
          mean(ratios), worst));
  report.line(violations == 0, fmt::format("constraints broken: {}", violations));
}

void plan_generated(const Arguments& arguments, Report& report) {
  const Cluster cluster = synthetic_cluster(arguments.synthetic);
  const std::vector<HostId> hosts = synthetic_drain(arguments.synthetic);
  const DurationModel model;
  const auto start = std::chrono::steady_clock::now();
  PlanOptions options{.search = {.seed = arguments.seed, .schedules_max = arguments.schedules},
                      .move_time = [&](const Guest& guest, std::uint64_t rate) {
                        return model.estimate(guest, rate).ms;
                      }};
  const auto plan = plan_drain(cluster, hosts, options);
  const double took_s = seconds_since(start);
  if (!plan) return report.line(false, plan.error().message);
  for (const std::string& obstacle : plan->obstacles) fmt::print("{}\n", obstacle);
  const auto violations = check_plan(cluster, plan->moves,
                                     {.emptied = plan->complete() ? hosts : std::vector<HostId>()});
  print_violations("plan", violations);
  fmt::print("{} hosts, {} guests, seed {}: {} hosts to empty, {} moves, {} schedules tried\n",
             cluster.hosts.size(), cluster.guests.size(), arguments.synthetic.seed, hosts.size(),
             plan->moves.size(), plan->schedules_tried);
  fmt::print("makespan {:.1f} s, lower bound {:.1f} s ({}), ratio {:.4f}\n",
             static_cast<double>(plan->makespan_ms) / 1000,
             static_cast<double>(plan->bound.ms) / 1000, plan->bound.reason,
             ratio(plan->makespan_ms, plan->bound.ms));
  report.line(plan->complete(), "every guest has a place");
  report.line(violations.empty(), fmt::format("constraints broken: {}", violations.size()));
  report.line(took_s < 30, fmt::format("planned in {:.1f} s (less than 30 on one core)", took_s));
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{
      "Compares the planner with published migration plans (--data), or times it on a generated "
      "cluster."};
  CLI::Option* const data =
      app.add_option("--data", arguments.data,
                     "a directory with plans/random.N.json, runs/R/micro_random.N.csv and "
                     "large/SCENARIO/xK/*.json.gz, as published in "
                     "the repository btrplace/kherbache-thesis");
  CLI::Option* const generate = app.add_flag("--generate", arguments.generate,
                                             "empty 5 % of the hosts of a generated cluster")
                                    ->excludes(data);
  app.add_option("--hosts", arguments.synthetic.hosts, "hosts to generate")
      ->needs(generate)
      ->check(CLI::Range(24U, 100000U));
  app.add_option("--guests", arguments.synthetic.guests, "guests to generate")
      ->needs(generate)
      ->check(CLI::Range(1U, 1000000U));
  app.add_option("--schedules", arguments.schedules, "schedules to try at most for each plan");
  app.add_option("--seed", arguments.seed, "seed of the cluster and of the search");
  CLI11_PARSE(app, argc, argv);
  if (data->empty() && !arguments.generate) {
    fmt::print(stderr, "planner: nothing to do; give --data DIR or --generate\n");
    return 2;
  }
  arguments.synthetic.seed = arguments.seed;
  Report report;
  if (arguments.generate) {
    plan_generated(arguments, report);
  } else {
    perf::PlannedDurations durations;
    const auto plans = perf::read_plans(arguments.data, durations);
    compare_with_published(plans, durations, arguments, report);
    compare_with_measured(plans, report);
    solve_instances(perf::read_instances(arguments.data), arguments, report);
  }
  return report.failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "planner: %s\n", error.what());
    return 1;
  }
}
