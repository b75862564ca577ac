package dns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/corefile"
	"nodelet/dns/wire"
	"nodelet/dns/zone"
)

// program is what queries walk through, compiled from a configuration. Immutable
// but for its cache and counters; a new configuration is a new program.
type program struct {
	// source says where it came from, for people.
	source string
	blocks []*block // the longest zone first
	cache  *cache
	// pods and ttl are the zone's.
	pods zone.PodMode
	ttl  uint32
}

// block is what is done with names of one server block.
type block struct {
	zones     []suffix
	cluster   bool // names of the cluster are answered
	reverse   bool // and those of its addresses
	rewrites  []corefile.Rewrite
	templates []templateRule
	hosts     *hostTable
	cached    bool
	keep      keeping
	routes    []*route // the longest zone first
}

// keeping says how long answers of one block are kept.
type keeping struct {
	success, denial time.Duration
	prefetchHits    uint32 // 0: none
	prefetchPart    int    // of the TTL that is left, in percent
	stale           time.Duration
}

// of finds the block of a name, nil when there is none.
func (p *program) of(q *wire.Query) *block {
	for _, b := range p.blocks {
		for _, z := range b.zones {
			if z.of(q) {
				return b
			}
		}
	}
	return nil
}

// routeOf finds who answers a name outside of the cluster.
func (b *block) routeOf(q *wire.Query) *route {
	for _, r := range b.routes {
		if r.matches(q) {
			return r
		}
	}
	return nil
}

// builtin is the program without a Corefile.
func (d *DNS) builtin() *program {
	l := d.c.Limits
	b := &block{zones: []suffix{rootZone}, cluster: true, reverse: true, cached: true, keep: keeping{
		success: l.MaxTTL, denial: l.MaxNegativeTTL, prefetchHits: 2, prefetchPart: 10, stale: l.StaleTime,
	}}
	r := &route{zone: rootZone}
	if len(d.c.Upstreams) > 0 {
		r.fixed = d.forward.fixed(d.c.Upstreams)
	} else {
		r.host = d.forward.host
	}
	b.routes = []*route{r}
	return &program{source: "built in", blocks: []*block{b}, cache: newCache(l), pods: d.c.Pods, ttl: d.c.TTL}
}

var rootZone = suffix{name: "\x00"}

// suffixOf gives a dotted name in wire form.
func suffixOf(dotted string) (suffix, error) {
	s := suffix{}
	if dotted != "" {
		for label := range strings.SplitSeq(dotted, ".") {
			if label == "" || len(label) > 63 {
				return s, fmt.Errorf("read domain name %q: a label is empty or too long", dotted)
			}
			s.name += string(rune(len(label))) + label
			s.labels++
		}
	}
	if s.name += "\x00"; len(s.name) > wire.MaxName {
		return s, fmt.Errorf("read domain name %q: too long", dotted)
	}
	return s, nil
}

func suffixesOf(dotted []string) ([]suffix, error) {
	var out []suffix
	var errs []error
	for _, z := range dotted {
		s, err := suffixOf(z)
		errs = append(errs, err)
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// compile makes a program of a Corefile.
func (d *DNS) compile(source string, c *corefile.Config) (*program, error) {
	p := &program{source: source, pods: d.c.Pods, ttl: d.c.TTL}
	limits := d.c.Limits
	clusters := 0
	for i := range c.Servers {
		s := &c.Servers[i]
		b, err := d.compileBlock(s)
		if err != nil {
			return nil, err
		}
		if k := s.Kubernetes; k != nil {
			clusters++
			if err := d.compileZone(p, k); err != nil {
				return nil, err
			}
		}
		if s.Cache != nil {
			limits.CacheEntries = max(limits.CacheEntries, s.Cache.Success.Entries+s.Cache.Denial.Entries)
		}
		p.blocks = append(p.blocks, b)
	}
	if clusters > 1 {
		return nil, errors.New("more than one server block has kubernetes: one is wanted")
	}
	slices.SortStableFunc(p.blocks, func(a, b *block) int { return longest(b.zones) - longest(a.zones) })
	p.cache = newCache(limits)
	return p, nil
}

func longest(zones []suffix) (n int) {
	for _, z := range zones {
		n = max(n, z.labels)
	}
	return n
}

// compileZone takes what the kubernetes plugin says of the zone.
func (d *DNS) compileZone(p *program, k *corefile.Kubernetes) error {
	if k.Domain != strings.ToLower(strings.TrimSuffix(d.c.ClusterDomain, ".")) {
		return fmt.Errorf("kubernetes %s: this node's --cluster-domain is %s", k.Domain, d.c.ClusterDomain)
	}
	pods, err := zone.ParsePodMode(k.Pods)
	if err != nil {
		return err
	}
	if pods == zone.PodsVerified && d.c.Pods != zone.PodsVerified {
		return errors.New("pods verified: start the daemon with --dns-pod-records=verified, which watches all pods")
	}
	p.pods, p.ttl = pods, k.TTL
	return nil
}

func (d *DNS) compileBlock(s *corefile.Server) (*block, error) {
	zones, err := suffixesOf(s.Zones)
	if err != nil {
		return nil, err
	}
	for _, r := range s.Rewrites {
		for _, qtype := range []string{r.From, r.To} {
			if _, known := dns.StringToType[qtype]; r.Field == corefile.TypeField && !known {
				return nil, fmt.Errorf("rewrite type %s %s: type %s is not known", r.From, r.To, qtype)
			}
		}
	}
	b := &block{zones: zones, rewrites: s.Rewrites, hosts: newHostTable(s.Hosts)}
	if k := s.Kubernetes; k != nil {
		b.cluster, b.reverse = true, k.Reverse
	}
	if c := s.Cache; c != nil {
		b.cached = true
		b.keep = keepingOf(c)
	}
	for _, t := range s.Templates {
		rule, err := newTemplateRule(t)
		if err != nil {
			return nil, err
		}
		b.templates = append(b.templates, rule)
	}
	for _, f := range s.Forwards {
		r, err := d.compileRoute(f)
		if err != nil {
			return nil, err
		}
		b.routes = append(b.routes, r)
	}
	slices.SortStableFunc(b.routes, func(x, y *route) int { return y.zone.labels - x.zone.labels })
	return b, nil
}

func (d *DNS) compileRoute(f corefile.Forward) (*route, error) {
	z, err := suffixOf(f.Zone)
	if err != nil {
		return nil, err
	}
	except, err := suffixesOf(f.Except)
	if err != nil {
		return nil, err
	}
	r := &route{zone: z, except: except, policy: f.Policy, tcp: f.TCP, most: int64(f.MaxConcurrent)}
	if r.fixed = d.forward.fixed(f.To); f.Host {
		r.host = d.forward.host
	}
	return r, nil
}

// keepingOf is CoreDNS's cache plugin: 3600 s and 1800 s unless it says otherwise.
func keepingOf(c *corefile.Cache) keeping {
	k := keeping{
		success: time.Hour, denial: 30 * time.Minute,
		prefetchHits: uint32(c.PrefetchHits), prefetchPart: c.PrefetchPercent, stale: min(c.ServeStale, maxStale),
	}
	if c.Success.TTL > 0 {
		k.success = c.Success.TTL
	}
	if c.Denial.TTL > 0 {
		k.denial = c.Denial.TTL
	}
	if c.NoSuccess {
		k.success = 0
	}
	if c.NoDeny {
		k.denial = 0
	}
	return k
}

// maxStale bounds serve-stale as RFC 8767 proposes.
const maxStale = 24 * time.Hour
