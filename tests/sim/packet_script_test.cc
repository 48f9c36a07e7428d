// Runs packet scripts: the files named on the command line.
#include "tests/sim/packet_script.h"

#include <cstdio>
#include <fstream>

int main(int count, char** paths) {
  bool all = count > 1;
  for (int i = 1; i < count; ++i) {
    std::ifstream file(paths[i]);
    const std::string problem =
        file ? sluice::sim::run_packet_script(file) : "0: the file cannot be read";
    std::printf("%s %s\n", problem.empty() ? "ok" : "FAILED", paths[i]);
    if (!problem.empty()) {
      std::printf("%s:%s\n", paths[i], problem.c_str());
      all = false;
    }
  }
  return all ? 0 : 1;
}
