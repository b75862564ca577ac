/* Answers questions for names of the cluster where they arrive: see ../doc.go.
 * What is not understood to the last byte goes on to the socket. */
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

/* The layouts below are shared with slot.go, which is generated from here. */
#define NAME 96 /* the longest name, in wire form with its root */
#define BODY 256 /* the records of one name */
#define LABELS 12
#define SERVERS 8
#define SOA 54
#define OPT 11
#define RECORD4 16 /* an address record with a pointer as its owner */
#define RECORD6 28

#define IPV4 0x0800
#define UDP 17

/* What is counted, by type of the question. */
enum asked { ASKED_A, ASKED_AAAA, ASKED_SRV, ASKED_TXT, ASKED_MX, ASKED_HTTPS, ASKED_TYPES };

/* slot.elsewhere: the records of that type did not fit, so the socket has them. */
enum elsewhere { V4_ELSEWHERE = 1, V6_ELSEWHERE = 2, SRV_ELSEWHERE = 4 };

/* What is answered at one name. Written while no name refers to it, and not
 * again until a second after the last name did: whoever found it can read it. */
struct slot {
	__u64 name[NAME / 8]; /* wire form, lower case, zeros behind it */
	__u16 srv_len; /* SRV records and additional ones are at the beginning of body */
	__u8 srv;
	__u8 extras;
	__u8 v4_at;
	__u8 v4;
	__u8 v6_at;
	__u8 v6;
	__u8 elsewhere;
	__u8 zero[7];
	__u8 body[BODY];
};

struct counts {
	__u64 answers[ASKED_TYPES];
	__u64 turn;
};

const volatile __be32 servers[SERVERS] = {}; /* zeros at the end */
const volatile __be16 port = 0;
const volatile __u32 domain_len = 0; /* in wire form */
const volatile __u8 soa[SOA] = {}; /* as at the domain itself; see put_soa */

/* The revision of the zone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __be32);
} serial SEC(".maps");

/* The hash of a name to its slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counted SEC(".maps");

struct head {
	__u8 to[6], from[6];
	__be16 ethertype;
	__u8 version, tos;
	__be16 len, id, fragment;
	__u8 ttl, proto;
	__u16 sum;
	__be32 src, dst;
	__be16 sport, dport, udp_len;
	__u16 check;
	__be16 query, flags, questions, answers, authorities, additional;
} __attribute__((packed));

#define ETHERNET offsetof(struct head, version)
#define IP_LEN (offsetof(struct head, sport) - ETHERNET)
#define HEADER 12 /* of DNS */

#define QR 0x8000
#define OPCODE 0x7800
#define AA 0x0400
#define RD 0x0100
#define RA 0x0080
#define CD 0x0010

/* A question that was understood. */
struct query {
	__u64 name[NAME / 8 + 2];
	__u32 name_len;
	__be16 flags;
	__u16 type;
	bool edns, want_dnssec, partial;
};

/* What is in the records of a reply. */
struct records {
	__u32 len;
	__u16 answers, authorities, extras;
};

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The sum of the pseudo header; it is the same in both directions. */
static __always_inline __u16 pseudo(const struct head *h, __be16 len)
{
	return fold((h->src & 0xffff) + (h->src >> 16) + (h->dst & 0xffff) + (h->dst >> 16) + bpf_htons(UDP) + len);
}

static __always_inline bool served(__be32 addr)
{
	for (int i = 0; i < SERVERS; i++) {
		if (!servers[i])
			return false;
		if (servers[i] == addr)
			return true;
	}
	return false;
}

/* An IPv4 packet of UDP, whole and without options, to one of the servers,
 * with one question and at most one additional record. */
static __always_inline bool is_query(const struct head *h, __u32 len)
{
	return h->ethertype == bpf_htons(IPV4) && !(h->to[0] & 1) && h->version == 0x45 && !(h->fragment & bpf_htons(0x3fff)) &&
	       h->proto == UDP && served(h->dst) && h->dport == port && h->sport &&
	       bpf_ntohs(h->len) == len - ETHERNET && bpf_ntohs(h->udp_len) == len - ETHERNET - IP_LEN &&
	       !(h->flags & bpf_htons(QR | OPCODE)) && h->questions == bpf_htons(1) && !h->answers && !h->authorities &&
	       (!h->additional || h->additional == bpf_htons(1));
}

/* Eight letters at once: to a byte between 'A' and 'Z', and no other, 0x20 is added. */
static __always_inline __u64 lower(__u64 w)
{
	const __u64 ones = 0x0101010101010101ull;
	__u64 low = w & (ones * 0x7f), least = low + ones * (0x80 - 'A'), beyond = low + ones * (0x7f - 'Z');

	return w | ((least & ~beyond & ~w & (ones * 0x80)) >> 2);
}

/* Reads name, type and class. Lengths of labels are no letters, so lower() may
 * have the whole name. */
