// Runs the whole-system simulator over many seeds, or replays one.
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <string_view>
#include <unistd.h>

#include "tests/sim/simulation.h"

namespace sluice::sim {
namespace {

constexpr const char* kUsage =
    R"(usage: simulate [--seeds N] [--first S] [--seconds T] [--seed S [--trace]] [--check-every N] [--expect-violation]

Runs whole sessions (both workers, the network, a guest that writes, a scripted control side) in one
thread on virtual time. Everything in a run follows from its seed.

  --seeds N            how many seeds to run (default 1000)
  --first S            the first of them (default 1)
  --seconds T          stop early after so much real time
  --seed S             replay one seed
  --trace              with --seed: print every packet and every phase of the control side
  --check-every N      check the state of every page after every N steps of a worker (default 512)
  --expect-violation   succeed only if a violation is found: for builds with a planted bug

Exit status 0: no violation (with --expect-violation: one was found); 1: otherwise; 2: usage.

The long run before a release:
  build/tests/sim/simulate --seeds 10000
)";

struct Arguments {
  std::uint64_t seeds = 1000;
  std::uint64_t first = 1;
  std::uint64_t seconds = 0;
  std::uint64_t check_every = 512;
  bool trace = false;
  bool expect_violation = false;
};

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

// False on a usage error.
bool parse(int count, char** words, Arguments& arguments) {
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word == "--trace" || word == "--expect-violation") {
      (word == "--trace" ? arguments.trace : arguments.expect_violation) = true;
      continue;
    }
    const auto value = i + 1 < count ? number(words[i + 1]) : std::nullopt;
    if (!value) {
      return false;
    }
    ++i;
    if (word == "--seeds") {
      arguments.seeds = *value;
    } else if (word == "--first") {
      arguments.first = *value;
    } else if (word == "--seconds") {
      arguments.seconds = *value;
    } else if (word == "--check-every" && *value > 0) {
      arguments.check_every = *value;
    } else if (word == "--seed") {
      arguments.first = *value;
      arguments.seeds = 1;
    } else {
      return false;
    }
  }
  return !arguments.trace || arguments.seeds == 1;
}

// What a failed assertion says about the run it ended.
std::uint64_t seed_now = 0;
char description[4096];
int status_of_abort = 1;

void report(const char* what) {
  char text[sizeof(description) + 200];
  const int bytes =
      std::snprintf(text, sizeof(text), "seed %llu: %s\n%sreplay: simulate --seed %llu --trace\n",
                    static_cast<unsigned long long>(seed_now), what, description,
                    static_cast<unsigned long long>(seed_now));
  [[maybe_unused]] const auto written =
      write(STDERR_FILENO, text, std::min(sizeof(text) - 1, static_cast<std::size_t>(bytes)));
}

void on_abort(int /*signal*/) {
  report("an assertion failed");
  _exit(status_of_abort);
}

bool run_seed(std::uint64_t seed, const Arguments& arguments, Memories& memories, Totals& totals) {
  const Options options = Options::draw(seed);
  seed_now = seed;
  std::snprintf(description, sizeof(description), "%s", options.to_string().c_str());
  if (arguments.trace) {
    std::cout << description;
  }
  Simulation simulation(seed, options, memories, arguments.trace ? &std::cout : nullptr,
                        arguments.check_every);
  const std::string violation = simulation.run();
  simulation.add_to(totals);
  if (!violation.empty()) {
    std::cout.flush();
    report(violation.c_str());
  }
  return violation.empty();
}

int run(const Arguments& arguments) {
  const auto began = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  const auto memories = std::make_unique<Memories>();
  Totals totals;
  bool violated = false;
  for (std::uint64_t i = 0; i < arguments.seeds && !violated; ++i) {
    violated = !run_seed(arguments.first + i, arguments, *memories, totals);
    if (arguments.seconds > 0 && seconds() >= static_cast<double>(arguments.seconds)) {
      break;
    }
  }
  totals.print(std::cout);
  std::printf("%.0f seeds a second\n", static_cast<double>(totals.runs) / seconds());
  return violated == arguments.expect_violation ? 0 : 1;
}

}  // namespace
}  // namespace sluice::sim

int main(int count, char** words) {
  using namespace sluice::sim;
  Arguments arguments;
  if (count == 2 && std::string_view(words[1]) == "--help") {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (!parse(count, words, arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  status_of_abort = arguments.expect_violation ? 0 : 1;
  std::signal(SIGABRT, on_abort);
  return run(arguments);
}
