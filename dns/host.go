package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"nodelet/internal/nft"
	"nodelet/internal/nl"
)

// hostCheck is how often the host is looked at: somebody may have flushed the
// link or the rules. A look costs some hundred microseconds.
const hostCheck = 30 * time.Second

// Host is what the server needs of the host beside its sockets: the addresses
// it listens on, and that connection tracking leaves their packets alone.
type Host interface {
	// Observe lists what is there, one line each.
	Observe(ctx context.Context) ([]string, error)
	// ApplyAddrs adds the addresses that are missing and lists them.
	ApplyAddrs(ctx context.Context) ([]string, error)
	// ApplyRules adds the rules that are missing and lists them. Queries are
	// answered without them as well.
	ApplyRules(ctx context.Context) ([]string, error)
	// Remove takes away all that Observe lists.
	Remove(ctx context.Context) error
}

// kernelHost is the host by rtnetlink and nftables. An address is ours when it
// is a configured one on the configured link: there is nothing else to tell it
// by. The table is ours by its name.
type kernelHost struct {
	link    string
	addrs   []netip.Addr // without loopback addresses, which every host has
	port    uint16
	noTrack bool
	// clientQPS is how many packets a second one source outside of the host may send, 0 for any.
	clientQPS uint32
}

func newKernelHost(c Config) kernelHost {
	addrs := slices.DeleteFunc(slices.Clone(c.ListenAddrs), netip.Addr.IsLoopback)
	return kernelHost{link: c.Link, addrs: addrs, port: c.Port, noTrack: c.NoTrack, clientQPS: c.Limits.ClientQPS}
}

// Table is the nftables table of this feature.
func Table() nft.Table { return nft.Table{Family: nft.Inet, Name: "nodelet-dns"} }

// Observe lists the addresses and the table that are there.
func (k kernelHost) Observe(ctx context.Context) ([]string, error) {
	var found []string
	errAddrs := k.withLink(func(c *nl.Conn, link int) error {
		have, err := k.present(c, link)
		for _, a := range have {
			found = append(found, fmt.Sprintf("address %s on %s", a, k.link))
		}
		return err
	})
	errRules := k.withRules(func(c *nft.Conn) error {
		there, err := c.HasTable(ctx, Table())
		if there {
			found = append(found, "nftables table "+Table().String())
		}
		return err
	})
	return found, errors.Join(errAddrs, errRules)
}

// ApplyAddrs adds the addresses that are missing.
func (k kernelHost) ApplyAddrs(context.Context) ([]string, error) {
	var added []string
	err := k.withLink(func(c *nl.Conn, link int) error {
		have, err := k.present(c, link)
		errs := []error{err}
		for _, a := range k.addrs {
			if slices.Contains(have, a) {
				continue
			}
			if err := c.AddAddr(nl.Addr{Prefix: hostPrefix(a), Link: link, NotSource: true}); err != nil {
				errs = append(errs, err)
				continue
			}
			added = append(added, fmt.Sprintf("address %s on %s", a, k.link))
		}
		return errors.Join(errs...)
	})
	return added, err
}

// ApplyRules adds the rules that keep connection tracking away.
func (k kernelHost) ApplyRules(ctx context.Context) ([]string, error) {
	want := k.rules()
	if len(want.Chains) == 0 {
		return nil, nil
	}
	var added []string
	err := k.withRules(func(c *nft.Conn) error {
		changed, err := c.Ensure(ctx, &want)
		if changed {
			added = append(added, "nftables table "+Table().String())
		}
		return err
	})
	return added, err
}

