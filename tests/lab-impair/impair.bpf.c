// What befalls the frames at a host's port of the lab's switch (see impair.cc, which loads this,
// sets `settings` and reads `counters`). A bpf program because it meets the frames that really
// pass, at next to no cost; what has to wait goes to a tap, since a program cannot hold a frame
// back.
#include "impair.h"

#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

// On a frame that has been dealt with and comes through the same hook again.
#define DEALT_WITH 0x51ce

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, kDirections);
  __type(key, __u32);
  __type(value, struct ImpairSettings);
} settings SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, kDirections);
  __type(key, __u32);
  __type(value, struct ImpairCounters);
} counters SEC(".maps");

static __always_inline int chance(__u64 probability) { return bpf_get_prandom_u32() < probability; }

static __always_inline void corrupt(struct __sk_buff* frame, struct ImpairCounters* count) {
  __u8 byte = 0;
  __u32 offset = bpf_get_prandom_u32() % frame->len;
  if (bpf_skb_load_bytes(frame, offset, &byte, 1) != 0) {
    return;
  }
  byte ^= 1U << (bpf_get_prandom_u32() % 8);
  if (bpf_skb_store_bytes(frame, offset, &byte, 1, 0) == 0) {
    __sync_fetch_and_add(&count->corrupted, 1);
  }
}

static __always_inline int impair(struct __sk_buff* frame, __u32 direction, __u64 ingress) {
  struct ImpairSettings* set = bpf_map_lookup_elem(&settings, &direction);
  struct ImpairCounters* count = bpf_map_lookup_elem(&counters, &direction);
  if (frame->mark == DEALT_WITH) {
    frame->mark = 0;  // another port's program may have its turn
    return TC_ACT_OK;
  }
  if (!set || !count || frame->len == 0) {
    return TC_ACT_OK;
  }
  __sync_fetch_and_add(&count->frames, 1);
  if (chance(set->loss)) {
    __sync_fetch_and_add(&count->lost, 1);
    return TC_ACT_SHOT;
  }
  if (chance(set->duplicate)) {
    frame->mark = DEALT_WITH;
    if (bpf_clone_redirect(frame, frame->ifindex, ingress) == 0) {
      __sync_fetch_and_add(&count->duplicated, 1);
    }
    frame->mark = 0;
  }
  if (chance(set->corrupt)) {
    corrupt(frame, count);
  }
  if (chance(set->hold)) {
    __sync_fetch_and_add(&count->held, 1);
    return bpf_redirect(set->tap, 0);
  }
  return TC_ACT_OK;
}

// What the switch receives from the host, and what it sends to it.
SEC("tc") int frame_out(struct __sk_buff* frame) { return impair(frame, kFromHost, BPF_F_INGRESS); }
SEC("tc") int frame_in(struct __sk_buff* frame) { return impair(frame, kToHost, 0); }

static __always_inline int release(struct __sk_buff* frame, __u32 direction, __u64 ingress) {
  struct ImpairSettings* set = bpf_map_lookup_elem(&settings, &direction);
  if (!set) {
    return TC_ACT_SHOT;
  }
  frame->mark = DEALT_WITH;
  return bpf_redirect(set->port, ingress);
}

// What comes back from the taps goes on as if it had never been away.
SEC("tc") int released_out(struct __sk_buff* frame) {
  return release(frame, kFromHost, BPF_F_INGRESS);
}
SEC("tc") int released_in(struct __sk_buff* frame) { return release(frame, kToHost, 0); }

char licence[] SEC("license") = "Dual BSD/GPL";
