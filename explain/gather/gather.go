package gather

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"nodelet/explain"
	"nodelet/internal/conntrack"
	"nodelet/internal/ipvs"
	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/nft"
	"nodelet/internal/nft/sim"
	"nodelet/internal/nl"
	"nodelet/internal/store"
	"nodelet/internal/xtables"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// Config is what the operator decides.
type Config struct {
	NodeName      string
	ClusterDomain string
	ServiceCIDRs  []netip.Prefix
	// NetNS is the node's network namespace; nil is the process's own.
	NetNS *netns.NS
}

// Deps are the seams.
type Deps struct {
	Store *store.Store
	// State, Describe and ReadBack are the service proxy's; nil without it.
	State    func() *lb.State
	Describe func() []lb.View
	ReadBack func(context.Context, lb.Frontend) (lb.Kernel, *lb.State, error)
	// Attachments lists the pods on this node's network; nil when it is somebody else's.
	Attachments func() ([]Attachment, error)
}

// Attachment is a pod's place on the node's network.
type Attachment struct {
	Pod   model.Key
	Addrs []netip.Addr
	// Link is the node's end, IfName the pod's, in the namespace at Netns.
	Link, IfName, Netns string
}

// reader reads the facts of one answer.
type reader struct {
	cfg   Config
	deps  Deps
	facts *explain.Facts
	conn  *nl.Conn
	pods  []Attachment
}

// Facts reads what an answer to q rests on. An error is a question that cannot
// be asked, or a kernel that tells nothing at all.
func Facts(ctx context.Context, cfg Config, deps Deps, q explain.Query) (*explain.Facts, error) {
	conn, err := cfg.open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := &reader{cfg: cfg, deps: deps, conn: conn, facts: &explain.Facts{ServiceCIDRs: cfg.ServiceCIDRs, Complete: true}}
	f := r.facts
	f.Names = explain.Names{Snapshot: deps.Store.Snapshot(), NodeName: cfg.NodeName, ClusterDomain: cfg.ClusterDomain}
	f.Revision, f.Applied = f.Snapshot.Revision, f.Snapshot.Applied[store.Proxy]
	if deps.State != nil {
		f.State, f.Proxied = deps.State(), true
	}
	if err := r.readAddrs(); err != nil {
		return nil, err
	}
	r.readAttachments()
	f.LinkOf = r.linkOf
	if f.Question, err = explain.Resolve(f.Names, q); err != nil {
		return nil, err
	}
	if f.State == nil {
		r.unread("what the service proxy has: it has not programmed the kernel yet, or this daemon runs without it")
	} else if f.Question.Problem == nil {
		f.Verdict, f.Trace = eval.Trace(f.State, f.Packet)
	}
	r.readViews()
	if f.Question.Problem != nil {
		return f, nil
	}
	r.readKernel(ctx)
	r.readWays(ctx)
	r.readFlows(ctx)
	r.readPaths()
	r.readListeners()
	return f, nil
}

func (c Config) open() (*nl.Conn, error) {
	if c.NetNS == nil {
		return nl.Open()
	}
	return nl.OpenAt(c.NetNS.Fd())
}

func (c Config) fd() int {
	if c.NetNS == nil {
		return 0
	}
	return c.NetNS.Fd()
}

// inside runs fn in the node's namespace.
func (c Config) inside(fn func() error) error {
	if c.NetNS == nil {
		return fn()
	}
	return c.NetNS.Do(fn)
}

func (r *reader) unread(format string, args ...any) {
	r.facts.Unread = append(r.facts.Unread, fmt.Sprintf(format, args...))
}

func (r *reader) readAddrs() error {
	addrs, err := r.conn.Addrs(0)
	if err != nil {
		return fmt.Errorf("read the node's addresses: %w", err)
	}
	for _, a := range addrs {
		r.facts.NodeAddrs = append(r.facts.NodeAddrs, a.Prefix.Addr())
	}
	return nil
}

