/* Flows that begin: see tracked.h for what they are. */
#pragma once
#include "packet.h"
#include "tracked.h"

volatile const __u16 snat_first = 1024; /* below node ports and ephemeral ports: */
volatile const __u16 snat_last = 29999; /* nobody on the node takes those by himself */

#define SNAT_TRIES 24
#define SNAT_IDLE 7200 /* seconds after which a port may be taken from its flow */

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
	if (write_flow(&answer, &back, BPF_ANY))
		return false;
	if (masquerade) {
		if (write_flow(&onward, &out, BPF_ANY))
			return false;
	} else {
		bpf_map_delete_elem(&flows, &onward);
	}
	return write_flow(&begun, &to, BPF_ANY) == 0;
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
		if (write_flow(&answer, &back, other ? BPF_ANY : BPF_NOEXIST))
			continue;
		f->addr = self;
		f->number = answer.dport;
		f->flags &= ~FLOW_PENDING;
		return true;
	}
	return false;
}
