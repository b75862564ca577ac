/* What the programs and the daemon share: map layouts and their values. The
 * Go side is generated from here (make generate). A change of any layout is a
 * change of `layout` in ../pins.go. */
#pragma once
#include <linux/types.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TCP 6
#define UDP 17
#define ICMP 1
#define ICMP6 58
#define MPTCP 262 /* what a hook sees of a multipath TCP socket */

/* A function that the verifier looks at once, and not again at each place that
 * calls it: without these a load takes ten times as long. Of pointers to it the
 * verifier knows their size only, and not that they are not NULL. */
#define ONCE __noinline

/* An address in network order; IPv4 as ::ffff:a.b.c.d. */
struct addr {
	__u32 w[4];
};

/* Who a packet may come from: the index of frontend.how. */
enum source { FROM_POD, FROM_NODE, FROM_OUTSIDE, SOURCES };

/* frontend.how: what happens to a connection from a source. */
enum how {
	HOW_REJECT = 0,
	HOW_DROP = 1,
	HOW_BALANCE = 2,
	HOW_ACTION = 3, /* mask of the above */
	HOW_LOCAL = 4, /* the endpoints are those of the policy Local */
	HOW_MASQUERADE = 8,
};

enum frontend_flags {
	/* The address is a ClusterIP: who has it on one of the node's links answers it himself. */
	FRONTEND_CLUSTER_IP = 1,
	/* Only sources in map ranges are admitted. */
	FRONTEND_GUARDED = 2,
	/* ... and the node is one of them. */
	FRONTEND_ADMITS_NODE = 4,
	/* A ClusterIP that another proxy balances. */
	FRONTEND_ELSEWHERE = 8,
};

/* A node port has the unspecified address of its family. proto 0 and port 0
 * are the rest of a ClusterIP. */
struct frontend_key {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 zero;
};

struct frontend {
	__u32 port; /* key of ports */
	__u8 how[SOURCES];
	__u8 flags;
};

enum port_flags { PORT_HASHED = 1 }; /* slots are a Maglev table: a flow is hashed, not drawn */

struct port {
	__u32 slots; /* of the policy Cluster */
	__u32 local; /* of the policy Local */
	__u32 flags;
	__u32 zero;
	__u64 affinity; /* ns; 0 is none */
};

#define LOCAL_SLOTS 0x80000000 /* in slot_key.slot: the policy Local */

struct slot_key {
	__u32 port;
	__u32 slot;
};

struct endpoint {
	struct addr addr;
	__be16 port;
	__u16 here; /* it may be on this node, so it may call itself */
};

/* Members are kept for ports with affinity and for UDP: where a client or a
 * flow may stay. */
enum member_flags { MEMBER_CLUSTER = 1, MEMBER_LOCAL = 2, MEMBER_SERVING = 4 };

struct member_key {
	__u32 port;
	struct addr addr;
	__be16 number;
	__u16 zero;
};

#define SERVICE_RANGES 0xffffffff

/* Longest prefix: port 0 holds the addresses of pods, SERVICE_RANGES the ranges
 * of ClusterIPs, others the source ranges of that port's load balancer IPs. */
struct range_key {
	__u32 bits; /* 32 for port, and those of addr */
	__u32 port;
	struct addr addr;
};

/* An address of the node. */
struct local {
	__u32 node_ports; /* node ports answer there */
};

/* A link that the programs are attached to. */
struct device {
	__u32 l2; /* bytes before the IP header: 14, or 0 on tunnels */
	struct addr four; /* the node's address towards it, zero for none */
	struct addr six;
};

struct client_key {
	struct addr client; /* of the node itself: its namespace's cookie */
	__u32 port;
};

struct client {
	struct addr addr;
	__be16 number;
	__u16 zero;
	__u32 zero2;
	__u64 last; /* ns since boot: its latest connection */
};

/* A packet as it is met; at_egress tells where. */
struct tuple {
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 at_egress;
	__u16 zero;
};

enum flow_flags {
	FLOW_REPLY = 1, /* from an endpoint to a client */
	FLOW_MASQUERADED = 2, /* the client's address is the node's to the endpoint */
	FLOW_PENDING = 4, /* ... which one and which port is not settled yet */
	FLOW_ESTABLISHED = 8, /* TCP: more than the SYN was seen */
	FLOW_CLOSING = 16, /* TCP: FIN or RST was seen */
};

/* At ingress a packet's destination becomes addr and port, at egress its source. */
struct flow {
	struct addr addr;
	__be16 number;
	__u16 flags;
	__u32 port; /* key of ports */
	__u32 seen; /* seconds since boot */
};

/* The first fragment has the ports, the others have this. */
struct fragment_key {
	struct addr src;
	struct addr dst;
	__u32 id;
	__u32 proto; /* and 0x100 at egress */
};

struct fragment {
	__be16 sport;
	__be16 dport;
};

