/* Tracked flows: what the packets of a connection become.
 *
 * As netfilter's NAT does, destinations change when a packet comes in and
 * sources when it goes out, so that between the two the node routes and
 * filters what really travels, and reverse path filters are content:
 *
 *	ingress  client -> frontend     destination becomes the endpoint
 *	egress   client -> endpoint     source becomes the node's   (masqueraded)
 *	ingress  endpoint -> node       destination becomes the client   (masqueraded)
 *	egress   endpoint -> client     source becomes the frontend
 *
 * Each line is an entry of map flows by itself. */
#pragma once
#include "headers.h"

#define UDP_IDLE 120 /* seconds; as conntrack's for streams */
#define TCP_IDLE 120 /* seconds after which a SYN is a new connection's */

static __always_inline bool is_syn(const struct packet *p)
{
	return p->t.proto == TCP && (p->flags & (TH_SYN | TH_ACK)) == TH_SYN;
}

/* The answer's tuple where it is met next: at the other hook. */
static __always_inline struct tuple answer_of(const struct addr *from, __be16 from_number, const struct addr *to,
					      __be16 to_number, const struct packet *p, bool at_egress)
{
	return (struct tuple){
		.src = *from, .sport = from_number, .dst = *to, .dport = to_number,
		.proto = p->t.proto, .at_egress = at_egress,
	};
}

/* Notes that a flow is alive; true for its first packet in a second. */
static __always_inline bool touch(struct flow *f, const struct packet *p)
{
	__u32 now = seconds();
	bool fresh = f->seen != now;

	if (fresh)
		f->seen = now;
	if (p->t.proto == TCP) {
		if (!is_syn(p) && !(f->flags & FLOW_ESTABLISHED))
			f->flags |= FLOW_ESTABLISHED;
		if (p->flags & (TH_FIN | TH_RST))
			f->flags |= FLOW_CLOSING;
	}
	return fresh;
}

/* Every flow is written here: one without its mark would not be found. */
static __always_inline long write_flow(const struct tuple *t, const struct flow *f, __u64 flags)
{
	mark_flow(t, f);
	return bpf_map_update_elem(&flows, t, f, flags);
}

/* A flow's opposite may have been evicted by itself: put back, it is as before.
 * Once a second is enough, as the idlest are evicted. */
static __always_inline void keep_answer(const struct packet *p, const struct flow *f, bool at_egress)
{
	struct tuple back = at_egress ? answer_of(&p->t.dst, p->t.dport, &f->addr, f->number, p, false) :
					answer_of(&f->addr, f->number, &p->t.src, p->t.sport, p, true);
	struct flow value = { .flags = FLOW_REPLY, .port = f->port, .seen = f->seen };

	if (bpf_map_lookup_elem(&flows, &back))
		return;
	value.addr = at_egress ? p->t.src : p->t.dst;
	value.number = at_egress ? p->t.sport : p->t.dport;
	write_flow(&back, &value, BPF_NOEXIST);
}

static __always_inline bool closing(const struct packet *p, const struct flow *f)
{
	struct tuple back = answer_of(&f->addr, f->number, &p->t.src, p->t.sport, p, true);
	struct flow *r = bpf_map_lookup_elem(&flows, &back);

	return f->flags & FLOW_CLOSING || (r && r->flags & FLOW_CLOSING);
}

/* Whether a flow from a client to a frontend goes on as it did. UDP does as
 * long as the endpoint serves; a SYN begins something new unless it is
 * repeated or the old connection may be alive. */
static __always_inline bool still_right(const struct packet *p, const struct flow *f, const struct frontend *to)
{
	__u32 idle = seconds() - f->seen;

	if (p->t.proto == UDP)
		return (draining || (to && to->port == f->port)) && idle < UDP_IDLE &&
		       is_member(f->port, &f->addr, f->number, MEMBER_SERVING);
	if (!is_syn(p))
		return true;
	if (!draining && (!to || to->port != f->port))
		return false;
	return idle < TCP_IDLE && !closing(p, f);
}
