#include "drivers/guest/qemu/cpu_level.h"

#include <gtest/gtest.h>

namespace sluice::guest::qemu {
namespace {

using Args = std::vector<std::string>;

constexpr const char* kLevel1 = "lm cmov cx8 fpu fxsr mmx syscall sse sse2";
constexpr const char* kLevel2 = " cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3";
constexpr const char* kLevel3 = " avx avx2 bmi1 bmi2 f16c fma abm movbe xsave";
constexpr const char* kLevel4 = " avx512f avx512bw avx512cd avx512dq avx512vl";

std::string cpuinfo(const std::string& flags) {
  return "processor\t: 0\nmodel name\t: some avx512f\nflags\t\t: " + flags +
         "\nbugs\t\t: spectre_v1\n\nprocessor\t: 1\nflags\t\t: fpu\n";
}

TEST(CpuLevelOfHost, IsTheHighestOfWhichNothingIsMissing) {
  std::string flags = kLevel1;
  EXPECT_EQ(cpu_level_of(cpuinfo(flags)), 1U);
  flags += kLevel2;
  EXPECT_EQ(cpu_level_of(cpuinfo(flags)), 2U);
  EXPECT_EQ(cpu_level_of(cpuinfo(flags + kLevel4)), 2U) << "level 3 is missing";
  flags += kLevel3;
  EXPECT_EQ(cpu_level_of(cpuinfo(flags)), 3U);
  EXPECT_EQ(cpu_level_of(cpuinfo(flags + kLevel4)), 4U);
  EXPECT_EQ(cpu_level_of(cpuinfo("fpu vfp neon")), 0U);
  EXPECT_EQ(cpu_level_of(""), 0U);
}

TEST(CpuLevelOfGuest, IsNoneWhereItsProcessorIsEmulated) {
  for (const Args& args : {Args{}, Args{"-cpu", "max"}, Args{"-accel", "tcg", "-cpu", "Haswell"},
                           Args{"-machine", "q35,accel=tcg"}}) {
    EXPECT_EQ(cpu_level_needed(args, 4), 0U);
    EXPECT_FALSE(takes_cpu_of_host(args));
  }
}

TEST(CpuLevelOfGuest, IsThatOfItsModel) {
  const auto needed = [](const char* model) {
    return cpu_level_needed({"-enable-kvm", "-cpu", model}, 4);
  };
  EXPECT_EQ(cpu_level_needed({"-accel", "kvm"}, 4), 1U) << "QEMU's default, qemu64";
  EXPECT_EQ(needed("qemu64,+avx2"), 1U);
  EXPECT_EQ(needed("Westmere"), 2U);
  EXPECT_EQ(needed("Haswell-noTSX-IBRS"), 3U);
  EXPECT_EQ(needed("EPYC-Milan-v1"), 3U);
  EXPECT_EQ(needed("EPYC-Genoa"), 4U);
  EXPECT_EQ(needed("Icelake-Server,pdpe1gb=on"), 4U);
}

TEST(CpuLevelOfGuest, IsThatOfTheHostWhichStartsItWhereItTakesAllOfIt) {
  for (const char* model : {"host", "host,migratable=off", "max", "NotYetInvented-v7"}) {
    for (const Args& kvm : {Args{"-enable-kvm"}, Args{"-accel", "kvm,thread=multi"},
                            Args{"-machine", "q35,accel=kvm"}, Args{"-M", "pc,accel=tcg:kvm"}}) {
      Args args = kvm;
      args.insert(args.end(), {"-cpu", model});
      EXPECT_EQ(cpu_level_needed(args, 3), 3U) << model;
      EXPECT_EQ(cpu_level_needed(args, 0), 0U) << "of which nothing is known";
      EXPECT_TRUE(takes_cpu_of_host(args));
    }
  }
  EXPECT_FALSE(takes_cpu_of_host({"-enable-kvm", "-cpu", "host", "-cpu", "Haswell"}));
}

}  // namespace
}  // namespace sluice::guest::qemu
