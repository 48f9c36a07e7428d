// sluice, the command line.
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "control/cli/command_line.h"

namespace {

// Signals are waited for by one thread; every other thread, gRPC's too, has them blocked.
void listen_for_interrupts(sluice::cli::Interrupts& interrupts) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, &interrupts] {
    for (;;) {
      int signal = 0;
      if (sigwait(&signals, &signal) == 0 && !interrupts.raise()) _exit(128 + signal);
    }
  }).detach();
}

unsigned terminal_columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

int main(int argc, char** argv) {
  // Lives as long as the detached thread, that is until the process ends.
  static sluice::cli::Interrupts interrupts;
  listen_for_interrupts(interrupts);
  // A reader that goes away ("| head") must not end the command in the middle of a benchmark.
  std::signal(SIGPIPE, SIG_IGN);
  // gRPC logs what it retries on standard error, where one line is for the person.
  setenv("GRPC_VERBOSITY", "NONE", 0);

  const sluice::cli::Environment environment = [](const char* name) {
    return static_cast<const char*>(std::getenv(name));
  };
  const sluice::cli::Terminal terminal{.out = std::cout,
                                       .err = std::cerr,
                                       .interrupts = interrupts,
                                       .live = isatty(STDOUT_FILENO) == 1,
                                       .columns = terminal_columns()};
  return sluice::cli::run(std::vector<std::string>(argv + 1, argv + argc), terminal, environment,
                          sluice::cli::default_config_paths(environment));
}
