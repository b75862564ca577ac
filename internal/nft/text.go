package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// String is the whole table, close to what nft prints, with elements in order.
func (r *Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s {\n", r.Table)
	for i := range r.Sets {
		s := &r.Sets[i]
		fmt.Fprintf(&b, "  %s\n", s)
		lines := make([]string, len(s.Elements))
		for j := range s.Elements {
			lines[j] = s.element(&s.Elements[j])
		}
		slices.Sort(lines)
		for _, l := range lines {
			fmt.Fprintf(&b, "    %s\n", l)
		}
	}
	for _, c := range r.Chains {
		fmt.Fprintf(&b, "  chain %s\n", c.Name)
		if c.Base != nil {
			fmt.Fprintf(&b, "    type %s hook %s priority %d\n", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		for _, rule := range c.Rules {
			fmt.Fprintf(&b, "    %s\n", rule)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// element prints one element by the types of its set.
func (s *Set) element(el *Element) string {
	text := s.Key.format(el.Key)
	if el.KeyEnd != nil {
		text += " - " + s.Key.format(el.KeyEnd)
	}
	switch {
	case el.Do.Kind != NoAction:
		text += " : " + el.Do.String()
	case s.IsMap():
		text += " : " + s.Data.format(el.Data)
	}
	return text
}

// format prints concatenated fields; what does not fit the types is printed as bytes.
func (ts Types) format(b []byte) string {
	if _, n := ts.magicAndLen(); len(b) != int(n) {
		return fmt.Sprintf("%x", b)
	}
	parts := make([]string, len(ts))
	for i, t := range ts {
		n := int(t.info().bytes)
		parts[i] = t.format(b[:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return strings.Join(parts, " . ")
}

func (t Type) format(b []byte) string {
	switch t {
	case IPv4Addr, IPv6Addr:
		a, _ := netip.AddrFromSlice(b)
		return a.String()
	case InetProto:
		return fmt.Sprint(b[0])
	case InetService:
		return fmt.Sprint(int(b[0])<<8 | int(b[1]))
	case Mark:
		return fmt.Sprint(NumberAt(b, 0))
	case IfName:
		return cstr(b)
	}
	return fmt.Sprintf("%x", b)
}
