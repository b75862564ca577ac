package corefile

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rewrite reads
//
//	[continue|stop] name [exact|prefix|suffix|substring|regex] FROM TO [answer auto]
//	[continue|stop] type FROM TO
//	[continue|stop] ttl [exact|prefix|suffix|substring|regex] FROM SECONDS|MIN-MAX
func (p *parser) rewrite(s *Server, d line) error {
	a := d.args()
	if d.open {
		if len(d.block) == 0 || len(a) > 1 {
			return p.errorf(d.number, "rewrite: one rule is wanted")
		}
		for _, o := range d.block[1:] {
			if strings.Join(o.words, " ") != "answer auto" {
				return p.errorf(o.number, "rewrite: behind the rule only answer auto is supported, not %q", strings.Join(o.words, " "))
			}
		}
		a = append(slices.Clone(a), d.block[0].words...)
	}
	r := Rewrite{}
	if len(a) > 0 && (a[0] == "continue" || a[0] == "stop") {
		r.Continue = a[0] == "continue"
		a = a[1:]
	}
	if n := len(a); n >= 2 && a[n-2] == "answer" && a[n-1] == "auto" {
		a = a[:n-2]
	}
	fields := map[string]func(*Rewrite, line, []string) error{"name": p.rewriteName, "type": p.rewriteType, "ttl": p.rewriteTTL}
	if len(a) < 2 || fields[a[0]] == nil {
		return p.errorf(d.number, "rewrite: only rules of names, types and TTLs are supported: name [exact|prefix|suffix|substring|regex] FROM TO, type FROM TO, ttl [KIND] FROM SECONDS")
	}
	if err := fields[a[0]](&r, d, a[1:]); err != nil {
		return err
	}
	s.Rewrites = append(s.Rewrites, r)
	return nil
}

func (p *parser) rewriteName(r *Rewrite, d line, a []string) error {
	if len(a) == 3 {
		i := slices.Index([]string{"exact", "prefix", "suffix", "substring", "regex"}, a[0])
		if i < 0 {
			return p.errorf(d.number, "rewrite name %s: exact, prefix, suffix, substring or regex is wanted", a[0])
		}
		r.Kind = RewriteKind(i)
		a = a[1:]
	}
	if len(a) != 2 || a[0] == "" {
		return p.errorf(d.number, "rewrite name: what to replace and what with are wanted")
	}
	r.From, r.To = strings.ToLower(a[0]), strings.ToLower(a[1])
	switch r.Kind {
	case Regex:
		pattern, err := regexp.Compile(a[0])
		if err != nil {
			return p.errorf(d.number, "rewrite: %v", err)
		}
		r.Pattern = pattern
	case Exact, Suffix:
		r.From, r.To = strings.TrimSuffix(r.From, "."), strings.TrimSuffix(r.To, ".")
	}
	return nil
}

func (p *parser) rewriteType(r *Rewrite, d line, a []string) error {
	if len(a) != 2 {
		return p.errorf(d.number, "rewrite type: the type to replace and what with are wanted")
	}
	r.Field, r.From, r.To = TypeField, strings.ToUpper(a[0]), strings.ToUpper(a[1])
	return nil
}

func (p *parser) rewriteTTL(r *Rewrite, d line, a []string) error {
	last := len(a) - 1
	if err := p.rewriteName(r, d, a); err != nil {
		return err
	}
	r.Field, r.To, r.Max = TTLField, "", math.MaxInt32 // RFC 2181 section 8
	low, high, isRange := strings.Cut(a[last], "-")
	for _, bound := range []struct {
		text string
		into *uint32
	}{{low, &r.Min}, {high, &r.Max}} {
		if bound.text == "" {
			continue
		}
		n, err := strconv.ParseUint(bound.text, 10, 31)
		if err != nil {
			return p.errorf(d.number, "rewrite ttl %s: want seconds, or MIN-MAX", a[last])
		}
		*bound.into = uint32(n)
	}
	if !isRange {
		r.Max = r.Min
	}
	if a[last] == "-" || a[last] == "" || r.Min > r.Max {
		return p.errorf(d.number, "rewrite ttl %s: want seconds, or MIN-MAX", a[last])
	}
	return nil
}
