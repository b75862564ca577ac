package corefile

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// hostResolvConf is the one file that forward takes in place of addresses.
const hostResolvConf = "/etc/resolv.conf"

// maxUpstreams is how many resolvers one forward may name, as CoreDNS has it.
const maxUpstreams = 15

func (p *parser) forward(s *Server, d line) error {
	if len(d.args()) < 2 {
		return p.errorf(d.number, "forward: a zone and at least one resolver are wanted")
	}
	zone, err := zoneName(d.args()[0])
	if err != nil {
		return p.errorf(d.number, "forward: %v", err)
	}
	f := Forward{Zone: zone, Policy: Random}
	for _, to := range d.args()[1:] {
		if to == hostResolvConf {
			f.Host = true
			continue
		}
		u, err := ParseUpstream(to)
		if err != nil {
			return p.errorf(d.number, "forward: %v", err)
		}
		f.To = append(f.To, u)
	}
	if f.Host && len(f.To) > 0 {
		return p.errorf(d.number, "forward: give %s or addresses, not both", hostResolvConf)
	}
	if len(f.To) > maxUpstreams {
		return p.errorf(d.number, "forward: %d resolvers are more than %d", len(f.To), maxUpstreams)
	}
	for _, o := range d.block {
		if err := p.forwardOption(&f, o); err != nil {
			return err
		}
	}
	s.Forwards = append(s.Forwards, f)
	return nil
}

func (p *parser) forwardOption(f *Forward, o line) (err error) {
	switch o.name() {
	case "except":
		f.Except, err = p.zones(o, o.args())
	case "force_tcp":
		f.TCP = true
	case "prefer_udp", "expire", "max_fails", "health_check", "max_idle_conns", "max_age", "next", "failfast_all_unhealthy_upstreams":
		if slices.Contains([]string{"next", "failfast_all_unhealthy_upstreams"}, o.name()) {
			return p.errorf(o.number, "forward: option %q is not supported", o.name())
		}
		// UDP is always preferred, connections are always kept for a while, and
		// resolvers that fail are asked last until they answer a health check.
	case "max_concurrent":
		f.MaxConcurrent, err = p.number(o, 1, 1_000_000)
	case "tls":
		if len(o.args()) > 0 {
			return p.errorf(o.number, "tls: client certificates are not supported")
		}
	case "tls_servername":
		if len(o.args()) != 1 {
			return p.errorf(o.number, "tls_servername: one name is wanted")
		}
		for i := range f.To {
			f.To[i].ServerName = o.args()[0]
		}
	case "policy":
		i := -1
		if len(o.args()) == 1 {
			i = slices.Index([]string{"sequential", "random", "round_robin"}, o.args()[0])
		}
		if i < 0 {
			return p.errorf(o.number, "policy: random, round_robin or sequential is wanted")
		}
		f.Policy = Policy(i)
	default:
		return p.errorf(o.number, "forward: option %q is not supported", o.name())
	}
	return err
}

func (p *parser) cache(s *Server, d line) error {
	c := &Cache{}
	for _, a := range d.args() {
		if ttl, err := seconds(a); err == nil {
			c.Success.TTL, c.Denial.TTL = ttl, ttl
			continue
		}
		zone, err := zoneName(a)
		if err != nil || !slices.Contains(s.Zones, zone) {
			return p.errorf(d.number, "cache %s: only the zones of the server block can be cached", a)
		}
	}
	for _, o := range d.block {
		if err := p.cacheOption(s, c, o); err != nil {
			return err
		}
	}
	s.Cache = c
	return nil
}

