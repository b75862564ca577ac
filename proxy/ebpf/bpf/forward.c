/* The short way: packets of tracked flows that come in by one device and go on
 * by another, or by the same one, are sent there by the driver, before the
 * kernel has made anything of them.
 *
 * Nothing is decided here. What begins is decided at the devices' own hooks
 * (proxy.c), where the kernel routes and filters it; of what is tracked this
 * program does to a packet what both hooks on its way would do, in one step.
 * Whatever it cannot do takes the long way, untouched. */
#include "tracked.h"

char LICENSE[] SEC("license") = "GPL";

enum exit_flags {
	EXIT_SENDS = 1, /* it sends what programs at any device redirect to it */
	EXIT_RETURNS = 2, /* and XDP_TX works: not on veth, whose other end nobody wakes then */
};

/* A device that this program is on. */
struct exit {
	__u16 mac[3];
	__u16 flags;
};

MAP(exits, BPF_MAP_TYPE_HASH, __u32, struct exit, 256, BPF_F_NO_PREALLOC);
MAP(forwarded, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1, 0);

const enum exit_flags *exit_flags_unused __attribute__((unused));

struct ether {
	__u16 dst[3];
	__u16 src[3];
	__be16 type;
};

struct udp {
	__be16 sport, dport, len;
	__u16 check;
};

/* Frames for others come by too, where a switch has forgotten whom to give them to. */
static __always_inline bool is_for(const struct ether *e, const struct exit *device)
{
	return e->dst[0] == device->mac[0] && e->dst[1] == device->mac[1] && e->dst[2] == device->mac[2];
}

/* A packet of a family: where things are in it, and what they say. The family
 * is known where the program is compiled, so that each has a path of its own. */
struct view {
	struct packet p;
	void *l3, *l4, *end;
	__u32 len; /* from the IP header on */
	__u16 sum; /* of the transport */
};

#define AFTER(at, end) ((void *)((at) + 1) > (end))

static __always_inline bool view_ip4(struct view *v)
{
	struct ip4 *ip = v->l3;

	if (AFTER(ip, v->end) || ip->version_ihl != 0x45 || ip->frag & bpf_htons(0x3fff) || ip->ttl < 2)
		return false;
	v->l4 = ip + 1;
	v->len = bpf_ntohs(ip->len);
	v->p.t.src = mapped(ip->src);
	v->p.t.dst = mapped(ip->dst);
	v->p.t.proto = ip->proto;
	return true;
}

static __always_inline bool view_ip6(struct view *v)
{
	struct ip6 *ip = v->l3;

	if (AFTER(ip, v->end) || ip->hops < 2)
		return false;
	v->l4 = ip + 1;
	v->len = bpf_ntohs(ip->len) + sizeof(*ip);
	v->p.six = 1;
	v->p.t.src = ip->src;
	v->p.t.dst = ip->dst;
	v->p.t.proto = ip->next;
	return true;
}

/* Reads a packet; false when it takes the long way. A SYN does: it may begin something. */
static __always_inline bool view(struct view *v, bool six)
{
	if ((six ? !view_ip6(v) : !view_ip4(v)) || v->end - v->l3 < v->len)
		return false;
	if (v->p.t.proto == TCP) {
		struct tcp *t = v->l4;

		if (AFTER(t, v->end) || t->flags & TH_SYN)
			return false;
		v->p.flags = t->flags;
		v->p.t.sport = t->sport;
		v->p.t.dport = t->dport;
		v->sum = t->check;
		return true;
	}
	if (v->p.t.proto == UDP) {
		struct udp *u = v->l4;

		if (AFTER(u, v->end))
			return false;
		v->p.t.sport = u->sport;
		v->p.t.dport = u->dport;
		v->sum = u->check;
		return true;
	}
	return false;
}

static __always_inline __u16 folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* A packet from a virtual device of this machine may have the sum of its pseudo
 * header only: the rest is the sending device's to add, which this is not. */
static __always_inline bool is_partial(const struct view *v, bool six)
{
	struct {
		struct addr src, dst;
		__be32 len, proto;
	} h = { .src = v->p.t.src, .dst = v->p.t.dst, .proto = bpf_htonl(v->p.t.proto) };

	h.len = bpf_htonl(v->len - (six ? sizeof(struct ip6) : sizeof(struct ip4)));
	if (!six) /* the mapped prefix is no part of it */
		h.src.w[2] = h.dst.w[2] = 0;
	return folded((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&h, sizeof(h), 0)) == v->sum;
}

/* What the sums are over, of what changes. */
struct ends {
	struct addr src, dst;
	__be16 ports[2];
};

static __always_inline struct ends ends_of(const struct tuple *t)
{
	return (struct ends){ .src = t->src, .dst = t->dst, .ports = { t->sport, t->dport } };
}

static __always_inline void put_ip4(struct ip4 *ip, const struct tuple *to)
{
	__be32 old[2] = { ip->src, ip->dst }, new[2] = { to->src.w[3], to->dst.w[3] };
	__u64 sum = (__u32)bpf_csum_diff(old, sizeof(old), new, sizeof(new), (__u16)~ip->check);

	/* and one less to live, which is the upper byte of its word */
	ip->check = ~folded(sum + (__u16)~bpf_htons(0x0100));
	ip->src = new[0];
	ip->dst = new[1];
	ip->ttl--;
}

static __always_inline void put_ip6(struct ip6 *ip, const struct tuple *to)
{
	ip->src = to->src;
	ip->dst = to->dst;
	ip->hops--;
}

/* Writes the new addresses and ports. The packet is as long as it was when it
 * was read; old verifiers have forgotten. */
