/* Reading and rewriting of packets. */
#pragma once
#include "headers.h"

#define NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC: go on as if we were not there */
#define SHOT 2

static __always_inline long load(struct __sk_buff *skb, __u32 off, void *to, __u32 n)
{
	return bpf_skb_load_bytes_relative(skb, off, to, n, BPF_HDR_START_NET);
}

/* Reads the IP header at off; gives the bytes to the next header, negative for none of ours. */
static __always_inline int read_ip4(struct __sk_buff *skb, __u32 off, struct packet *p, __u32 *id)
{
	struct ip4 ip;

	if (load(skb, off, &ip, sizeof(ip)) || ip.version_ihl >> 4 != 4)
		return -1;
	p->t.src = mapped(ip.src);
	p->t.dst = mapped(ip.dst);
	p->t.proto = ip.proto;
	*id = ip.id;
	if (ip.frag & bpf_htons(0x3fff))
		p->fragment = ip.frag & bpf_htons(0x1fff) ? 2 : 1;
	return (ip.version_ihl & 15) * 4;
}

#define EXTENSIONS 6

static __always_inline int read_ip6(struct __sk_buff *skb, __u32 off, struct packet *p, __u32 *id)
{
	struct ip6 ip;
	__u32 at = sizeof(ip);
	__u8 next, ext[8];

	if (load(skb, off, &ip, sizeof(ip)))
		return -1;
	p->t.src = ip.src;
	p->t.dst = ip.dst;
	p->six = 1;
	next = ip.next;
#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		if (next != 0 && next != 43 && next != 60 && next != 44)
			break;
		if (load(skb, off + at, ext, sizeof(ext)))
			return -1;
		if (next == 44) {
			*id = *(__u32 *)(ext + 4);
			p->fragment = (ext[2] | (ext[3] & 0xf8)) ? 2 : 1;
			if (p->fragment == 1 && !(ext[3] & 1))
				p->fragment = 0; /* the only one */
			at += 8;
		} else {
			at += (ext[1] + 1) * 8;
		}
		next = ext[0];
	}
	p->t.proto = next;
	return at;
}

/* The ports at off. Of an echo request nothing: it belongs to an address, not to a port. */
static __always_inline int read_ports(struct __sk_buff *skb, __u32 off, struct packet *p)
{
	__be16 ports[2];
	__u8 byte[2];
	struct {
		__be16 ports[2];
		__be32 seq, ack;
		__u8 offset, flags;
	} __attribute__((packed)) tcp;

	switch (p->t.proto) {
	case TCP:
		if (load(skb, off, &tcp, sizeof(tcp)))
			return -1;
		p->t.sport = tcp.ports[0];
		p->t.dport = tcp.ports[1];
		p->flags = tcp.flags;
		return 0;
	case UDP:
		if (load(skb, off, ports, sizeof(ports)))
			return -1;
		p->t.sport = ports[0];
		p->t.dport = ports[1];
		return 0;
	case ICMP:
		if (load(skb, off, byte, 1))
			return -1;
		p->icmp_error = byte[0] == 3 || byte[0] == 11 || byte[0] == 12;
		p->icmp_echo = byte[0] == 8;
		return 0;
	case ICMP6:
		if (load(skb, off, byte, 1))
			return -1;
		p->icmp_error = byte[0] >= 1 && byte[0] <= 4;
		p->icmp_echo = byte[0] == 128;
		return 0;
	}
	return 0;
}

/* Reads a packet; negative when it is none of ours. */
ONCE int read_packet(struct __sk_buff *skb, struct packet *p, bool at_egress)
{
	if (!p)
		return -1;
	struct fragment_key key = {};
	struct fragment ports, *known;
	__u32 id = 0;
	int l4;

	if (skb->protocol == ETH_IP)
		l4 = read_ip4(skb, 0, p, &id);
	else if (skb->protocol == ETH_IP6)
		l4 = read_ip6(skb, 0, p, &id);
	else
		return -1;
	if (l4 < 0)
		return -1;
	p->l4 = l4;
	p->t.at_egress = at_egress;
	if (!p->fragment)
		return read_ports(skb, l4, p);
	key.src = p->t.src;
	key.dst = p->t.dst;
	key.id = id;
	key.proto = p->t.proto | (at_egress ? 0x100 : 0);
	if (p->fragment == 1) {
		if (read_ports(skb, l4, p))
			return -1;
		ports.sport = p->t.sport;
		ports.dport = p->t.dport;
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known) /* before the first one: like any router, we do not wait */
		return -1;
	p->t.sport = known->sport;
	p->t.dport = known->dport;
	p->flags = TH_ACK;
	return 0;
}

/* Bytes before the IP header; negative for a device that we do not know yet. */
static __always_inline int l2_of(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	struct device *d = bpf_map_lookup_elem(&devices, &index);

	return d ? d->l2 : -1;
}

static __always_inline long put_addr(struct __sk_buff *skb, __u32 at, bool six, const struct addr *a)
{
	if (six)
		return bpf_skb_store_bytes(skb, at, a, sizeof(*a), 0);
	return bpf_skb_store_bytes(skb, at, &a->w[3], 4, 0);
}

/* Makes the destination (at egress the source) what the flow says. */
ONCE int rewrite(struct __sk_buff *skb, struct packet *p, const struct addr *to, __be16 number)
{
	if (!p || !to)
		return SHOT;
	struct addr *old = p->t.at_egress ? &p->t.src : &p->t.dst;
	__be16 *old_number = p->t.at_egress ? &p->t.sport : &p->t.dport;
	int l2 = l2_of(skb), l4, check;
	__u32 at;
	__u64 flags = 0;
	__s64 diff;

	if (l2 < 0)
		return drop(DROP_FAULT);
	l4 = l2 + p->l4;
	diff = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)to, sizeof(*to), 0);
	if (p->fragment != 2) {
		check = l4 + (p->t.proto == TCP ? 16 : 6);
		if (p->t.proto == UDP)
			flags = BPF_F_MARK_MANGLED_0;
		if (bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | flags) ||
		    bpf_l4_csum_replace(skb, check, *old_number, number, sizeof(number) | flags) ||
		    bpf_skb_store_bytes(skb, l4 + (p->t.at_egress ? 0 : 2), &number, sizeof(number), 0))
			return drop(DROP_FAULT);
		/* With IPv6 the sum over the whole packet did not change, though the helper thinks so. */
		if (p->six)
			bpf_csum_update(skb, diff);
	}
	if (p->six)
		at = l2 + (p->t.at_egress ? 8 : 24);
	else
		at = l2 + (p->t.at_egress ? 12 : 16);
	if (!p->six && bpf_l3_csum_replace(skb, l2 + 10, old->w[3], to->w[3], 4))
		return drop(DROP_FAULT);
	if (put_addr(skb, at, p->six, to))
		return drop(DROP_FAULT);
	*old = *to;
	*old_number = number;
	return NEXT;
}
