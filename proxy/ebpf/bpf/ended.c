/* Ends the node's own UDP sockets whose endpoint no longer serves: they are
 * connected to it, and would go on for ever. Their owners hear ECONNABORTED.
 * It runs once over all sockets of a network namespace each time it is read,
 * and writes a byte for each that stays. */
#include "abi.h"

char LICENSE[] SEC("license") = "GPL";

/* The few fields of the kernel's own types that are used; their places are
 * found when the program is loaded. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file {
	__u64 version;
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct sock_common {
	unsigned short skc_family;
};

struct sock {
	struct sock_common __sk_common;
};

struct inet_sock {
	struct sock sk;
};

struct udp_sock {
	struct inet_sock inet;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};
#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

SEC("iter/udp")
int ended(struct bpf_iter__udp *ctx)
{
	struct sock *sk = (struct sock *)ctx->udp_sk;
	struct member_key key = {};
	struct peer *peer;
	char one = 1;
	__u32 *in;

	if (!sk)
		return 0;
	peer = bpf_sk_storage_get(&peers, sk, NULL, 0);
	if (!peer || peer->unconnected || peer->proto != UDP)
		return 0;
	key.port = peer->port;
	key.addr = peer->given;
	key.number = peer->given_port;
	in = bpf_map_lookup_elem(&members, &key);
	if (!in || !(*in & MEMBER_SERVING))
		bpf_sock_destroy((struct sock_common *)sk);
	else
		bpf_seq_write(ctx->meta->seq, &one, sizeof(one));
	return 0;
}