static __always_inline bool read_question(struct xdp_md *ctx, __u32 len, struct query *q)
{
	__u8 *bytes = (__u8 *)q->name;
	__u32 n = len - sizeof(struct head), off = 0;
	__u8 c = 1;

	if (n > sizeof(q->name))
		n = sizeof(q->name);
	if (n < 6 || bpf_xdp_load_bytes(ctx, sizeof(struct head), bytes, n))
		return false;
	for (int i = 0; i < LABELS; i++) {
		c = bytes[off & 127];
		if (!c)
			break;
		off += c + 1;
		if (c > 63 || off >= NAME)
			return false;
	}
	if (c || off >= NAME || sizeof(struct head) + off + 5 > len)
		return false;
	q->name_len = off + 1;
	q->type = (__u16)bytes[off + 1] << 8 | bytes[off + 2];
	if (bytes[off + 3] || bytes[off + 4] != 1) /* IN */
		return false;
	return true;
}

/* Reads what is behind the question: nothing, or an OPT record. */
static __always_inline bool read_extra(struct xdp_md *ctx, __u32 rest, bool some, struct query *q)
{
	__u8 opt[OPT];

	q->edns = some;
	if (!some)
		return !rest;
	if (rest < OPT || bpf_xdp_load_bytes(ctx, sizeof(struct head) + q->name_len + 4, opt, OPT))
		return false;
	q->want_dnssec = opt[7] & 0x80;
	return !opt[0] && !opt[1] && opt[2] == 41 && !opt[6] && ((__u32)opt[9] << 8 | opt[10]) == rest - OPT;
}

/* The name in lower case with zeros behind it, and its hash; slot.go has the same. */
static __always_inline __u64 hash_name(struct query *q)
{
	__u64 h = 0xcbf29ce484222325ull;

	for (int i = 0; i < NAME / 8; i++) {
		__s32 left = (__s32)q->name_len - 8 * i;

		if (left <= 0) {
			q->name[i] = 0;
			continue;
		}
		if (left < 8)
			q->name[i] &= (1ull << ((8 * left) & 63)) - 1;
		q->name[i] = lower(q->name[i]);
		h = (h ^ q->name[i]) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	return h;
}

static __always_inline struct slot *find(struct query *q)
{
	__u64 h = hash_name(q);
	__u32 *at = bpf_map_lookup_elem(&names, &h), i;
	struct slot *s;

	if (!at)
		return NULL;
	i = *at;
	s = bpf_map_lookup_elem(&slots, &i);
	if (!s)
		return NULL;
	for (int j = 0; j < NAME / 8; j++)
		if (s->name[j] != q->name[j])
			return NULL;
	return s;
}

/* What will be answered; a type that a name does not have is NODATA. */
static __always_inline int choose(const struct slot *s, const struct query *q, struct records *r)
{
	int asked;

	switch (q->type) {
	case 1:
		if (s->elsewhere & V4_ELSEWHERE)
			return -1;
		asked = ASKED_A;
		r->answers = s->v4;
		r->len = s->v4 * RECORD4;
		break;
	case 28:
		if (s->elsewhere & V6_ELSEWHERE)
			return -1;
		asked = ASKED_AAAA;
		r->answers = s->v6;
		r->len = s->v6 * RECORD6;
		break;
	case 33:
		if (s->elsewhere & SRV_ELSEWHERE)
			return -1;
		asked = ASKED_SRV;
		r->answers = s->srv;
		r->extras = s->extras;
		r->len = s->srv_len;
		break;
	case 16:
		asked = ASKED_TXT;
		break;
	case 15:
		asked = ASKED_MX;
		break;
	case 65:
		asked = ASKED_HTTPS;
		break;
	default:
		return -1;
	}
	if (!r->answers) {
		r->authorities = 1;
		r->extras = 0;
		r->len = SOA;
	}
	return asked;
}

/* Writes address records, another one first each time. */
static __always_inline long put_addrs(struct xdp_md *ctx, __u32 at, const struct slot *s, bool six)
{
	const __u32 size = six ? RECORD6 : RECORD4;
	__u32 first = six ? s->v6_at : s->v4_at, n = six ? s->v6 : s->v4, zero = 0, turn = 0;
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);

	if (c)
		turn = c->turn++;
	if (!n)
		return -1;
	turn %= n;
	for (__u32 i = 0; i < BODY / RECORD4; i++) {
		__u32 from = first + turn * size;

		if (i >= n)
			break;
		if (from > BODY - size || bpf_xdp_store_bytes(ctx, at + i * size, (void *)&s->body[from], size))
			return -1;
		if (++turn == n)
			turn = 0;
	}
	return 0;
}

