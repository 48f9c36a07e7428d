#include "drivers/guest/qemu/cpu_level.h"

#include <gtest/gtest.h>

namespace sluice::guest::qemu {
namespace {

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

std::uint32_t needed(const std::string& cpu, std::uint32_t host_level = 4) {
  return cpu_level_needed({"-cpu", cpu}, host_level);
}

TEST(CpuLevelOfGuest, IsThatOfItsModel) {
  EXPECT_EQ(cpu_level_needed({"-accel", "kvm"}, 4), 1U) << "QEMU's default, qemu64";
  EXPECT_EQ(needed("Westmere"), 2U);
  EXPECT_EQ(needed("Haswell-noTSX-IBRS"), 3U);
  EXPECT_EQ(needed("EPYC-Milan-v1"), 3U);
  EXPECT_EQ(needed("EPYC-Genoa"), 4U);
  EXPECT_EQ(needed("Icelake-Server,pdpe1gb=on"), 4U);
}

TEST(CpuLevelOfGuest, IsThatOfTheHighestFeatureThatIsAdded) {
  EXPECT_EQ(needed("qemu64,+ssse3"), 2U);
  EXPECT_EQ(needed("qemu64,+ssse3,+avx2"), 3U);
  EXPECT_EQ(needed("qemu64,+avx2,+ssse3"), 3U);
  for (const char* feature : {"sse4.1=on", "sse4-2=on", "+sse4_1", "sse3=yes", "lahf-lm", "+cx16"})
    EXPECT_EQ(needed(std::string("kvm64,") + feature), 2U) << feature;
  for (const char* feature : {"lzcnt=on", "+abm", "fma=true", "movbe"})
    EXPECT_EQ(needed(std::string("Westmere,") + feature), 3U) << feature;
  for (const char* feature : {"avx512f=on", "+avx512vnni", "avx512-bf16=on"})
    EXPECT_EQ(needed(std::string("Haswell,") + feature), 4U) << feature;
  EXPECT_EQ(needed("Haswell,+ssse3"), 3U) << "which it has already";
  EXPECT_EQ(needed("Westmere,-avx2,avx512f=off,+vmx,hv_relaxed,family=6"), 2U);
  EXPECT_EQ(needed("Haswell,-avx2"), 3U) << "what is taken away lowers nothing";
}

TEST(CpuLevelOfGuest, IsThatOfTheHostWhichStartsItWhereItTakesAllOfIt) {
  for (const char* model :
       {"host", "host,migratable=off", "max", "NotYetInvented-v7", "host,+avx512f"}) {
    EXPECT_EQ(needed(model, 3), 3U) << model;
    EXPECT_EQ(needed(model, 0), 0U) << "of which nothing is known";
    EXPECT_TRUE(takes_cpu_of_host({"-cpu", model}));
  }
  EXPECT_FALSE(takes_cpu_of_host({"-cpu", "host", "-cpu", "Haswell"}));
}

}  // namespace
}  // namespace sluice::guest::qemu
