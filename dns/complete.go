package dns

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// completeAnnotation, on a pod or on its namespace, asks for search-path
// completion: "complete". The pod's own word, such as "off", goes before its namespace's.
const (
	completeAnnotation = model.AnnotationPrefix + "dns-search"
	completeValue      = "complete"
)

// maxCompletions bounds the completions under way; beyond it clients walk their search path themselves.
const maxCompletions = 256

// searcher is a pod whose search path is walked here.
type searcher struct {
	// first is the domain of the first name a resolver library asks for; rest are those after it.
	first suffix
	rest  []suffix
}

// searchers are the pods of this node that asked for it, by their addresses.
type searchers map[netip.Addr]*searcher

// searchersOf finds them in a snapshot. Nothing is found, and so nothing costs
// anything, unless somebody asked for it.
func (d *DNS) searchersOf(s *store.Snapshot) searchers {
	var out searchers
	for _, pod := range s.Pods.All() {
		word, own := pod.Annotations[completeAnnotation]
		if !own {
			if ns, ok := s.Namespaces.Get(model.Key{Name: pod.Namespace}); ok {
				word = ns.Annotations[completeAnnotation]
			}
		}
		// Pods of the host's network share its address, so nobody can tell which of them asks.
		if word != completeValue || pod.Spec.HostNetwork || !usesCluster(pod) {
			continue
		}
		sr, ok := d.searcherOf(pod.Namespace)
		if !ok {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				if out == nil {
					out = searchers{}
				}
				out[a.Unmap()] = sr
			}
		}
	}
	return out
}

// usesCluster reports whether the pod's resolv.conf begins with the cluster's
// search path, and with nothing of its own.
func usesCluster(pod *corev1.Pod) bool {
	p := pod.Spec.DNSPolicy
	return (p == corev1.DNSClusterFirst || p == "") && (pod.Spec.DNSConfig == nil || len(pod.Spec.DNSConfig.Searches) == 0)
}

func (d *DNS) searcherOf(namespace string) (*searcher, bool) {
	domain := strings.ToLower(strings.TrimSuffix(d.c.ClusterDomain, "."))
	all, err := suffixesOf(append([]string{namespace + ".svc." + domain, "svc." + domain, domain}, d.c.HostSearch...))
	if err != nil {
		return nil, false
	}
	return &searcher{first: all[0], rest: append(all[1:], rootZone)}, true
}

// complete answers the first name of a search path with what the rest of the
// path leads to. It is for the first name only: a client that gets NXDOMAIN for
// it walks on by itself, as without completion.
func (d *DNS) complete(r *request) ([]byte, verdict) {
	all := d.searching.Load()
	if all == nil || *all == nil || r.completing {
		return nil, next
	}
	sr := (*all)[r.client.Addr()]
	if sr == nil || !sr.first.of(&r.q) || r.q.Labels() == sr.first.labels {
		return nil, next
	}
	if a := d.zone.Load().Answer(r.out, &r.q, zone.Options{Limit: r.limit, Turn: r.turn}); a.Outcome != zone.Answered || a.Rcode != wire.NXDomain {
		return nil, next
	}
	select {
	case d.completions <- struct{}{}:
	default:
		return nil, next
	}
	base := string(r.q.Between(0, r.q.Labels()-sr.first.labels))
	w := &completion{d: d, asked: r.q, limit: r.limit, client: r.client, late: r.late, base: base, rest: sr.rest, stats: r.stats, turn: r.turn}
	if !d.forward.spawn(w.run) {
		<-d.completions
		return nil, dropped
	}
	return nil, pending
}

// completion is one search path on its way.
type completion struct {
	d      *DNS
	asked  wire.Query
	limit  int
	client netip.AddrPort
	late   replier
	base   string
	rest   []suffix
	stats  *stats
	turn   uint32
}

// run asks for one name after the other until one exists. The last answer that
// says otherwise is the client's: NXDOMAIN, or a failure it must hear of.
func (c *completion) run() {
	defer func() { <-c.d.completions }()
	g := &disguise{asked: c.asked, limit: c.limit}
	for _, s := range c.rest {
		if len(c.base)+len(s.name) > wire.MaxName {
			continue
		}
		msg := c.ask(c.base + s.name)
		if msg == nil {
			c.late.reply(c.client, nil)
			return
		}
		if wire.Rcode(msg[3]&0xF) == wire.NXDomain {
			continue
		}
		c.late.reply(c.client, c.stats.replied(cluster, g.undo(msg)))
		return
	}
	a := c.d.zone.Load().Answer(nil, &c.asked, zone.Options{Limit: c.limit})
	c.late.reply(c.client, c.stats.replied(cluster, slices.Clone(a.Msg)))
}

// ask answers one name as any query, and waits for it.
func (c *completion) ask(name string) []byte {
	late := make(chanReplier, 1)
	r := &request{tcp: true, client: c.client, late: late, stats: c.stats, now: time.Now(), turn: c.turn, completing: true}
	r.q.Set([]byte(name), c.asked.Type)
	r.q.ID, r.q.Flags, r.q.DO, r.q.EDNS = c.asked.ID, c.asked.Flags, c.asked.DO, c.asked.EDNS
	r.limit, r.program = wire.MaxTCP, c.d.program.Load()
	if r.block = r.program.of(&r.q); r.block == nil {
		return wire.Status(nil, &r.q, wire.NXDomain)
	}
	msg, v := c.d.answer(r)
	if v == pending {
		msg = <-late // every pending query gets a reply, if only nil
	}
	if v == dropped || len(msg) < wire.HeaderLen {
		return nil
	}
	var check dns.Msg
	if check.Unpack(msg) != nil {
		return nil
	}
	return msg
}
