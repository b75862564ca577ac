/* Balancing when a socket connects: the packets then need nothing.
 *
 * It is done only where the outcome is the same as in the packet path: never
 * where the source address would be rewritten, remembered or checked, which
 * nobody knows before there is a packet. UDP of pods is left to the packet
 * path too: there a flow can be moved at once when its endpoint leaves, and a
 * connected socket cannot. The node's own sockets never meet the packet path
 * in time (their packets are routed before any device sees them), so they are
 * balanced here in every case. */
#pragma once
#include "lookup.h"

volatile const bool can_refuse = false; /* bpf_set_retval, 5.18 */

#define ALLOW 1
#define DENY 0

static __always_inline int refuse(void)
{
	if (can_refuse)
		bpf_set_retval(-111); /* ECONNREFUSED; without it the caller hears EPERM */
	return DENY;
}

static __always_inline struct addr asked_addr(struct bpf_sock_addr *ctx, bool six)
{
	if (!six)
		return mapped(ctx->user_ip4);
	return (struct addr){ .w = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
}

static __always_inline void give(struct bpf_sock_addr *ctx, bool six, const struct addr *a, __be16 port)
{
	if (six) {
		ctx->user_ip6[0] = a->w[0];
		ctx->user_ip6[1] = a->w[1];
		ctx->user_ip6[2] = a->w[2];
		ctx->user_ip6[3] = a->w[3];
	} else {
		ctx->user_ip4 = a->w[3];
	}
	ctx->user_port = port;
}

/* Whether the address is the calling pod's own: then it can be bound to. If so
 * it now is, to what it would have got anyway. */
static __always_inline bool is_self(struct bpf_sock_addr *ctx, const struct addr *a)
{
	struct sockaddr_in {
		__u16 family;
		__be16 port;
		__u32 addr;
		__u8 zero[8];
	} four = { .family = 2, .addr = a->w[3] };
	struct sockaddr_in6 {
		__u16 family;
		__be16 port;
		__u32 flow;
		struct addr addr;
		__u32 scope;
	} six = { .family = 10, .addr = *a };

	if (ctx->family == 2)
		return bpf_bind(ctx, (void *)&four, sizeof(four)) == 0;
	return bpf_bind(ctx, (void *)&six, sizeof(six)) == 0;
}

static __always_inline struct addr own_name(__u64 netns)
{
	return (struct addr){ .w = { netns, netns >> 32, 0, 0 } };
}

/* What a socket's connection to an address becomes: ALLOW with or without
 * endpoint, DENY. */
static __always_inline int resolve(struct bpf_sock_addr *ctx, const struct addr *dst, __u8 proto, struct peer *out)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	bool node = netns == node_netns;
	struct addr client = own_name(netns);
	struct endpoint e = {};
	const struct frontend *f;
	struct port *p;
	__u8 how;

	if (!node && proto != TCP)
		return ALLOW;
	f = find(dst, ctx->user_port, proto, node);
	if (!f)
		return ALLOW;
	how = node ? f->how[FROM_NODE] : f->how[FROM_POD];
	if (f->flags & FRONTEND_GUARDED && (!node || !(f->flags & FRONTEND_ADMITS_NODE)))
		return ALLOW;
	switch (how & HOW_ACTION) {
	case HOW_REJECT:
		return node || can_refuse ? refuse() : ALLOW;
	case HOW_DROP:
		return ALLOW;
	}
	if (!node) {
		p = bpf_map_lookup_elem(&ports, &f->port);
		if (how & HOW_MASQUERADE || !p || p->affinity)
			return ALLOW;
	}
	/* No port is known yet that all nodes could hash, and the socket stays with what it gets. */
	if (!choose(f->port, &client, how & HOW_LOCAL, bpf_get_prandom_u32(), &e))
		return node ? refuse() : ALLOW;
	out->port = f->port;
	out->given = e.addr;
	out->given_port = e.port;
	/* Told by its own address to call itself, a pod would see itself as the client. */
	if (node || !e.here || !is_self(ctx, &e.addr))
		return ALLOW;
	remember_self(f->port, &e);
	return ALLOW + 1;
}

static __always_inline struct name *name_of(__u64 cookie)
{
	__u32 at = cookie % NAMES;

	return bpf_map_lookup_elem(&names, &at);
}

/* Notes whom a socket talks to. TCP ends by itself when its endpoint does; the
 * daemon has to find the others (ended.c). */
static __always_inline void keep_name(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	__u64 cookie;
	struct peer *kept;
	struct name *n;

	if (peer->proto != TCP) {
		if (!ctx->sk)
			return;
		kept = bpf_sk_storage_get(&peers, ctx->sk, (void *)peer, BPF_SK_STORAGE_GET_F_CREATE);
		if (kept)
			*kept = *peer;
		return;
	}
	cookie = bpf_get_socket_cookie(ctx);
	n = name_of(cookie);
	if (!n)
		return;
	set_mark(mark_of(MARK_GIVEN, &peer->given, peer->given_port));
	n->cookie = 0;
	barrier();
	n->asked = peer->asked;
	n->given = peer->given;
	n->asked_port = peer->asked_port;
	n->given_port = peer->given_port;
	barrier();
	n->cookie = cookie;
}