// Remove takes away the addresses and the table.
func (k kernelHost) Remove(ctx context.Context) error {
	errAddrs := k.withLink(func(c *nl.Conn, link int) error {
		have, err := k.present(c, link)
		errs := []error{err}
		for _, a := range have {
			errs = append(errs, c.DeleteAddr(nl.Addr{Prefix: hostPrefix(a), Link: link}))
		}
		return errors.Join(errs...)
	})
	return errors.Join(errAddrs, k.withRules(func(c *nft.Conn) error { return c.Delete(ctx, Table()) }))
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// withLink runs f with a connection and the index of the link.
func (k kernelHost) withLink(f func(c *nl.Conn, link int) error) error {
	c, err := nl.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(k.link)
	if err != nil {
		return err
	}
	return f(c, l.Index)
}

func (k kernelHost) withRules(f func(c *nft.Conn) error) error {
	c, err := nft.Open(nft.Options{})
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// present lists which of the addresses the link has.
func (k kernelHost) present(c *nl.Conn, link int) (have []netip.Addr, err error) {
	all, err := c.Addrs(link)
	for _, a := range all {
		if ip := a.Prefix.Addr(); slices.Contains(k.addrs, ip) && a.Prefix.IsSingleIP() {
			have = append(have, ip)
		}
	}
	return have, err
}

// floodTimeout is how long a source that is silent is remembered, floodSources
// how many are: each costs the kernel some 200 bytes.
const (
	floodTimeout = 10 * time.Second
	floodSources = 65535
)

// rules are the nftables table: what drops floods, and what keeps connection
// tracking off the packets of our addresses. Without a need for either it is empty.
//
// Tracked, two queries sent at once from one port may lose one of them, which
// costs the client 5 seconds. And a flood must be cut before it reaches the
// sockets: once their buffers are full, everybody's queries are lost.
//
// Each packet pays for each rule it passes (some 50 ns), so most packets pass
// one: what comes over loopback was marked when it was sent, and the mark stays.
func (k kernelHost) rules() nft.Ruleset {
	set := nft.Ruleset{Table: Table()}
	pre := nft.Chain{Name: "prerouting", Base: &nft.Base{Type: nft.Filter, Hook: nft.Prerouting, Priority: nft.PriorityRaw}}
	out := nft.Chain{Name: "output", Base: &nft.Base{Type: nft.Filter, Hook: nft.Output, Priority: nft.PriorityRaw}}
	var replies, queries []nft.Rule
	for _, a := range k.addrs {
		f := fieldsOf(a)
		if name := "sources" + f.version; k.clientQPS > 0 {
			if !slices.ContainsFunc(set.Sets, func(s nft.Set) bool { return s.Name == name }) {
				set.Sets = append(set.Sets, nft.Set{Name: name, Key: nft.Types{f.kind}, Dynamic: true, Timeout: true, Size: floodSources})
			}
			rate := nft.Rate{PerSecond: k.clientQPS, Burst: max(k.clientQPS/4, 1)}
			pre.Rules = append(pre.Rules, nft.Rule{Comment: "floods", Do: []nft.Stmt{
				f.family, nft.Is(f.dst, a), nft.Is(nft.DstPort, k.port),
				nft.Load(0, f.src), nft.OverRate(name, 0, floodTimeout, rate), nft.Counter(), nft.Drop(),
			}})
		}
		if k.noTrack {
			// UDP and TCP alike: both have the ports in the same place.
			queries = append(queries, nft.Rule{Do: []nft.Stmt{f.family, nft.Is(f.dst, a), nft.Is(nft.DstPort, k.port), nft.Notrack(), nft.Accept()}})
			replies = append(replies, nft.Rule{Do: []nft.Stmt{f.family, nft.Is(f.src, a), nft.Is(nft.SrcPort, k.port), nft.Notrack(), nft.Accept()}})
		}
	}
	pre.Rules, out.Rules = append(pre.Rules, queries...), slices.Concat(replies, queries)
	if len(pre.Rules) > 0 {
		loopback := nft.Rule{Comment: "marked when it was sent", Do: []nft.Stmt{nft.Is(nft.InIf, "lo"), nft.Accept()}}
		pre.Rules = append([]nft.Rule{loopback}, pre.Rules...)
	}
	for _, c := range []nft.Chain{pre, out} {
		if len(c.Rules) > 0 {
			set.Chains = append(set.Chains, c)
		}
	}
	return set
}

// fields are what rules of one address family look at.
type fields struct {
	version  string
	kind     nft.Type
	family   nft.Stmt
	src, dst nft.Field
}

func fieldsOf(a netip.Addr) fields {
	if a.Is6() {
		return fields{"6", nft.IPv6Addr, nft.IsIPv6(), nft.SrcAddr6, nft.DstAddr6}
	}
	return fields{"4", nft.IPv4Addr, nft.IsIPv4(), nft.SrcAddr4, nft.DstAddr4}
}

// keepHost applies what the server needs of the host, and again whenever it is gone.
func (d *DNS) keepHost(ctx context.Context) error {
	ticker := time.NewTicker(hostCheck)
	defer ticker.Stop()
	var lastAddrs, lastRules string
	for {
		addrs, errAddrs := d.host.ApplyAddrs(ctx)
		countFailure(&d.setupErrors.addrs, errAddrs)
		d.hostErr.Store(&errAddrs)
		d.noteServing()
		d.logNew(&lastAddrs, "apply dns addresses: pods get no answers without them", errAddrs)
		rules, errRules := d.host.ApplyRules(ctx)
		countFailure(&d.setupErrors.rules, errRules)
		d.logNew(&lastRules, "apply dns rules: queries are answered, but tracked by the kernel", errRules)
		if added := slices.Concat(addrs, rules); len(added) > 0 {
			d.log.Info("applied to the host", "added", added)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func countFailure(n *atomic.Uint64, err error) {
	if err != nil {
		n.Add(1)
	}
}

// logNew logs an error that is not the one logged last.
func (d *DNS) logNew(last *string, what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != *last && err != nil {
		d.log.Error(what, "err", err)
	}
	*last = text
}

// Cleanup removes what stays when the daemon ends: addresses and rules. It is
// part of reset, when nothing serves any more.
func (d *DNS) Cleanup(ctx context.Context) error {
	if d.c.Link == "" {
		return nil
	}
	if err := d.host.Remove(ctx); err != nil {
		return fmt.Errorf("clean up dns: %w", err)
	}
	return nil
}

// Residue lists what Cleanup would remove.
func (d *DNS) Residue(ctx context.Context) ([]string, error) {
	if d.c.Link == "" {
		return nil, nil
	}
	return d.host.Observe(ctx)
}