/* Whom a TCP socket asked for and whom it got. It stands where its cookie says,
 * cookies being given in turn: so the last NAMES are kept, for less than a tenth
 * of what the storage of a socket takes. */
struct name {
	__u64 cookie;
	struct addr asked;
	struct addr given;
	__be16 asked_port;
	__be16 given_port;
	__u32 zero;
};

#define NAMES 65536

/* The node's own UDP sockets whose peer is not the one they asked for. */
struct peer {
	struct addr asked;
	struct addr given;
	__be16 asked_port;
	__be16 given_port;
	__u32 port; /* key of ports */
	__u32 proto;
	__u32 unconnected; /* UDP without connect: look into datagrams */
};

/* Of unconnected UDP sockets: asked -> given, and given -> asked (reply). */
struct datagram_key {
	__u64 socket; /* cookie */
	struct addr addr;
	__be16 number;
	__u16 reply;
	__u32 zero;
};

struct datagram {
	struct addr addr;
	__be16 number;
	__u16 zero;
	__u32 port; /* key of ports */
	__u32 seen; /* seconds since boot */
};

struct counter {
	__u64 connections;
	__u64 packets;
	__u64 bytes;
};

/* Packets that were dropped, by cause: the index of map drops. */
enum drop {
	DROP_NO_LOCAL_ENDPOINT,
	DROP_SOURCE_RANGE,
	DROP_NO_ENDPOINT, /* a race with a change, or a map that is full */
	DROP_NO_SNAT_PORT,
	DROP_COLLISION, /* two frontends' flows would look the same to an endpoint */
	DROP_FAULT, /* the packet could not be rewritten */
	DROPS,
};

/* What a mark is of: marks.h. */
enum mark {
	MARK_FRONTEND = 1, /* an address that has frontends, or is the node's */
	MARK_BLOCK = 2, /* a block of addresses that ClusterIPs are taken from */
	MARK_LOCAL = 3, /* an address of the node */
	MARK_SOURCE = 4, /* where answers of tracked flows come from */
	MARK_DESTINATION = 5, /* where other packets of tracked flows go to */
	MARK_GIVEN = 6, /* an endpoint that a TCP socket has got */
};

#define MARKS 131072
#define MARKS_COMPLETE 0 /* the element that tells that what has no mark is not there */

#define MAP(name_, type_, key_, value_, max_, flags_)                         \
	struct {                                                              \
		__uint(type, type_);                                          \
		__type(key, key_);                                            \
		__type(value, value_);                                        \
		__uint(max_entries, max_);                                    \
		__uint(map_flags, flags_);                                    \
	} name_ SEC(".maps")

MAP(frontends, BPF_MAP_TYPE_HASH, struct frontend_key, struct frontend, 262144, BPF_F_NO_PREALLOC);
MAP(ports, BPF_MAP_TYPE_HASH, __u32, struct port, 131072, BPF_F_NO_PREALLOC);
MAP(slots, BPF_MAP_TYPE_HASH, struct slot_key, struct endpoint, 1048576, BPF_F_NO_PREALLOC);
MAP(members, BPF_MAP_TYPE_HASH, struct member_key, __u32, 524288, BPF_F_NO_PREALLOC);
MAP(ranges, BPF_MAP_TYPE_LPM_TRIE, struct range_key, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(locals, BPF_MAP_TYPE_HASH, struct addr, struct local, 4096, BPF_F_NO_PREALLOC);
MAP(devices, BPF_MAP_TYPE_HASH, __u32, struct device, 4096, BPF_F_NO_PREALLOC);
MAP(clients, BPF_MAP_TYPE_LRU_HASH, struct client_key, struct client, 65536, 0);
MAP(flows, BPF_MAP_TYPE_LRU_HASH, struct tuple, struct flow, 131072, 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 8192, 0);
MAP(datagrams, BPF_MAP_TYPE_LRU_HASH, struct datagram_key, struct datagram, 32768, 0);
MAP(peers, BPF_MAP_TYPE_SK_STORAGE, int, struct peer, 0, BPF_F_NO_PREALLOC);
MAP(names, BPF_MAP_TYPE_ARRAY, __u32, struct name, NAMES, 0);
MAP(marks, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1 + MARKS, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_HASH, __u32, struct counter, 131072, BPF_F_NO_PREALLOC);
MAP(drops, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, DROPS, 0);

/* So that the compiler describes them to the Go side. */
const enum how *how_unused __attribute__((unused));
const enum frontend_flags *frontend_flags_unused __attribute__((unused));
const enum port_flags *port_flags_unused __attribute__((unused));
const enum member_flags *member_flags_unused __attribute__((unused));
const enum flow_flags *flow_flags_unused __attribute__((unused));
const enum mark *mark_unused __attribute__((unused));
const enum drop *drop_unused __attribute__((unused));
