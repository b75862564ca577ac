/* The service proxy's programs: see ../doc.go for what they are for. */
#include "about.h"
#include "refuse.h"
#include "socket.h"

char LICENSE[] SEC("license") = "GPL";

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return sock_connect(ctx, false);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return sock_connect(ctx, true);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return sock_send(ctx, false);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return sock_send(ctx, true);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return sock_name(ctx, false);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return sock_name(ctx, true);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return sock_name(ctx, false);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return sock_name(ctx, true);
}

/* Packets that travel as one are counted one by one. */
static __always_inline __u32 packets_of(const struct __sk_buff *skb)
{
	return skb->gso_segs > 1 ? skb->gso_segs : 1;
}

#define PICKS 4

/* The first packet of a connection to a frontend. An endpoint whose answers
 * could not be told from those of another frontend is not taken, if there is another. */
static __always_inline int first(struct __sk_buff *skb, struct packet *p, const struct frontend *f)
{
	__u8 how = f->how[in_range(0, &p->t.src) ? FROM_POD : FROM_OUTSIDE];
	__u32 hash = hash_tuple(&p->t);
	bool local = how & HOW_LOCAL;
	struct endpoint e = {};

	if (f->flags & FRONTEND_GUARDED && !in_range(f->port, &p->t.src))
		return drop(DROP_SOURCE_RANGE);
	switch (how & HOW_ACTION) {
	case HOW_REJECT:
		return send_refusal(skb, p);
	case HOW_DROP:
		return drop(DROP_NO_LOCAL_ENDPOINT);
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < PICKS; i++) {
		if (!(how & HOW_MASQUERADE) && i == 0 && drew_self(f->port, &p->t.src, &e))
			; /* and so it shall be */
		else if (!choose(f->port, &p->t.src, local, hash + i, &e))
			return send_refusal(skb, p); /* the last one left between two looks */
		if (begin(p, f->port, &e, how & HOW_MASQUERADE || (e.here && same(&e.addr, &p->t.src)), i == PICKS - 1)) {
			count(f->port, 1, packets_of(skb), skb->len);
			return rewrite(skb, p, &e.addr, e.port);
		}
	}
	return drop(DROP_COLLISION);
}

/* What is read of a packet to tell that it is nobody's. */
struct ends {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 offset, flags;
} __attribute__((packed));

static __always_inline bool read_ends4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		struct ip4 ip;
		struct ends of;
	} __attribute__((packed)) h;

	if (load(skb, 0, &h, sizeof(h)) || h.ip.version_ihl != 0x45 || h.ip.frag & bpf_htons(0x3fff))
		return false;
	p->t = (struct tuple){ .src = mapped(h.ip.src), .dst = mapped(h.ip.dst), .sport = h.of.sport, .dport = h.of.dport, .proto = h.ip.proto };
	p->flags = h.of.flags;
	return true;
}

static __always_inline bool read_ends6(struct __sk_buff *skb, struct packet *p)
{
	struct {
		struct ip6 ip;
		struct ends of;
	} __attribute__((packed)) h;

	if (load(skb, 0, &h, sizeof(h)))
		return false;
	p->t = (struct tuple){ .src = h.ip.src, .dst = h.ip.dst, .sport = h.of.sport, .dport = h.of.dport, .proto = h.ip.next };
	p->flags = h.of.flags;
	return true;
}

/* Whether a packet is certainly nobody's: no flow's, and where it may begin one, to no frontend. */
ONCE int is_nobodys(struct __sk_buff *skb, bool begins)
{
	struct packet p = {};

	if (skb->protocol == ETH_IP ? !read_ends4(skb, &p) : skb->protocol != ETH_IP6 || !read_ends6(skb, &p))
		return false;
	if (p.t.proto != TCP && p.t.proto != UDP)
		return false;
	if (maybe_flow(&p.t))
		return false;
	return !begins || (p.t.proto == TCP && !is_syn(&p)) || !maybe_frontend(&p.t.dst);
}

SEC("tc/ingress")
int ingress(struct __sk_buff *skb)
{
	struct packet p = {};
	const struct frontend *to = NULL;
	bool looked = false;
	struct flow *f;

	if (is_nobodys(skb, true))
		return NEXT;
	if (read_packet(skb, &p, false))
		return NEXT;
	if (p.icmp_error)
		return translate_error(skb, &p);
	f = bpf_map_lookup_elem(&flows, &p.t);
	if (p.t.proto != TCP || is_syn(&p)) {
		if (!f || !(f->flags & FLOW_REPLY)) {
			to = find(&p.t.dst, p.t.dport, p.t.proto, true);
			looked = true;
		}
	}
	if (f && (f->flags & FLOW_REPLY || still_right(&p, f, to))) {
		bool fresh = touch(f, &p);

		if (!(f->flags & FLOW_REPLY)) { /* answers are counted when they leave */
			if (fresh)
				keep_answer(&p, f, false);
			count(f->port, 0, packets_of(skb), skb->len);
		}
		return rewrite(skb, &p, &f->addr, f->number);
	}
	if (draining && f) /* it is over: what begins by its numbers is another's */
		bpf_map_delete_elem(&flows, &p.t);
	if (!looked || !to)
		return is_syn(&p) && !f ? direct(&p) : NEXT;
	if (f)
		bpf_map_delete_elem(&flows, &p.t);
	return first(skb, &p, to);
}

/* What a socket of the node sends to a frontend by itself: the hooks let it
 * pass only because it must not get anywhere. */
static __always_inline int own(struct packet *p)
{
	const struct frontend *f = find(&p->t.dst, p->t.dport, p->t.proto, false);

	if (!f)
		return NEXT;
	if (f->flags & FRONTEND_GUARDED && !in_range(f->port, &p->t.src))
		return drop(DROP_SOURCE_RANGE);
	if ((f->how[FROM_NODE] & HOW_ACTION) == HOW_DROP)
		return drop(DROP_NO_LOCAL_ENDPOINT);
	return NEXT;
}

SEC("tc/egress")
int egress(struct __sk_buff *skb)
{
	struct packet p = {};
	struct flow *f;
	bool fresh;

	if (is_nobodys(skb, !skb->ingress_ifindex))
		return NEXT;
	if (read_packet(skb, &p, true))
		return NEXT;
	if (p.icmp_error)
		return translate_error(skb, &p);
	/* What a socket of the node begins is nobody's answer: no flow is looked for. */
	if (!skb->ingress_ifindex && is_syn(&p))
		return own(&p);
	f = bpf_map_lookup_elem(&flows, &p.t);
	if (!f) {
		if (!skb->ingress_ifindex && p.t.proto == UDP)
			return own(&p);
		return NEXT;
	}
	/* A client that asks the endpoint itself, long after it asked a frontend, is not answered by that. */
	if (p.t.proto == UDP && f->flags & FLOW_REPLY && seconds() - f->seen > UDP_IDLE)
		return NEXT;
	if (f->flags & FLOW_PENDING && !settle(skb, &p, f))
		return drop(DROP_NO_SNAT_PORT);
	fresh = touch(f, &p);
	if (f->flags & FLOW_REPLY)
		count(f->port, 0, packets_of(skb), skb->len);
	else if (fresh)
		keep_answer(&p, f, true);
	return rewrite(skb, &p, &f->addr, f->number);
}
