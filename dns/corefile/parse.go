package corefile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dir is where the ConfigMap of the Corefile is mounted by custom: a path there is one of its keys.
const Dir = "/etc/coredns/"

// Parse reads a Corefile; file names it in errors.
// The Corefile may name the files, which are given by their paths.
func Parse(file, text string, files map[string]string) (*Config, error) {
	tokens, err := lex(file, text)
	if err != nil {
		return nil, err
	}
	p := &parser{file: file, tokens: tokens, files: files, out: &Config{}}
	for p.at < len(p.tokens) {
		if err := p.server(); err != nil {
			return nil, err
		}
	}
	if len(p.out.Servers) == 0 {
		return nil, &Error{file, 1, "there is no server block"}
	}
	return p.out, nil
}

type parser struct {
	file   string
	tokens []token
	files  map[string]string // by path
	at     int
	out    *Config
}

func (p *parser) errorf(line int, format string, args ...any) error {
	return &Error{p.file, line, fmt.Sprintf(format, args...)}
}

// line is one directive: its words, and its block when it has one.
type line struct {
	number int
	words  []string
	block  []line
	open   bool
}

func (l line) name() string   { return l.words[0] }
func (l line) args() []string { return l.words[1:] }

// maxDepth is how deep blocks may be nested: a server block, a plugin, one more.
const maxDepth = 3

// directive reads one line, with the block that begins at its end.
func (p *parser) directive(depth int) (line, error) {
	l := line{number: p.tokens[p.at].line}
	for p.at < len(p.tokens) {
		t := p.tokens[p.at]
		p.at++
		switch {
		case !t.quoted && t.text == "{":
			l.open = true
			if depth >= maxDepth {
				return l, p.errorf(t.line, "blocks are nested too deep")
			}
			return l, p.block(&l, depth)
		case !t.quoted && t.text == "}":
			return l, p.errorf(t.line, "a } without its {")
		case !t.quoted && strings.Contains(t.text, "{$"):
			return l, p.errorf(t.line, "environment variables (%s) are not read", t.text)
		}
		l.words = append(l.words, t.text)
		if t.last {
			break
		}
	}
	return l, nil
}

func (p *parser) block(l *line, depth int) error {
	for p.at < len(p.tokens) {
		if t := p.tokens[p.at]; !t.quoted && t.text == "}" {
			p.at++
			return nil
		}
		inner, err := p.directive(depth + 1)
		if err != nil {
			return err
		}
		if len(inner.words) == 0 {
			return p.errorf(inner.number, "a { that belongs to nothing")
		}
		l.block = append(l.block, inner)
	}
	return p.errorf(l.number, "the block that begins here is not closed")
}

func (p *parser) server() error {
	l, err := p.directive(0)
	if err != nil {
		return err
	}
	if len(l.words) == 0 || !l.open {
		return p.errorf(l.number, "a server block is wanted: zones, then {")
	}
	if l.name() == "import" || strings.HasPrefix(l.name(), "(") {
		return p.errorf(l.number, "%s: import and snippets are not read", l.name())
	}
	s := Server{}
	for _, word := range l.words {
		for key := range strings.SplitSeq(word, ",") {
			if key == "" {
				continue
			}
			zone, err := serverZone(key)
			if err != nil {
				return p.errorf(l.number, "%s: %v", key, err)
			}
			s.Zones = append(s.Zones, zone)
		}
	}
	for _, d := range l.block {
		if err := p.plugin(&s, d); err != nil {
			return err
		}
	}
	p.out.Servers = append(p.out.Servers, s)
	return nil
}

// serverZone reads the key of a server block. Only port 53 is served.
func serverZone(key string) (string, error) {
	key = strings.TrimPrefix(key, "dns://")
	if strings.Contains(key, "://") {
		return "", fmt.Errorf("only plain DNS is served")
	}
	if host, port, ok := strings.Cut(key, ":"); ok {
		if port != "53" {
			return "", fmt.Errorf("port %s: only port 53 is served", port)
		}
		key = host
	}
	return zoneName(key)
}