/* The SOA record with its three pointers to the domain, and the serial. */
static __always_inline long put_soa(struct xdp_md *ctx, __u32 at, const struct query *q)
{
	__u8 rr[SOA];
	__u32 zero = 0, domain = HEADER + q->name_len - domain_len;
	__be32 *now = bpf_map_lookup_elem(&serial, &zero);

	if (!now)
		return -1;
	for (int i = 0; i < SOA; i++)
		rr[i] = soa[i];
	rr[0] = 0xc0 | domain >> 8;
	rr[1] = domain;
	rr[19] = 0xc0 | domain >> 8;
	rr[20] = domain;
	rr[32] = 0xc0 | domain >> 8;
	rr[33] = domain;
	__builtin_memcpy(&rr[34], now, 4);
	return bpf_xdp_store_bytes(ctx, at, rr, SOA);
}

static __always_inline long put_records(struct xdp_md *ctx, const struct slot *s, const struct query *q, const struct records *r)
{
	__u32 at = sizeof(struct head) + q->name_len + 4, len = r->len;

	if (r->authorities)
		return put_soa(ctx, at, q);
	if (q->type == 1)
		return put_addrs(ctx, at, s, false);
	if (q->type == 28)
		return put_addrs(ctx, at, s, true);
	if (!len || len > BODY)
		return -1;
	return bpf_xdp_store_bytes(ctx, at, (void *)s->body, len);
}

static __always_inline long put_opt(struct xdp_md *ctx, __u32 at, const struct query *q)
{
	__u8 opt[OPT] = { 0, 0, 41, 1232 >> 8, 1232 & 0xff, 0, 0, q->want_dnssec ? 0x80 : 0, 0, 0, 0 };

	return bpf_xdp_store_bytes(ctx, at, opt, OPT);
}

/* Turns the headers round. A sum that is not there yet (the packet never left
 * the machine) stays so; else there is none, as IPv4 allows. */
static __always_inline void turn_round(struct head *h, const struct query *q, const struct records *r, __u32 len)
{
	__u8 mac[6];
	__be32 addr = h->src;
	__be16 number = h->sport;
	__u16 *w = (__u16 *)&h->version;
	__u32 sum = 0;

	__builtin_memcpy(mac, h->to, 6);
	__builtin_memcpy(h->to, h->from, 6);
	__builtin_memcpy(h->from, mac, 6);
	h->src = h->dst;
	h->dst = addr;
	h->sport = h->dport;
	h->dport = number;
	h->tos = 0;
	h->len = bpf_htons(len - ETHERNET);
	h->id = 0;
	h->fragment = bpf_htons(0x4000);
	h->ttl = 64;
	h->sum = 0;
	for (int i = 0; i < IP_LEN / 2; i++)
		sum += w[i];
	h->sum = ~fold(sum);
	h->udp_len = bpf_htons(len - ETHERNET - IP_LEN);
	h->check = q->partial ? pseudo(h, h->udp_len) : 0;
	h->flags = bpf_htons(QR | AA | RA) | (q->flags & bpf_htons(RD | CD));
	h->answers = bpf_htons(r->answers);
	h->authorities = bpf_htons(r->authorities);
	h->additional = bpf_htons(r->extras + q->edns);
}

SEC("xdp")
int answer(struct xdp_md *ctx)
{
	struct head *h = (void *)(long)ctx->data;
	__u32 len = ctx->data_end - ctx->data, want, zero = 0;
	struct records r = {};
	struct query q = {};
	struct counts *c;
	struct slot *s;
	int asked;

	if ((void *)(h + 1) > (void *)(long)ctx->data_end || !is_query(h, len))
		return XDP_PASS;
	q.flags = h->flags;
	q.partial = h->check == pseudo(h, h->udp_len);
	{
		bool some = h->additional;

		if (!read_question(ctx, len, &q) || !read_extra(ctx, len - sizeof(*h) - q.name_len - 4, some, &q))
			return XDP_PASS;
	}
	s = find(&q);
	if (!s)
		return XDP_PASS;
	asked = choose(s, &q, &r);
	if (asked < 0 || asked >= ASKED_TYPES)
		return XDP_PASS;
	want = sizeof(*h) + q.name_len + 4 + r.len + (q.edns ? OPT : 0);
	if (bpf_xdp_adjust_tail(ctx, (int)want - (int)len))
		return XDP_PASS; /* no room behind the packet: nothing has been changed */
	if (put_records(ctx, s, &q, &r) || (q.edns && put_opt(ctx, want - OPT, &q)))
		return XDP_ABORTED;
	h = (void *)(long)ctx->data;
	if ((void *)(h + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	turn_round(h, &q, &r, want);
	c = bpf_map_lookup_elem(&counted, &zero);
	if (c)
		c->answers[asked]++;
	return XDP_TX;
}

/* Keeps the types that only the daemon uses in the object's type information. */
const enum asked *asked_unused __attribute__((unused));
const enum elsewhere *elsewhere_unused __attribute__((unused));
