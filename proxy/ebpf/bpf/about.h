/* ICMP errors are about a packet that somebody got: what he sent it to or from
 * is translated for him, inside and outside. */
#pragma once
#include "flow.h"

/* Changes 4 or 16 bytes at the address and 2 at the port of the packet inside. */
static __always_inline long put_inner(struct __sk_buff *skb, struct packet *in, bool source, const struct addr *to,
				      __be16 number, __u32 at, __u32 check)
{
	struct addr *old = source ? &in->t.src : &in->t.dst;
	__be16 old_number = source ? in->t.sport : in->t.dport;
	__s64 diff = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)to, sizeof(*to), 0);
	__u32 field = at + (in->six ? (source ? 8 : 24) : (source ? 12 : 16));

	/* The inner IPv4 header's own sum changes by as much as its address, so that the outer sum sees nothing of both. */
	if (!in->six) {
		if (bpf_l3_csum_replace(skb, at + 10, old->w[3], to->w[3], 4))
			return -1;
	} else if (bpf_l4_csum_replace(skb, check, 0, diff, 0)) {
		return -1;
	}
	if (put_addr(skb, field, in->six, to))
		return -1;
	if (bpf_l4_csum_replace(skb, check, old_number, number, sizeof(number)))
		return -1;
	return bpf_skb_store_bytes(skb, at + in->l4 + (source ? 0 : 2), &number, sizeof(number), 0);
}

static __always_inline long put_outer(struct __sk_buff *skb, const struct packet *p, bool source, const struct addr *to, int l2, __u32 check)
{
	const struct addr *old = source ? &p->t.src : &p->t.dst;
	__s64 diff = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)to, sizeof(*to), 0);

	if (p->six) { /* ICMPv6 has a pseudo header */
		if (bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR))
			return -1;
		bpf_csum_update(skb, diff);
		return put_addr(skb, l2 + (source ? 8 : 24), true, to);
	}
	if (bpf_l3_csum_replace(skb, l2 + 10, old->w[3], to->w[3], 4))
		return -1;
	return put_addr(skb, l2 + (source ? 12 : 16), false, to);
}

ONCE int translate_error(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return SHOT;
	struct packet in = {};
	struct tuple answer;
	struct flow *f;
	__u32 at = p->l4 + 8, id, check;
	int l4, l2 = l2_of(skb);
	bool egress = p->t.at_egress;
	struct addr to;

	l4 = p->six ? read_ip6(skb, at, &in, &id) : read_ip4(skb, at, &in, &id);
	if (l4 < 0 || l2 < 0 || in.fragment == 2 || (in.t.proto != TCP && in.t.proto != UDP))
		return NEXT;
	in.l4 = l4;
	{
		__be16 numbers[2];

		if (load(skb, at + l4, numbers, sizeof(numbers)))
			return NEXT;
		in.t.sport = numbers[0];
		in.t.dport = numbers[1];
	}
	/* What the packet's receiver would have answered is what is translated. */
	answer = answer_of(&in.t.dst, in.t.dport, &in.t.src, in.t.sport, &in, egress);
	f = bpf_map_lookup_elem(&flows, &answer);
	if (!f || f->flags & FLOW_PENDING)
		return NEXT;
	to = f->addr;
	check = l2 + p->l4 + 2;
	/* At ingress: who sent it gets the error under his own name. At egress:
	 * whom he sent it to has the name that he knows. */
	if (put_inner(skb, &in, !egress, &to, f->number, l2 + at, check))
		return drop(DROP_FAULT);
	if (egress ? same(&p->t.src, &in.t.dst) : same(&p->t.dst, &in.t.src))
		if (put_outer(skb, p, egress, &to, l2, check))
			return drop(DROP_FAULT);
	return NEXT;
}
