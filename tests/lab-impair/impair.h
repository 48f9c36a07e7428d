/* Shared by impair.bpf.c and impair.cc: the values of its maps, one of each per direction. C, for
 * both. */
#pragma once

#include <linux/types.h>

enum ImpairDirection { kFromHost = 0, kToHost = 1, kDirections = 2 };

/* A probability P is P * 2^32, so that 2^32 is certain. */
struct ImpairSettings {
  __u64 loss;
  __u64 duplicate;
  __u64 corrupt;
  __u64 hold;
  __u32 port; /* index of the switch's interface */
  __u32 tap;  /* index of the interface where frames wait */
};

struct ImpairCounters {
  __u64 frames; /* all that came, as the other counters: before anything befell them */
  __u64 lost;
  __u64 duplicated;
  __u64 corrupted;
  __u64 held;
};