// zoneName brings a zone into the form of this package.
func zoneName(s string) (string, error) {
	z := strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" || strings.ContainsAny(z, "/*:") || len(z) > 253 {
		return "", fmt.Errorf("%q is not a zone that can be served", s)
	}
	for label := range strings.SplitSeq(z, ".") {
		if z != "" && (label == "" || len(label) > 63) {
			return "", fmt.Errorf("%q is not a domain name", s)
		}
	}
	return z, nil
}

func (p *parser) zones(l line, words []string) ([]string, error) {
	var out []string
	for _, w := range words {
		z, err := zoneName(w)
		if err != nil {
			return nil, p.errorf(l.number, "%s: %v", l.name(), err)
		}
		out = append(out, z)
	}
	return out, nil
}

// plugin reads one directive of a server block.
func (p *parser) plugin(s *Server, d line) error {
	read, ok := map[string]func(*Server, line) error{
		"errors": p.ignored, "reload": p.ignored, "loop": p.bare,
		"health": p.elsewhere, "ready": p.elsewhere, "prometheus": p.elsewhere,
		"loadbalance": p.loadbalance, "kubernetes": p.kubernetes, "forward": p.forward,
		"cache": p.cache, "hosts": p.hosts, "rewrite": p.rewrite, "template": p.template,
	}[d.name()]
	if !ok {
		return p.errorf(d.number, "plugin %q is not supported; supported are errors, health, ready, kubernetes, forward, cache, loop, reload, loadbalance, prometheus, hosts, rewrite and template", d.name())
	}
	return read(s, d)
}

// ignored takes what is done anyway, whatever its options.
func (p *parser) ignored(*Server, line) error { return nil }

func (p *parser) bare(_ *Server, d line) error {
	if len(d.args()) > 0 || d.open {
		return p.errorf(d.number, "%s takes no arguments", d.name())
	}
	return nil
}

// elsewhere takes what the daemon answers at an address of its own.
func (p *parser) elsewhere(_ *Server, d line) error {
	p.out.Notes = append(p.out.Notes, fmt.Sprintf("%s:%d: %s is answered at the daemon's --metrics-address", p.file, d.number, d.name()))
	return nil
}

func (p *parser) loadbalance(_ *Server, d line) error {
	if a := d.args(); len(a) > 1 || len(a) == 1 && a[0] != "round_robin" || d.open {
		return p.errorf(d.number, "loadbalance: only round_robin is known")
	}
	return nil
}

func (p *parser) kubernetes(s *Server, d line) error {
	if s.Kubernetes != nil {
		return p.errorf(d.number, "kubernetes is here a second time")
	}
	k := &Kubernetes{Pods: "disabled", TTL: 5}
	zones, err := p.zones(d, d.args())
	if err != nil {
		return err
	}
	if len(zones) == 0 {
		zones = s.Zones
	}
	for _, z := range zones {
		switch {
		case z == "in-addr.arpa" || z == "ip6.arpa":
			k.Reverse = true
		case k.Domain != "" || z == "":
			return p.errorf(d.number, "kubernetes: one cluster domain is wanted, and in-addr.arpa and ip6.arpa")
		default:
			k.Domain = z
		}
	}
	if k.Domain == "" {
		return p.errorf(d.number, "kubernetes: the cluster domain is missing")
	}
	through := false
	for _, o := range d.block {
		switch o.name() {
		case "pods":
			if len(o.args()) != 1 || !slices.Contains([]string{"disabled", "insecure", "verified"}, o.args()[0]) {
				return p.errorf(o.number, "pods: disabled, insecure or verified is wanted")
			}
			k.Pods = o.args()[0]
		case "ttl":
			ttl, err := p.number(o, 0, 3600)
			if err != nil {
				return err
			}
			k.TTL = uint32(ttl)
		case "fallthrough":
			through = true
			for _, z := range o.args() {
				if z = strings.TrimSuffix(z, "."); z != "in-addr.arpa" && z != "ip6.arpa" {
					return p.errorf(o.number, "fallthrough %s: only reverse names can fall through", z)
				}
			}
			if len(o.args()) == 0 {
				return p.errorf(o.number, "fallthrough: name in-addr.arpa and ip6.arpa; names of the cluster do not fall through")
			}
		default:
			return p.errorf(o.number, "kubernetes: option %q is not supported", o.name())
		}
	}
	if k.Reverse && !through {
		return p.errorf(d.number, "kubernetes: add fallthrough in-addr.arpa ip6.arpa; reverse names of others are never denied here")
	}
	s.Kubernetes = k
	return nil
}

func (p *parser) number(o line, low, high int) (int, error) {
	if len(o.args()) != 1 {
		return 0, p.errorf(o.number, "%s: one number is wanted", o.name())
	}
	n, err := strconv.Atoi(o.args()[0])
	if err != nil || n < low || n > high {
		return 0, p.errorf(o.number, "%s %s: a number from %d to %d is wanted", o.name(), o.args()[0], low, high)
	}
	return n, nil
}

// seconds reads "30" or "30s".
func seconds(s string) (time.Duration, error) {
	if n, err := strconv.Atoi(s); err == nil {
		s = strconv.Itoa(n) + "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 7*24*time.Hour {
		return 0, fmt.Errorf("%q is not a time such as 30 or 30s", s)
	}
	return d, nil
}

// ParseUpstream reads the address of a resolver: IP or IP:PORT, with tls:// in
// front for DNS over TLS and #NAME behind for the name in its certificate.
func ParseUpstream(s string) (Upstream, error) {
	rest, tls := strings.CutPrefix(s, "tls://")
	rest, name, named := strings.Cut(strings.TrimPrefix(rest, "dns://"), "#")
	u := Upstream{TLS: tls, ServerName: name}
	port := uint16(53)
	if tls {
		port = 853
	}
	a, err := netip.ParseAddr(strings.Trim(rest, "[]"))
	if err == nil {
		u.Addr = netip.AddrPortFrom(a.Unmap(), port)
	} else if u.Addr, err = netip.ParseAddrPort(rest); err != nil {
		return u, fmt.Errorf("read resolver %q: want an address such as 192.0.2.1, 192.0.2.1:53 or tls://192.0.2.1#dns.example", s)
	}
	if named && !tls {
		return u, fmt.Errorf("read resolver %q: a name is for tls:// only", s)
	}
	if u.Addr.Addr().IsUnspecified() || u.Addr.Addr().IsMulticast() || u.Addr.Port() == 0 {
		return u, fmt.Errorf("read resolver %q: that is not the address of one machine", s)
	}
	return u, nil
}