/* Forgets whom a socket talked to before, when it asks for somebody by his own name. */
static __always_inline void drop_name(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	__u64 cookie;
	struct name *n;

	if (peer->proto == TCP) {
		if (marked(MARKS_COMPLETE) && !marked(mark_of(MARK_GIVEN, &peer->asked, peer->asked_port)))
			return;
		cookie = bpf_get_socket_cookie(ctx);
		n = name_of(cookie);
		if (n && n->cookie == cookie)
			n->cookie = 0;
	}
	if (ctx->sk && bpf_sk_storage_get(&peers, ctx->sk, NULL, 0))
		bpf_sk_storage_delete(&peers, ctx->sk);
}

static __always_inline int sock_connect(struct bpf_sock_addr *ctx, bool six)
{
	struct peer peer = {};
	int verdict;

	peer.proto = ctx->protocol == MPTCP ? TCP : ctx->protocol;
	if (peer.proto != TCP && peer.proto != UDP)
		return ALLOW;
	peer.asked = asked_addr(ctx, six);
	peer.asked_port = ctx->user_port;
	verdict = maybe_frontend(&peer.asked) ? resolve(ctx, &peer.asked, peer.proto, &peer) : ALLOW;
	if (verdict != ALLOW || !peer.port) {
		drop_name(ctx, &peer);
		return verdict == DENY ? DENY : ALLOW;
	}
	keep_name(ctx, &peer);
	count(peer.port, 1, 0, 0);
	give(ctx, six, &peer.given, peer.given_port);
	return ALLOW;
}

/* A datagram of the node's own socket that is not connected. It stays with
 * the endpoint it had as long as that serves. */
static __always_inline int sock_send(struct bpf_sock_addr *ctx, bool six)
{
	struct datagram_key key = { .socket = bpf_get_socket_cookie(ctx), .number = ctx->user_port };
	struct datagram_key back = { .socket = key.socket, .reply = 1 };
	struct datagram value = {}, *d;
	struct peer peer = { .unconnected = 1, .proto = UDP };
	__u32 now = seconds();
	const struct frontend *f;
	int verdict;

	if (bpf_get_netns_cookie(ctx) != node_netns)
		return ALLOW;
	key.addr = asked_addr(ctx, six);
	d = bpf_map_lookup_elem(&datagrams, &key);
	if (d && now - d->seen < 120) {
		f = find(&key.addr, key.number, UDP, true);
		if ((draining || (f && f->port == d->port)) && is_member(d->port, &d->addr, d->number, MEMBER_SERVING)) {
			d->seen = now;
			give(ctx, six, &d->addr, d->number);
			return ALLOW;
		}
	}
	verdict = resolve(ctx, &key.addr, UDP, &peer);
	if (verdict != ALLOW || !peer.port)
		return verdict;
	value.addr = back.addr = peer.given;
	value.number = back.number = peer.given_port;
	value.port = peer.port;
	value.seen = now;
	bpf_map_update_elem(&datagrams, &key, &value, BPF_ANY);
	value.addr = key.addr;
	value.number = key.number;
	bpf_map_update_elem(&datagrams, &back, &value, BPF_ANY);
	if (ctx->sk)
		bpf_sk_storage_get(&peers, ctx->sk, &peer, BPF_SK_STORAGE_GET_F_CREATE);
	count(peer.port, 1, 0, 0);
	give(ctx, six, &peer.given, peer.given_port);
	return ALLOW;
}

/* Whom a TCP socket asked for that got somebody. */
static __always_inline bool asked_for(struct bpf_sock_addr *ctx, bool six, const struct addr *given)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct name *n = name_of(cookie);
	struct name copy;

	if (!n)
		return false;
	copy = *n;
	barrier();
	if (n->cookie != cookie || copy.cookie != cookie || copy.given_port != ctx->user_port || !same(&copy.given, given))
		return false;
	give(ctx, six, &copy.asked, copy.asked_port);
	return true;
}

/* Whom a socket talks to, when it asks: whom it asked for. */
static __always_inline int sock_name(struct bpf_sock_addr *ctx, bool six)
{
	struct addr given = asked_addr(ctx, six);
	struct datagram_key back = {};
	struct datagram *d;
	struct peer *peer;

	if (ctx->protocol != UDP && asked_for(ctx, six, &given))
		return ALLOW;
	if (!ctx->sk)
		return ALLOW;
	peer = bpf_sk_storage_get(&peers, ctx->sk, NULL, 0);
	if (!peer)
		return ALLOW;
	if (same(&peer->given, &given) && peer->given_port == ctx->user_port) {
		if (!peer->unconnected) {
			give(ctx, six, &peer->asked, peer->asked_port);
			return ALLOW;
		}
	}
	if (!peer->unconnected)
		return ALLOW;
	back.socket = bpf_get_socket_cookie(ctx);
	back.addr = given;
	back.number = ctx->user_port;
	back.reply = 1;
	d = bpf_map_lookup_elem(&datagrams, &back);
	if (d)
		give(ctx, six, &d->addr, d->number);
	return ALLOW;
}