static __always_inline bool put(struct view *v, const struct tuple *to, bool six)
{
	struct ends old = ends_of(&v->p.t), new = ends_of(to);
	__u16 sum = ~folded((__u32)bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), (__u16)~v->sum));

	if (v->p.t.proto == TCP) {
		struct tcp *t = v->l4;

		if (AFTER(t, v->end))
			return false;
		t->sport = to->sport;
		t->dport = to->dport;
		t->check = sum;
	} else {
		struct udp *u = v->l4;

		if (AFTER(u, v->end))
			return false;
		u->sport = to->sport;
		u->dport = to->dport;
		if (v->sum) /* none stays none */
			u->check = sum ? sum : 0xffff;
	}
	if (six)
		put_ip6(v->l3, to);
	else
		put_ip4(v->l3, to);
	return true;
}

/* The flow that a packet is of at a device where it comes in, if it goes on. */
static __always_inline struct flow *incoming(const struct packet *p)
{
	struct flow *f = bpf_map_lookup_elem(&flows, &p->t);
	const struct frontend *to = NULL;

	if (!f || f->flags & FLOW_REPLY)
		return f;
	if (p->t.proto == UDP)
		to = find(&p->t.dst, p->t.dport, UDP, true);
	return still_right(p, f, to) ? f : NULL;
}

/* Asks for the way of a packet as it is between the two hooks. */
static __always_inline bool way(struct xdp_md *ctx, const struct view *v, const struct tuple *t, struct bpf_fib_lookup *fib, bool six)
{
	fib->ifindex = ctx->ingress_ifindex;
	fib->l4_protocol = t->proto;
	fib->sport = t->sport;
	fib->dport = t->dport;
	fib->tot_len = v->len;
	if (!six) {
		fib->family = 2;
		fib->tos = ((struct ip4 *)v->l3)->tos;
		fib->ipv4_src = t->src.w[3];
		fib->ipv4_dst = t->dst.w[3];
	} else {
		fib->family = 10;
		fib->flowinfo = ((struct ip6 *)v->l3)->version & bpf_htonl(0x0fffffff);
		*(struct addr *)fib->ipv6_src = t->src;
		*(struct addr *)fib->ipv6_dst = t->dst;
	}
	return bpf_fib_lookup(ctx, fib, sizeof(*fib), 0) == BPF_FIB_LKUP_RET_SUCCESS;
}

/* How what came in by one device is sent out by another; XDP_PASS when it cannot be. */
static __always_inline int leave(__u32 in, __u32 out, const struct exit *from)
{
	struct exit *to;

	if (in == out && from->flags & EXIT_RETURNS)
		return XDP_TX;
	to = bpf_map_lookup_elem(&exits, &out);
	return to && to->flags & EXIT_SENDS ? XDP_REDIRECT : XDP_PASS;
}

/* Notes that both of a packet's flows are alive, as the two hooks do. */
static __always_inline void note(const struct packet *p, struct flow *f, const struct packet *q, struct flow *g, __u32 bytes)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&forwarded, &zero);

	if (touch(f, p) && !(f->flags & FLOW_REPLY))
		keep_answer(p, f, false);
	if (g && touch(g, q) && !(g->flags & FLOW_REPLY))
		keep_answer(q, g, true);
	count(f->port, 0, 1, bytes);
	if (n)
		(*n)++;
}

/* Sends a packet on when it is of a known flow and its way is known; else it takes the long way. */
static __always_inline int send_on(struct xdp_md *ctx, struct ether *e, const struct exit *from, bool six)
{
	struct view v = { .l3 = e + 1, .end = (void *)(long)ctx->data_end };
	struct bpf_fib_lookup fib = {};
	struct packet q;
	struct flow *f, *g;
	struct tuple to;
	int how;

	if (!view(&v, six))
		return XDP_PASS;
	f = incoming(&v.p);
	if (!f)
		return XDP_PASS;
	q = v.p;
	q.t.dst = f->addr;
	q.t.dport = f->number;
	q.t.at_egress = 1;
	g = bpf_map_lookup_elem(&flows, &q.t);
	if (g ? g->flags & FLOW_PENDING : f->flags & FLOW_MASQUERADED)
		return XDP_PASS;
	if (g && q.t.proto == UDP && g->flags & FLOW_REPLY && seconds() - g->seen > UDP_IDLE)
		return XDP_PASS;
	to = q.t;
	if (g) {
		to.src = g->addr;
		to.sport = g->number;
	}
	if (is_partial(&v, six) || !way(ctx, &v, &q.t, &fib, six))
		return XDP_PASS;
	how = leave(ctx->ingress_ifindex, fib.ifindex, from);
	if (how == XDP_PASS || !put(&v, &to, six))
		return XDP_PASS;
	__builtin_memcpy(e->dst, fib.dmac, sizeof(fib.dmac));
	__builtin_memcpy(e->src, fib.smac, sizeof(fib.smac));
	note(&v.p, f, &q, g, sizeof(*e) + v.len);
	return how == XDP_TX ? XDP_TX : bpf_redirect(fib.ifindex, 0);
}

SEC("xdp")
int forward(struct xdp_md *ctx)
{
	struct ether *e = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 in = ctx->ingress_ifindex;
	struct exit *from = bpf_map_lookup_elem(&exits, &in);

	if (!from || AFTER(e, end) || !is_for(e, from))
		return XDP_PASS;
	if (e->type == ETH_IP)
		return send_on(ctx, e, from, false);
	if (e->type == ETH_IP6)
		return send_on(ctx, e, from, true);
	return XDP_PASS;
}