func (r *reader) readViews() {
	f := r.facts
	if r.deps.Describe == nil {
		return
	}
	var name string
	switch {
	case f.Verdict.Target.Port != nil:
		name = f.Verdict.Target.Service.String()
	case f.Service != nil:
		name = f.Service.String()
	default:
		return
	}
	for _, v := range r.deps.Describe() {
		if v.Service == name {
			f.Views = append(f.Views, v)
		}
	}
}

func (r *reader) readAttachments() {
	if r.deps.Attachments == nil {
		return
	}
	r.facts.Network = true
	pods, err := r.deps.Attachments()
	if err != nil {
		r.unread("which pods are on the network: %v", err)
	}
	r.pods = pods
}

// attachment finds the pod that has an address.
func (r *reader) attachment(a netip.Addr) (Attachment, bool) {
	at := slices.IndexFunc(r.pods, func(p Attachment) bool { return slices.Contains(p.Addrs, a) })
	if at < 0 {
		return Attachment{}, false
	}
	return r.pods[at], true
}

// readKernel asks the back end about the frontend that the packet meets.
func (r *reader) readKernel(ctx context.Context) {
	f := r.facts
	if r.deps.ReadBack == nil || f.State == nil {
		return
	}
	about := lb.Frontend{Addr: f.Packet.Dst.Addr(), Proto: f.Packet.Proto, Port: f.Packet.Dst.Port()}
	switch t := f.Verdict.Target; {
	case t.Port == nil && t.Kind != lb.Unassigned:
		return
	case t.Kind.WholeAddress():
		about = lb.Frontend{Addr: about.Addr}
	case t.Kind == lb.NodePort && about.Addr.Is6():
		about.Addr = netip.IPv6Unspecified()
	case t.Kind == lb.NodePort:
		about.Addr = netip.IPv4Unspecified()
	}
	k, state, err := r.deps.ReadBack(ctx, about)
	if err != nil {
		r.unread("what the kernel holds for the Service: %v", err)
		return
	}
	if state != f.State { // a newer one meanwhile: predict by the one that was compared
		f.State = state
		f.Verdict, f.Trace = eval.Trace(state, f.Packet)
	}
	f.Kernel = &k
}

// device is the interface the packet comes in by; empty for the node's own.
func (r *reader) device() string {
	f := r.facts
	if f.Packet.From == lb.FromNode {
		return ""
	}
	if f.Device != "" {
		return f.Device
	}
	p, ok := r.attachment(f.From.Addr)
	if ok {
		return p.Link
	}
	if f.Device = r.linkOf(f.From.Addr); f.Device == "" {
		r.unread("by which interface packets from %s come in", f.From.Addr)
		return "unknown"
	}
	return f.Device
}

// linkOf gives the link by which packets from an address come in: the pod's
// own, or the one on the way that leads back.
func (r *reader) linkOf(a netip.Addr) string {
	if p, ok := r.attachment(a); ok {
		return p.Link
	}
	return r.out(a)
}

// readWays runs the packet through all rules the kernel holds.
func (r *reader) readWays(ctx context.Context) {
	f := r.facts
	if p, ok := r.attachment(f.From.Addr); ok && f.Packet.From == lb.FromPod {
		f.Source = r.link(p, f.From.Addr)
	}
	device := r.device()
	conn, err := nft.Open(nft.Options{NetNS: r.cfg.fd()})
	if err != nil {
		r.unread("the rules of the kernel: %v", err)
		return
	}
	defer func() { _ = conn.Close() }()
	rules, err := conn.Everything(ctx)
	if err != nil {
		r.unread("the rules of the kernel: %v", err)
		return
	}
	world := r.world(ctx, rules)
	const anyPort = 40000 // of a client
	p := sim.Packet{Src: netip.AddrPortFrom(f.Packet.Src, anyPort), Dst: f.Packet.Dst, Proto: uint8(f.Packet.Proto), In: device}
	if f.Verdict.Outcome == eval.DNAT && (f.Kernel == nil || !f.Kernel.InRules) {
		r.translatedWays(rules, world, p)
	} else {
		f.Ways, f.Complete = sim.Run(rules, world, p)
	}
}

