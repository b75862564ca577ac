/* Answers that nobody listens: a reset for TCP, port unreachable for the rest. */
#pragma once
#include "packet.h"

struct icmp {
	__u8 type, code;
	__u16 check;
	__be32 rest;
};

#define STORE BPF_F_RECOMPUTE_CSUM

static __always_inline __u16 fold(__s64 sum)
{
	__u32 s = sum;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

static __always_inline __s64 sum(void *data, __u32 n, __s64 seed)
{
	return bpf_csum_diff(NULL, 0, data, n, seed);
}

/* The sum of the pseudo header of an answer. */
static __always_inline __s64 pseudo_sum(const struct packet *p, __u32 len, __u8 proto)
{
	struct {
		struct addr src, dst;
		__be32 len, proto;
	} h = { .src = p->t.dst, .dst = p->t.src, .len = bpf_htonl(len), .proto = bpf_htonl(proto) };

	if (!p->six) /* the mapped prefix is no part of it */
		h.src.w[2] = h.dst.w[2] = 0;
	return sum(&h, sizeof(h), 0);
}

/* Writes the answer's IP header: from whom was asked to who asked. */
static __always_inline long put_ip(struct __sk_buff *skb, int l2, const struct packet *p, __u8 proto, __u32 payload)
{
	struct ip4 four = {
		.version_ihl = 0x45, .len = bpf_htons(sizeof(four) + payload), .ttl = 64, .proto = proto,
		.frag = bpf_htons(0x4000), .src = p->t.dst.w[3], .dst = p->t.src.w[3],
	};
	struct ip6 six = {
		.version = bpf_htonl(6 << 28), .len = bpf_htons(payload), .next = proto, .hops = 64,
		.src = p->t.dst, .dst = p->t.src,
	};

	if (p->six)
		return bpf_skb_store_bytes(skb, l2, &six, sizeof(six), STORE);
	four.check = fold(sum(&four, sizeof(four), 0));
	return bpf_skb_store_bytes(skb, l2, &four, sizeof(four), STORE);
}

/* Sends it back where it came from. */
static __always_inline int send_back(struct __sk_buff *skb, int l2)
{
	__u8 macs[12], swapped[12];

	if (l2 == 14) {
		if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
			return drop(DROP_FAULT);
		__builtin_memcpy(swapped, macs + 6, 6);
		__builtin_memcpy(swapped + 6, macs, 6);
		if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), STORE))
			return drop(DROP_FAULT);
	}
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline int send_reset(struct __sk_buff *skb, const struct packet *p, int l2)
{
	__u32 ip = p->six ? sizeof(struct ip6) : sizeof(struct ip4);
	struct tcp asked, t = {};

	if (p->flags & TH_RST)
		return drop(DROP_NO_ENDPOINT);
	if (load(skb, p->l4, &asked, sizeof(asked)))
		return drop(DROP_FAULT);
	t.sport = p->t.dport;
	t.dport = p->t.sport;
	t.ack = bpf_htonl(bpf_ntohl(asked.seq) + 1); /* only a SYN gets here */
	t.offset = sizeof(t) / 4 << 4;
	t.flags = TH_RST | TH_ACK;
	t.check = fold(sum(&t, sizeof(t), pseudo_sum(p, sizeof(t), TCP)));
	if (bpf_skb_change_tail(skb, l2 + ip + sizeof(t), 0) || put_ip(skb, l2, p, TCP, sizeof(t)) ||
	    bpf_skb_store_bytes(skb, l2 + ip, &t, sizeof(t), STORE))
		return drop(DROP_FAULT);
	return send_back(skb, l2);
}

static __always_inline int send_unreachable4(struct __sk_buff *skb, const struct packet *p, int l2)
{
	struct {
		struct icmp head;
		__u8 about[sizeof(struct ip4) + 8];
	} m = { .head = { .type = 3, .code = 3 } };

	if (load(skb, 0, m.about, sizeof(m.about)))
		return drop(DROP_FAULT);
	m.head.check = fold(sum(&m, sizeof(m), 0));
	if (bpf_skb_change_tail(skb, l2 + sizeof(struct ip4) + sizeof(m), 0) || put_ip(skb, l2, p, ICMP, sizeof(m)) ||
	    bpf_skb_store_bytes(skb, l2 + sizeof(struct ip4), &m, sizeof(m), STORE))
		return drop(DROP_FAULT);
	return send_back(skb, l2);
}

static __always_inline int send_unreachable6(struct __sk_buff *skb, const struct packet *p, int l2)
{
	struct {
		struct icmp head;
		__u8 about[sizeof(struct ip6) + 8];
	} m = { .head = { .type = 1, .code = 4 } };

	if (load(skb, 0, m.about, sizeof(m.about)))
		return drop(DROP_FAULT);
	m.head.check = fold(sum(&m, sizeof(m), pseudo_sum(p, sizeof(m), ICMP6)));
	if (bpf_skb_change_tail(skb, l2 + sizeof(struct ip6) + sizeof(m), 0) || put_ip(skb, l2, p, ICMP6, sizeof(m)) ||
	    bpf_skb_store_bytes(skb, l2 + sizeof(struct ip6), &m, sizeof(m), STORE))
		return drop(DROP_FAULT);
	return send_back(skb, l2);
}

ONCE int send_refusal(struct __sk_buff *skb, const struct packet *p)
{
	int l2 = l2_of(skb);

	if (l2 < 0 || !p)
		return drop(DROP_FAULT);
	if (p->t.proto == TCP)
		return send_reset(skb, p, l2);
	if (p->fragment == 2 || ((p->t.proto == ICMP || p->t.proto == ICMP6) && !p->icmp_echo))
		return drop(DROP_NO_ENDPOINT); /* never an error about an error */
	return p->six ? send_unreachable6(skb, p, l2) : send_unreachable4(skb, p, l2);
}
