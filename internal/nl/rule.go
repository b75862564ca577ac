package nl

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rule is a routing rule: packets that match look a table up.
type Rule struct {
	Priority int
	Table    int
	// Src and Dst match everything when not valid; IPv6 says the family then.
	Src, Dst   netip.Prefix
	IPv6       bool
	Mark, Mask uint32
	// Proto says who made the rule; 0 becomes the package's Proto.
	Proto int
}

// String is the rule as `ip rule` would show it.
func (r Rule) String() string {
	s := fmt.Sprintf("%d:", r.Priority)
	if r.Src.IsValid() {
		s += " from " + r.Src.String()
	}
	if r.Dst.IsValid() {
		s += " to " + r.Dst.String()
	}
	if r.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, r.Mask)
	}
	return s + fmt.Sprintf(" lookup %d", r.Table)
}

func (r Rule) netlink() *netlink.Rule {
	nr := netlink.NewRule()
	nr.Family = unix.AF_INET
	if r.IPv6 || r.Src.Addr().Is6() || r.Dst.Addr().Is6() {
		nr.Family = unix.AF_INET6
	}
	nr.Priority, nr.Table, nr.Src, nr.Dst = r.Priority, r.Table, ipNet(r.Src), ipNet(r.Dst)
	if r.Mask != 0 {
		nr.Mark, nr.Mask = r.Mark, &r.Mask
	}
	nr.Protocol = uint8(r.Proto)
	if r.Proto == 0 {
		nr.Protocol = Proto
	}
	return nr
}

// AddRule adds a rule.
func (c *Conn) AddRule(r Rule) error {
	err := c.h.RuleAdd(r.netlink())
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explain(err, "add rule", r.String())
}

// DeleteRule removes a rule.
func (c *Conn) DeleteRule(r Rule) error {
	err := c.h.RuleDel(r.netlink())
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return explain(err, "delete rule", r.String())
}

// Rules lists the rules that protocol proto made.
func (c *Conn) Rules(proto int) ([]Rule, error) {
	var out []Rule
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := dump(func() ([]netlink.Rule, error) { return c.h.RuleList(fam) })
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return nil, explain(err, "list", "rules")
		}
		for _, nr := range all {
			if int(nr.Protocol) != proto {
				continue
			}
			r := Rule{Priority: nr.Priority, Table: nr.Table, Src: toPrefix(nr.Src), Dst: toPrefix(nr.Dst),
				IPv6: fam == unix.AF_INET6, Mark: nr.Mark, Proto: proto}
			if nr.Mask != nil {
				r.Mask = *nr.Mask
			}
			out = append(out, r)
		}
	}
	return out, nil
}
