package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"nodelet/internal/ipvs"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
	"nodelet/proxy/lb"
	"nodelet/proxy/nftables"
)

// device holds the addresses of virtual servers, so that the kernel delivers
// packets for them to itself, where IPVS takes them.
const device = "nodelet-ipvs0"

// DefaultScheduler is round robin, as in kube-proxy.
const DefaultScheduler = "rr"

// Config is what the back end has to know besides States.
type Config struct {
	// NetNS is a file descriptor of the network namespace; 0 is the own one.
	NetNS int
	IPv6  bool
	// Scheduler is IPVS's name of one: rr, lc, sh, mh...; empty is rr.
	Scheduler string
	// StrictARP answers ARP only for addresses of the link that was asked, as
	// load balancers in the same network need it.
	StrictARP bool
	Timeouts  ipvs.Timeouts
}

// Backend keeps IPVS and the rules around it. It is used by one goroutine at a time.
type Backend struct {
	cfg   Config
	rules *nftables.Backend
	doors
	// have is what IPVS holds; nil when that is not known.
	have *table
	// draining: some real servers stay until their connections have ended.
	draining bool
}

// New opens the back end. It changes nothing. Without the kernel's module it
// gives an error that wraps errors.ErrUnsupported.
func New(cfg Config) (*Backend, error) {
	if cfg.Scheduler == "" {
		cfg.Scheduler = DefaultScheduler
	}
	d, err := openDoors(cfg.NetNS)
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, doors: d}
	if b.rules, err = nftables.New(nftables.Config{NetNS: cfg.NetNS, IPv6: cfg.IPv6, Handover: true}); err != nil {
		d.close()
		return nil, err
	}
	return b, nil
}

// Close ends the connections; what was written stays.
func (b *Backend) Close() error {
	b.doors.close()
	return b.rules.Close()
}

// Forget makes the next Apply look at the kernel.
func (b *Backend) Forget() {
	b.have = nil
	b.rules.Forget()
}

// Port is the netlink port by which changes of the rules are known.
func (b *Backend) Port() uint32 { return b.rules.Port() }

// Untouched tells whether the rules are as they were and IPVS holds what it should.
func (b *Backend) Untouched(ctx context.Context) bool {
	if b.have == nil || b.draining || !b.rules.Untouched(ctx) {
		return false
	}
	now, err := b.observe()
	if err != nil {
		return false
	}
	steps, _ := diff(now, b.have)
	return len(steps) == 0
}

// Apply makes the kernel say what want says. IPVS comes before the rules when
// it learns of frontends, so that none is handed to nobody; what is not wanted
// any more stays for open connections and is not met by new ones.
func (b *Backend) Apply(ctx context.Context, want *lb.State) (lb.Result, error) {
	full := b.have == nil
	b.have = nil
	if full {
		if err := b.prepare(); err != nil {
			return lb.Result{Full: full}, err
		}
	}
	have, err := b.observe()
	if err != nil {
		return lb.Result{Full: full}, err
	}
	goal := compile(want, b.cfg.Scheduler, b.cfg.IPv6)
	steps, draining := diff(have, goal)
	done := 0
	for done < len(steps) && steps[done].do < deleteReal {
		if err := b.do(steps[done]); err != nil {
			return lb.Result{Full: full}, err
		}
		done++
	}
	result, err := b.rules.Apply(ctx, want)
	if err != nil {
		return result, err
	}
	for _, s := range steps[done:] {
		if err := b.do(s); err != nil {
			return result, err
		}
	}
	result.Messages += len(steps)
	b.have, b.draining = goal, draining
	return result, nil
}

// prepare makes the device and tells IPVS how to behave.
func (b *Backend) prepare() error {
	if err := b.links.AddDummy(device); err != nil {
		return err
	}
	sysctls := [][2]string{
		{"ipv4/vs/conntrack", "1"},                 // or else nothing it sends on can be masqueraded
		{"ipv4/vs/expire_nodest_conn", "1"},        // UDP flows leave an endpoint that went
		{"ipv4/vs/expire_quiescent_template", "1"}, // likewise for clients that are remembered
	}
	if b.cfg.StrictARP {
		sysctls = append(sysctls, [2]string{"ipv4/conf/all/arp_ignore", "1"}, [2]string{"ipv4/conf/all/arp_announce", "2"})
	}
	if err := b.inside(func() error {
		for _, s := range sysctls {
			if _, err := netns.WriteSysctl(s[0], s[1]); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("prepare IPVS: %w", err)
	}
	if b.cfg.Timeouts != (ipvs.Timeouts{}) {
		return b.conn.SetTimeouts(b.cfg.Timeouts)
	}
	return nil
}

// inside runs f in the back end's network namespace.
func (b *Backend) inside(f func() error) error {
	if b.cfg.NetNS <= 0 {
		return f()
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", b.cfg.NetNS))
	if err != nil {
		return err
	}
	return errors.Join(ns.Do(f), ns.Close())
}

// do carries out one step.
func (b *Backend) do(s step) error {
	switch s.do {
	case addAddr, deleteAddr:
		link, err := b.links.Link(device)
		if err != nil {
			return err
		}
		a := nl.Addr{Prefix: netip.PrefixFrom(s.addr, s.addr.BitLen()), Link: link.Index}
		if s.do == addAddr {
			return b.links.AddAddr(a)
		}
		return b.links.DeleteAddr(a)
	case addServer:
		return b.conn.Add(s.server, s.scheduler)
	case setScheduler:
		return b.conn.SetScheduler(s.server, s.scheduler)
	case addReal:
		return b.conn.AddReal(s.server, s.real)
	case setWeight:
		return b.conn.SetWeight(s.server, s.real)
	case deleteReal:
		return b.conn.DeleteReal(s.server, s.real)
	case deleteServer:
		return b.conn.Delete(s.server)
	}
	return fmt.Errorf("no such step: %d", s.do)
}

// Cleanup removes the rules, our virtual servers and the device.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.Forget()
	if err := b.rules.Cleanup(ctx); err != nil {
		return err
	}
	have, err := b.observe()
	if err != nil {
		return err
	}
	for v := range have.services {
		if err := b.conn.Delete(v); err != nil {
			return err
		}
	}
	link, err := b.links.Link(device)
	if errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.links.DeleteLink(link.Index)
}

// Residue names what is left of ours in the kernel.
func (b *Backend) Residue(ctx context.Context) ([]string, error) {
	left, err := b.rules.Residue(ctx)
	if err != nil {
		return left, err
	}
	have, err := b.observe()
	if err != nil {
		return left, err
	}
	for v := range have.services {
		left = append(left, "IPVS virtual server "+v.String())
	}
	if _, err := b.links.Link(device); err == nil {
		left = append(left, "link "+device)
	} else if !errors.Is(err, nl.ErrNotFound) {
		return left, err
	}
	return left, nil
}