// world is what rules ask of this node. The tables of legacy iptables join the rules.
func (r *reader) world(ctx context.Context, rules *sim.Ruleset) sim.World {
	f := r.facts
	legacy, err := xtables.LegacyTables(ctx, r.cfg.fd(), f.Packet.Dst.Addr().Is6())
	if err != nil {
		r.unread("the rules of legacy iptables: %v", err)
	}
	rules.Tables = append(rules.Tables, legacy...)
	virtual, err := ipvs.Chosen(r.cfg.fd())
	if err != nil {
		r.unread("the virtual servers of IPVS: %v", err)
	}
	return virtual.In(sim.World{
		Local: func(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(f.NodeAddrs, a) },
		Out:   r.out,
		Recent: func(list string, src netip.Addr) bool {
			found, err := xtables.Remembers(r.cfg.fd(), list, src)
			if err != nil {
				r.unread("remembered clients: %v", err)
			}
			return found
		},
	})
}

// translatedWays follows the packet as it is behind a back end that is not
// among the rules: firewalls meet it on its way to each of the endpoints.
func (r *reader) translatedWays(rules *sim.Ruleset, world sim.World, p sim.Packet) {
	f := r.facts
	for i, to := range f.Verdict.Endpoints {
		if i == maxPaths {
			break // said by readPaths
		}
		p.Dst = to
		ways, complete := sim.Run(rules, world, p)
		f.Complete = f.Complete && complete
		for _, w := range ways {
			w.Translated, w.Masqueraded = true, f.Verdict.Masquerade[i]
			w.Weight *= f.Verdict.Chance()
			f.Ways = append(f.Ways, w)
		}
	}
}

func (r *reader) out(dst netip.Addr) string {
	route, err := r.conn.Ask(nl.Asked{Dst: dst})
	if err != nil {
		return ""
	}
	link, err := r.conn.LinkByIndex(route.Link)
	if err != nil {
		return ""
	}
	return link.Name
}

// readFlows lists tracked connections like the packet.
func (r *reader) readFlows(ctx context.Context) {
	f := r.facts
	c, err := conntrack.Open(r.cfg.fd())
	if err != nil {
		r.unread("tracked connections: %v", err)
		return
	}
	defer c.Close()
	flows, err := c.List(ctx, f.Packet.Dst.Addr().Is6())
	if err != nil {
		r.unread("tracked connections: %v", err)
		return
	}
	const enough = 20
	anyClient := f.Query.From.Kind == explain.PlaceOutside
	for _, fl := range flows {
		if fl.Proto != uint8(f.Packet.Proto) || fl.Dst != f.Packet.Dst || !anyClient && fl.Src.Addr() != f.Packet.Src || len(f.Flows) == enough {
			continue
		}
		f.Flows = append(f.Flows, explain.Flow{Src: fl.Src, Dst: fl.Dst, To: fl.AnswersFrom})
	}
	if f.Kernel == nil {
		return
	}
	for _, fl := range f.Kernel.Flows {
		if fl.Dst == f.Packet.Dst && (anyClient || fl.Src.Addr() == f.Packet.Src) && len(f.Flows) < enough {
			f.Flows = append(f.Flows, explain.Flow{Src: fl.Src, Dst: fl.Dst, To: fl.To, Own: true})
		}
	}
}

func (r *reader) readListeners() {
	f := r.facts
	proto := strings.ToLower(f.Packet.Proto.String())
	if !f.Packet.ToNode || proto == "sctp" {
		return
	}
	err := r.cfg.inside(func() error {
		all, err := netns.Listeners(proto)
		for _, a := range all {
			if a.Port() == f.Packet.Dst.Port() && takes(a.Addr(), f.Packet.Dst.Addr()) {
				f.Listeners = append(f.Listeners, a)
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.unread("sockets of this node: %v", err)
	}
}

// takes tells whether a socket bound to an address takes packets to another.
func takes(bound, dst netip.Addr) bool {
	return bound == dst || bound.IsUnspecified() && (bound.Is6() || dst.Is4()) || bound.Is4In6() && bound.Unmap() == dst
}
