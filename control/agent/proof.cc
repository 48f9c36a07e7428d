#include "control/agent/proof.h"

#include <algorithm>
#include <array>
#include <thread>

namespace sluice::agent {
namespace {

// `run` is the first run that may reach into the extent; moved on as extents ascend.
page::ExtentDigest hash_extent(std::span<const std::byte> ram, std::uint64_t extent,
                               const std::vector<port::PageRun>& populated, std::size_t& run) {
  std::array<page::PageHash, kExtentPages> hashes;
  hashes.fill(page::zero_page_hash());
  const std::uint64_t begin = extent * kExtentPages;
  const std::uint64_t end = begin + kExtentPages;
  while (run < populated.size() && populated[run].first + populated[run].count <= begin) ++run;
  for (std::size_t i = run; i < populated.size() && populated[i].first < end; ++i) {
    const std::uint64_t last = std::min(end, populated[i].first + populated[i].count);
    for (std::uint64_t page = std::max(begin, populated[i].first); page < last; ++page)
      hashes[page - begin] = page::hash_page(ram.data() + page * kPageBytes);
  }
  return page::fold_extent(hashes);
}

}  // namespace

ExtentDigests gather(const std::vector<std::span<const page::ExtentDigest>>& flows,
                     const page::Layout& layout) {
  ExtentDigests digests(layout.extents());
  for (std::uint32_t flow = 0; flow < flows.size(); ++flow) {
    const page::ShardMap shard(layout.extents(), static_cast<std::uint32_t>(flows.size()), flow);
    for (std::size_t local = 0; local < flows[flow].size(); ++local)
      digests[shard.to_global(local * kExtentPages) / kExtentPages] = flows[flow][local];
  }
  return digests;
}

ExtentDigests hash_memory(std::span<const std::byte> ram,
                          const std::vector<port::PageRun>& populated) {
  const std::uint64_t extents = ram.size() / kExtentBytes;
  ExtentDigests digests(extents);
  const std::uint64_t parts =
      std::clamp<std::uint64_t>(std::thread::hardware_concurrency(), 1, extents);
  std::vector<std::jthread> threads;
  for (std::uint64_t part = 0; part < parts; ++part) {
    threads.emplace_back([&, part] {
      std::size_t run = 0;
      for (std::uint64_t extent = extents * part / parts; extent < extents * (part + 1) / parts;
           ++extent)
        digests[extent] = hash_extent(ram, extent, populated, run);
    });
  }
  threads.clear();
  return digests;
}

std::vector<std::uint64_t> differing_extents(const ExtentDigests& one, const ExtentDigests& other,
                                             std::size_t limit) {
  std::vector<std::uint64_t> extents;
  for (std::size_t i = 0; i < std::min(one.size(), other.size()) && extents.size() < limit; ++i) {
    if (one[i] != other[i]) extents.push_back(i);
  }
  return extents;
}

}  // namespace sluice::agent
