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
#include "packet.h"

volatile const __u16 snat_first = 1024; /* below node ports and ephemeral ports: */
volatile const __u16 snat_last = 29999; /* nobody on the node takes those by himself */

#define UDP_IDLE 120 /* seconds; as conntrack's for streams */
#define TCP_IDLE 120 /* seconds after which a SYN is a new connection's */
#define SNAT_TRIES 24
#define SNAT_IDLE 7200 /* seconds after which a port may be taken from its flow */

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
	bpf_map_update_elem(&flows, &back, &value, BPF_NOEXIST);
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

/* Notes a new flow. False: its answers could not be told from another's. In
 * the last resort a new UDP flow takes them over: most likely it is another
 * socket that has got the number of one that was closed. */
ONCE int begin(const struct packet *p, __u32 port, const struct endpoint *e, bool masquerade, bool last)
{
	if (!p || !e)
		return false;
	struct tuple begun = p->t; /* before 6.2, only what is on the stack can be a key */
	struct flow to = { .addr = e->addr, .number = e->port, .port = port, .seen = seconds() };
	struct flow back = { .addr = p->t.dst, .number = p->t.dport, .port = port, .seen = to.seen, .flags = FLOW_REPLY };
	struct flow out = { .addr = {}, .port = port, .seen = to.seen, .flags = FLOW_MASQUERADED | FLOW_PENDING };
	struct tuple answer = answer_of(&e->addr, e->port, &p->t.src, p->t.sport, p, true);
	struct tuple onward = answer_of(&p->t.src, p->t.sport, &e->addr, e->port, p, true);
	struct flow *other = bpf_map_lookup_elem(&flows, &answer);

	if (other && !(last && p->t.proto == UDP) && !(same(&other->addr, &p->t.dst) && other->number == p->t.dport) &&
	    !(other->flags & FLOW_CLOSING) && to.seen - other->seen < UDP_IDLE)
		return false;
	if (masquerade)
		to.flags |= FLOW_MASQUERADED;
	if (bpf_map_update_elem(&flows, &answer, &back, BPF_ANY))
		return false;
	if (masquerade) {
		if (bpf_map_update_elem(&flows, &onward, &out, BPF_ANY))
			return false;
	} else {
		bpf_map_delete_elem(&flows, &onward);
	}
	return bpf_map_update_elem(&flows, &begun, &to, BPF_ANY) == 0;
}

/* A SYN to no frontend. When a translated flow of the same client with the
 * same endpoint is over, what is left of it must not translate this one's
 * answers. While it is alive, the two cannot be told apart: the SYN is dropped,
 * and comes again. */
ONCE int direct(const struct packet *p)
{
	if (!p)
		return SHOT;
	struct tuple answer = answer_of(&p->t.dst, p->t.dport, &p->t.src, p->t.sport, p, true);
	struct tuple onward = p->t;
	struct tuple begun = p->t;
	struct flow *r = bpf_map_lookup_elem(&flows, &answer);
	struct flow *f;

	if (!r || !(r->flags & FLOW_REPLY))
		return NEXT;
	begun.dst = r->addr;
	begun.dport = r->number;
	f = bpf_map_lookup_elem(&flows, &begun);
	if (f && !(f->flags & FLOW_ESTABLISHED) && same(&f->addr, &p->t.dst) && f->number == p->t.dport)
		return NEXT; /* it is that flow's own SYN, on a bridge behind the device where it was translated */
	if (f && !((f->flags | r->flags) & FLOW_CLOSING) && seconds() - f->seen < TCP_IDLE)
		return drop(DROP_COLLISION);
	onward.at_egress = 1;
	bpf_map_delete_elem(&flows, &onward);
	bpf_map_delete_elem(&flows, &begun);
	bpf_map_delete_elem(&flows, &answer);
	return NEXT;
}

/* Settles which of the node's addresses and ports a masqueraded flow gets:
 * the address belongs to the device that it leaves by. */
ONCE int settle(struct __sk_buff *skb, const struct packet *p, struct flow *f)
{
	if (!p || !f)
		return false;
	struct flow back = { .addr = p->t.src, .number = p->t.sport, .port = f->port, .seen = seconds(),
			     .flags = FLOW_REPLY | FLOW_MASQUERADED };
	__u32 index = skb->ifindex, range = snat_last - snat_first + 1;
	struct device *d = bpf_map_lookup_elem(&devices, &index);
	struct flow *other;
	struct tuple answer;
	struct addr self;
	__u16 number;

	if (!d)
		return false;
	self = p->six ? d->six : d->four;
	if (!(self.w[0] | self.w[1] | self.w[2] | self.w[3]))
		return false;
	answer = answer_of(&p->t.dst, p->t.dport, &self, 0, p, false);
#pragma clang loop unroll(disable)
	for (int i = 0; i < SNAT_TRIES; i++) {
		number = snat_first + bpf_get_prandom_u32() % range;
		answer.dport = bpf_htons(number);
		other = bpf_map_lookup_elem(&flows, &answer);
		if (other && !(other->flags & FLOW_CLOSING) && back.seen - other->seen < SNAT_IDLE)
			continue;
		if (other && i < SNAT_TRIES / 2)
			continue; /* one that nobody had is better */
		if (bpf_map_update_elem(&flows, &answer, &back, other ? BPF_ANY : BPF_NOEXIST))
			continue;
		f->addr = self;
		f->number = answer.dport;
		f->flags &= ~FLOW_PENDING;
		return true;
	}
	return false;
}
