/* What is certainly not there, told without a look into the maps where it would
 * be: nearly all that a node connects to and sends is none of ours.
 *
 * A mark is an element of an array, which is read without a call. Different
 * things may share one: a mark says that it is worth to look, never that
 * something is there. It is written before what it is of, and stays. The daemon
 * writes the marks of what it writes (../marks.go), the programs those of
 * flows. Until all that was there before has its mark, which MARKS_COMPLETE
 * tells, everything may be there. */
#pragma once
#include "abi.h"

static __always_inline bool is_four(const struct addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == bpf_htonl(0xffff);
}

/* markOf in ../marks.go is the same. */
static __always_inline __u32 mark_of(enum mark what, const struct addr *a, __be16 port)
{
	__u64 high = (__u64)a->w[0] << 32 | a->w[1], low = (__u64)a->w[2] << 32 | a->w[3];
	__u64 hash = (high + what) * 0xff51afd7ed558ccd + low * 0xc4ceb9fe1a85ec53 + port * 0x2545f4914f6cdd1d;

	hash ^= hash >> 32;
	return 1 + (hash * 0x9e3779b97f4a7c15 >> 47);
}

/* 20 bits of IPv4, 64 of IPv6. */
static __always_inline struct addr block_of(const struct addr *a)
{
	struct addr block = { .w = { a->w[0], a->w[1], 0, 0 } };

	if (is_four(a)) {
		block.w[2] = a->w[2];
		block.w[3] = a->w[3] & bpf_htonl(0xfffff000);
	}
	return block;
}

static __always_inline bool marked(__u32 place)
{
	__u32 *mark = bpf_map_lookup_elem(&marks, &place);

	return !mark || *mark;
}

static __always_inline bool maybe_frontend(const struct addr *a)
{
	struct addr block = block_of(a);

	return !marked(MARKS_COMPLETE) || marked(mark_of(MARK_FRONTEND, a, 0)) || marked(mark_of(MARK_BLOCK, &block, 0));
}

static __always_inline bool maybe_local(const struct addr *a)
{
	return !marked(MARKS_COMPLETE) || marked(mark_of(MARK_LOCAL, a, 0));
}

static __always_inline bool maybe_flow(const struct tuple *t)
{
	return !marked(MARKS_COMPLETE) || marked(mark_of(MARK_SOURCE, &t->src, t->sport)) ||
	       marked(mark_of(MARK_DESTINATION, &t->dst, t->dport));
}

static __always_inline void set_mark(__u32 place)
{
	__u32 *mark = bpf_map_lookup_elem(&marks, &place);

	if (mark && !*mark)
		*mark = 1;
}

/* Marks the end of a flow that is a Service's, not the client's. */
static __always_inline void mark_flow(const struct tuple *t, const struct flow *f)
{
	set_mark(f->flags & FLOW_REPLY ? mark_of(MARK_SOURCE, &t->src, t->sport) : mark_of(MARK_DESTINATION, &t->dst, t->dport));
}
