package pki

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/quick"
)

// Whatever was asked for, the certificate fits the request it was issued for,
// in any order of its lists, and no other.
func TestIssueFitsProperty(t *testing.T) {
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAuthority("test", key, begin)
	if err != nil {
		t.Fatal(err)
	}
	law := func(user uint16, hosts []uint8, addrs [][4]byte, server bool) bool {
		r := Request{CommonName: fmt.Sprintf("user-%d", user), Server: server, Client: !server}
		for _, h := range hosts {
			r.DNSNames = append(r.DNSNames, fmt.Sprintf("h%d.example.org", h))
		}
		for _, b := range addrs {
			r.Addresses = append(r.Addresses, netip.AddrFrom4(b))
		}
		p, err := a.Issue(r, begin)
		if err != nil {
			t.Log(err)
			return false
		}
		turned := r
		turned.DNSNames = slices.Clone(r.DNSNames)
		slices.Reverse(turned.DNSNames)
		if ok, why := a.Fits(p, turned, begin); !ok {
			t.Log(why)
			return false
		}
		for _, other := range []Request{
			{CommonName: r.CommonName + "x", DNSNames: r.DNSNames, Addresses: r.Addresses, Server: server, Client: !server},
			{CommonName: r.CommonName, DNSNames: append(slices.Clone(r.DNSNames), "new"), Addresses: r.Addresses, Server: server, Client: !server},
			{CommonName: r.CommonName, DNSNames: r.DNSNames, Addresses: append(slices.Clone(r.Addresses), netip.IPv6Unspecified()), Server: server, Client: !server},
			{CommonName: r.CommonName, Organizations: []string{GroupMasters}, DNSNames: r.DNSNames, Addresses: r.Addresses, Server: server, Client: !server},
			{CommonName: r.CommonName, DNSNames: r.DNSNames, Addresses: r.Addresses, Server: true, Client: true},
		} {
			if ok, _ := a.Fits(p, other, begin); ok {
				t.Logf("%+v fits %+v", p, other)
				return false
			}
		}
		return true
	}
	if err := quick.Check(law, &quick.Config{MaxCount: 50}); err != nil {
		t.Error(err)
	}
}
