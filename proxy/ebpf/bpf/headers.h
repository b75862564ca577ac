/* What packets look like. */
#pragma once
#include "lookup.h"

#define ETH_IP bpf_htons(0x0800)
#define ETH_IP6 bpf_htons(0x86dd)

#define TH_FIN 1
#define TH_SYN 2
#define TH_RST 4
#define TH_ACK 16

struct ip4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 len;
	__be16 id;
	__be16 frag;
	__u8 ttl;
	__u8 proto;
	__u16 check;
	__u32 src;
	__u32 dst;
};

struct ip6 {
	__be32 version;
	__be16 len;
	__u8 next;
	__u8 hops;
	struct addr src;
	struct addr dst;
};

struct tcp {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 offset, flags;
	__be16 window;
	__u16 check, urgent;
};

struct packet {
	struct tuple t;
	__u32 l4; /* where the transport header begins, from the IP header on */
	__u32 fragment; /* 0: whole; 1: the first; 2: another */
	__u8 six;
	__u8 flags; /* TCP */
	__u8 icmp_error; /* it is about another packet */
	__u8 icmp_echo;
};
