/* Whose a packet is, and which endpoint gets it. */
#pragma once
#include "marks.h"

volatile const __u64 node_netns = 0; /* cookie of the node's network namespace */

/* Another back end takes what begins; only what is tracked goes on here. */
volatile const bool draining = false;

static __always_inline struct addr mapped(__u32 four)
{
	return (struct addr){ .w = { 0, 0, bpf_htonl(0xffff), four } };
}

static __always_inline bool same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000;
}

static __always_inline int drop(enum drop cause)
{
	__u32 key = cause;
	__u64 *n = bpf_map_lookup_elem(&drops, &key);

	if (n)
		(*n)++;
	return 2; /* TC_ACT_SHOT */
}

static __always_inline bool in_range(__u32 port, const struct addr *a)
{
	struct range_key key = { .bits = 32 + 128, .port = port, .addr = *a };

	return bpf_map_lookup_elem(&ranges, &key) != NULL;
}

/* The frontend of an address that ClusterIPs are taken from and that no Service has. */
static const struct frontend nobody = { .how = { HOW_DROP, HOW_DROP, HOW_DROP }, .flags = FRONTEND_CLUSTER_IP };

/* The exact address and port come first, then a node port, then the rest of a
 * ClusterIP, then the ranges of ClusterIPs. A ClusterIP that somebody has put on a link of the node (a DNS
 * cache does) is his, not ours. */
static __always_inline const struct frontend *find(const struct addr *dst, __be16 port, __u8 proto, bool node_ports)
{
	struct frontend_key key = { .addr = *dst, .port = port, .proto = proto };
	const struct frontend *f;
	struct local *here;

	if (draining || !maybe_frontend(dst))
		return NULL;
	f = bpf_map_lookup_elem(&frontends, &key);
	if (!f && node_ports) {
		here = bpf_map_lookup_elem(&locals, dst);
		if (here && here->node_ports) {
			key.addr.w[0] = key.addr.w[1] = key.addr.w[3] = 0;
			key.addr.w[2] = is_four(dst) ? bpf_htonl(0xffff) : 0;
			f = bpf_map_lookup_elem(&frontends, &key);
			key.addr = *dst;
		}
	}
	if (!f) {
		key.port = 0;
		key.proto = 0;
		f = bpf_map_lookup_elem(&frontends, &key);
	}
	if (!f && in_range(SERVICE_RANGES, dst))
		f = &nobody;
	if (f && f->flags & FRONTEND_ELSEWHERE)
		return NULL;
	if (f && f->flags & FRONTEND_CLUSTER_IP && maybe_local(dst) && bpf_map_lookup_elem(&locals, dst))
		return NULL;
	return f;
}

static __always_inline bool is_member(__u32 port, const struct addr *a, __be16 number, __u32 flag)
{
	struct member_key key = { .port = port, .addr = *a, .number = number };
	__u32 *in = bpf_map_lookup_elem(&members, &key);

	return in && *in & flag;
}

/* Remembers where a client of a port with affinity goes. */
static __always_inline void remember(const struct client_key *who, const struct endpoint *e)
{
	struct client c = { .addr = e->addr, .number = e->port, .last = bpf_ktime_get_ns() };

	bpf_map_update_elem(&clients, who, &c, BPF_ANY);
}

static __always_inline bool remembered(const struct client_key *who, const struct port *p, bool local, struct endpoint *to)
{
	struct client *c = bpf_map_lookup_elem(&clients, who);

	if (!c || bpf_ktime_get_ns() - c->last > p->affinity)
		return false;
	if (!is_member(who->port, &c->addr, c->number, local ? MEMBER_LOCAL : MEMBER_CLUSTER))
		return false;
	to->addr = c->addr;
	to->port = c->number;
	to->here = 1;
	return true;
}

/* Draws an endpoint. draw is a random number, or the hash of a flow for Maglev. */
static __always_inline bool pick(__u32 id, const struct port *p, bool local, __u32 draw, struct endpoint *to)
{
	__u32 n = local ? p->local : p->slots;
	struct slot_key key = { .port = id };
	struct endpoint *e;

	if (!n)
		return false;
	key.slot = draw % n | (local ? LOCAL_SLOTS : 0);
	e = bpf_map_lookup_elem(&slots, &key);
	if (!e) { /* it became smaller between the two looks */
		key.slot = local ? LOCAL_SLOTS : 0;
		e = bpf_map_lookup_elem(&slots, &key);
	}
	if (!e)
		return false;
	*to = *e;
	return true;
}

/* A pod whose socket drew the pod itself is left to the packet path, which is
 * told so here: else it would draw again, and a pod would meet itself too rarely. */
#define SELF 0x80000000 /* in client_key.port */

static __always_inline void remember_self(__u32 id, const struct endpoint *self)
{
	struct client_key who = { .port = id | SELF, .client = self->addr };

	remember(&who, self);
}

static __always_inline bool drew_self(__u32 id, const struct addr *client, struct endpoint *to)
{
	struct client_key who = { .port = id | SELF, .client = *client };
	struct client *c = bpf_map_lookup_elem(&clients, &who);
	bool fresh;

	if (!c)
		return false;
	fresh = bpf_ktime_get_ns() - c->last < 1000000000;
	to->addr = c->addr;
	to->port = c->number;
	to->here = 1;
	bpf_map_delete_elem(&clients, &who);
	return fresh;
}

/* A hash that is the same on all nodes, other than the kernel's own. */
static __always_inline __u32 hash_word(__u32 hash, __u32 word)
{
	word *= 0xcc9e2d51;
	word = word << 15 | word >> 17;
	hash ^= word * 0x1b873593;
	hash = hash << 13 | hash >> 19;
	return hash * 5 + 0xe6546b64;
}

static __always_inline __u32 hash_end(__u32 hash)
{
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	return hash ^ hash >> 16;
}

static __always_inline __u32 hash_addr(__u32 hash, const struct addr *a)
{
	hash = hash_word(hash_word(hash, a->w[0]), a->w[1]);
	return hash_end(hash_word(hash_word(hash, a->w[2]), a->w[3]));
}

/* Of a connection, whatever address of whichever node it came to. */
static __always_inline __u32 hash_tuple(const struct tuple *t)
{
	__u32 hash = hash_word(hash_addr(0, &t->src), (__u32)t->sport << 16 | t->dport);

	return hash_end(hash_word(hash, t->proto));
}

/* The endpoint for a new connection of a client. */
ONCE int choose(__u32 id, const struct addr *client, bool local, __u32 hash, struct endpoint *to)
{
	struct port *p = bpf_map_lookup_elem(&ports, &id);
	struct client_key who = { .port = id };

	if (!p || !client || !to)
		return false;
	who.client = *client;
	if (p->affinity) /* all that a client asks goes to one endpoint, on other nodes too */
		hash = hash_addr(0, client);
	if (!p->affinity)
		return pick(id, p, local, p->flags & PORT_HASHED ? hash : bpf_get_prandom_u32(), to);
	if (!remembered(&who, p, local, to) && !pick(id, p, local, p->flags & PORT_HASHED ? hash : bpf_get_prandom_u32(), to))
		return false;
	remember(&who, to);
	return true;
}

static __always_inline void count(__u32 port, __u32 connections, __u32 packets, __u32 bytes)
{
	struct counter fresh = { .connections = connections, .packets = packets, .bytes = bytes };
	struct counter *c = bpf_map_lookup_elem(&counters, &port);

	if (!c) {
		bpf_map_update_elem(&counters, &port, &fresh, BPF_NOEXIST);
		return;
	}
	c->connections += connections;
	c->packets += packets;
	c->bytes += bytes;
}