func (p *parser) cacheOption(s *Server, c *Cache, o line) error {
	a := o.args()
	switch o.name() {
	case "success", "denial":
		k := &c.Success
		if o.name() == "denial" {
			k = &c.Denial
		}
		if len(a) < 1 || len(a) > 2 {
			return p.errorf(o.number, "%s: a capacity and a time are wanted", o.name())
		}
		n, err := strconv.Atoi(a[0])
		if err != nil || n < 0 || n > 10_000_000 {
			return p.errorf(o.number, "%s: capacity %s is not a number of entries", o.name(), a[0])
		}
		k.Entries = n
		if len(a) == 2 {
			if k.TTL, err = seconds(a[1]); err != nil {
				return p.errorf(o.number, "%s: %v", o.name(), err)
			}
		}
	case "prefetch":
		return p.prefetch(c, o)
	case "serve_stale":
		c.ServeStale = time.Hour
		if len(a) > 0 {
			d, err := seconds(a[0])
			if err != nil || d == 0 {
				return p.errorf(o.number, "serve_stale %s: want a time such as 1h", a[0])
			}
			c.ServeStale = d
		}
		if len(a) > 1 {
			p.out.Notes = append(p.out.Notes, "serve_stale: stale answers are given when the resolvers have failed, whatever its mode")
		}
	case "disable":
		if len(a) < 2 || a[0] != "success" && a[0] != "denial" {
			return p.errorf(o.number, "disable: success or denial, and zones, are wanted")
		}
		// Names of the cluster are never cached.
		zones, err := p.zones(o, a[1:])
		if err != nil {
			return err
		}
		for _, z := range zones {
			switch {
			case s.Kubernetes != nil && z == s.Kubernetes.Domain:
			case slices.Contains(s.Zones, z) && a[0] == "success":
				c.NoSuccess = true
			case slices.Contains(s.Zones, z):
				c.NoDeny = true
			default:
				return p.errorf(o.number, "disable %s %s: only the cluster domain (put kubernetes first) or the server block's zones can be named", a[0], z)
			}
		}
	case "servfail":
		p.out.Notes = append(p.out.Notes, "servfail: failures are kept for one second")
	default:
		return p.errorf(o.number, "cache: option %q is not supported", o.name())
	}
	return nil
}

// prefetch reads AMOUNT [DURATION [PERCENTAGE%]].
func (p *parser) prefetch(c *Cache, o line) error {
	a := o.args()
	if len(a) < 1 || len(a) > 3 {
		return p.errorf(o.number, "prefetch: a number of hits is wanted")
	}
	n, err := strconv.Atoi(a[0])
	if err != nil || n < 0 || n > 1_000_000 {
		return p.errorf(o.number, "prefetch %s: not a number of hits", a[0])
	}
	c.PrefetchHits, c.PrefetchPercent = n, 10
	if len(a) == 3 {
		percent, err := strconv.Atoi(strings.TrimSuffix(a[2], "%"))
		if err != nil || percent < 10 || percent > 90 {
			return p.errorf(o.number, "prefetch: %s is not between 10%% and 90%%", a[2])
		}
		c.PrefetchPercent = percent
	}
	return nil
}

// TemplateData is what the text of a template may use, as in CoreDNS.
type TemplateData struct {
	Zone, Name, Class, Type string
	Match                   []string
	Group                   map[string]string
}

func (p *parser) template(s *Server, d line) error {
	a := d.args()
	if len(a) < 2 || !slices.Contains([]string{"IN", "ANY"}, strings.ToUpper(a[0])) {
		return p.errorf(d.number, "template: the class IN or ANY and a type are wanted")
	}
	t := Template{Type: strings.ToUpper(a[1]), Rcode: "NOERROR"}
	zones, err := p.zones(d, a[2:])
	if err != nil {
		return err
	}
	if t.Zones = zones; len(zones) == 0 {
		t.Zones = s.Zones
	}
	for _, o := range d.block {
		if err := p.templateOption(&t, o); err != nil {
			return err
		}
	}
	if len(t.Match) == 0 {
		t.Match = []*regexp.Regexp{regexp.MustCompile(".*")}
	}
	s.Templates = append(s.Templates, t)
	return nil
}

func (p *parser) templateOption(t *Template, o line) error {
	into := map[string]*[]*template.Template{"answer": &t.Answer, "additional": &t.Additional, "authority": &t.Authority}
	switch name := o.name(); {
	case name == "match":
		for _, text := range o.args() {
			re, err := regexp.Compile(text)
			if err != nil {
				return p.errorf(o.number, "match: %v", err)
			}
			t.Match = append(t.Match, re)
		}
	case into[name] != nil:
		for _, text := range o.args() {
			tmpl, err := template.New(name).Option("missingkey=error").Parse(text)
			if err != nil {
				return p.errorf(o.number, "%s: %v", name, err)
			}
			*into[name] = append(*into[name], tmpl)
		}
	case name == "rcode" && len(o.args()) == 1 && slices.Contains([]string{"NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "NOTIMP"}, strings.ToUpper(o.args()[0])):
		t.Rcode = strings.ToUpper(o.args()[0])
	case name == "fallthrough" && len(o.args()) == 0:
		t.Fallthrough = true
	default:
		return p.errorf(o.number, "template: %q is not supported", strings.Join(o.words, " "))
	}
	return nil
}
