// Union-find (Tarjan): which elements hang together. Pure; one thread.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

namespace sluice::planner {

class DisjointSets {
 public:
  explicit DisjointSets(std::size_t size) : parent_(size) {
    std::iota(parent_.begin(), parent_.end(), 0U);
  }

  // The element that stands for the set of `element`.
  [[nodiscard]] std::uint32_t find(std::uint32_t element) {
    while (parent_[element] != element) {
      parent_[element] = parent_[parent_[element]];
      element = parent_[element];
    }
    return element;
  }

  void join(std::uint32_t a, std::uint32_t b) { parent_[find(a)] = find(b); }

 private:
  std::vector<std::uint32_t> parent_;
};

}  // namespace sluice::planner
