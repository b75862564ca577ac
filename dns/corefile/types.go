package corefile

import (
	"net/netip"
	"regexp"
	"text/template"
	"time"
)

// Config is a whole Corefile.
type Config struct {
	Servers []Server
	// Notes say what was read but has another form here, for the log.
	Notes []string
}

// Server is one server block: what is done with names of its zones.
type Server struct {
	Zones      []string
	Kubernetes *Kubernetes
	Rewrites   []Rewrite
	Templates  []Template
	Hosts      *Hosts
	Cache      *Cache
	Forwards   []Forward
}

// Kubernetes is the plugin of that name.
type Kubernetes struct {
	// Domain is the cluster domain. Reverse: names of addresses are answered too.
	Domain  string
	Reverse bool
	// Pods is disabled, insecure or verified; TTL is in seconds.
	Pods string
	TTL  uint32
}

// Policy is the order in which upstreams are asked.
type Policy uint8

// The policies. Those that are down are always asked last.
const (
	Sequential Policy = iota
	Random
	RoundRobin
)

// String is the policy as a Corefile writes it.
func (p Policy) String() string { return [...]string{"sequential", "random", "round_robin"}[p] }

// Upstream is one resolver.
type Upstream struct {
	Addr netip.AddrPort
	// TLS: DNS over TLS (RFC 7858); the certificate must be good for ServerName,
	// or for the address when that is empty.
	TLS        bool
	ServerName string
}

// String is the form that ParseUpstream reads.
func (u Upstream) String() string {
	if !u.TLS {
		return u.Addr.String()
	}
	if u.ServerName != "" {
		return "tls://" + u.Addr.String() + "#" + u.ServerName
	}
	return "tls://" + u.Addr.String()
}

// Forward is who answers names of a zone.
type Forward struct {
	Zone   string
	Except []string
	To     []Upstream
	// Host: the resolvers of the host's resolv.conf are asked.
	Host   bool
	Policy Policy
	// TCP: UDP is not tried.
	TCP bool
	// MaxConcurrent bounds the questions on their way; 0 is the server's own limit.
	MaxConcurrent int
}

// Cache is how long answers of upstreams are kept. Zero durations and counts mean the server's own.
type Cache struct {
	Success, Denial   Keep
	PrefetchHits      int // 0: no prefetch
	PrefetchPercent   int
	ServeStale        time.Duration // 0: none
	NoSuccess, NoDeny bool
}

// Keep bounds one kind of answers.
type Keep struct {
	Entries int
	TTL     time.Duration
}

// Hosts are names given in the Corefile itself.
type Hosts struct {
	TTL       uint32
	Addrs     map[string][]netip.Addr
	Names     map[netip.Addr][]string
	NoReverse bool
}

// Rewrite changes the question before it is answered, or the TTLs of the reply.
// The reply has the question as it was asked.
type Rewrite struct {
	Field RewriteField
	// Kind and From, for Regex Pattern, say which names are meant, and To what
	// becomes of them. With TypeField, From and To are mnemonics of types.
	Kind     RewriteKind
	From, To string
	Pattern  *regexp.Regexp
	// Min and Max bound TTLs, in seconds, with TTLField.
	Min, Max uint32
	// Continue: the rules after this one see the changed name.
	Continue bool
}

// RewriteField is what a rule changes.
type RewriteField uint8

// The fields that can be rewritten.
const (
	NameField RewriteField = iota
	TypeField
	TTLField
)

// RewriteKind is what part of a name a rule looks at.
type RewriteKind uint8

// The kinds of rewrites.
const (
	Exact RewriteKind = iota
	Prefix
	Suffix
	Substring
	Regex
)

// Template answers names from a pattern.
type Template struct {
	// Type is a mnemonic such as "AAAA", or "ANY".
	Type  string
	Zones []string
	Match []*regexp.Regexp
	// Rcode is a mnemonic such as "NXDOMAIN".
	Rcode                         string
	Answer, Additional, Authority []*template.Template
	Fallthrough                   bool
}
