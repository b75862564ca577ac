package prove

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nodelet/internal/conntrack"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/traffic"
)

// rounds is how often a packet is sent that may go to several endpoints. That
// each is met in its share is what Held proves.
const rounds = 4

// Writer puts what a state says into a namespace; it may keep what it needs for the next time.
type Writer func(ctx context.Context, s *lb.State) error

// Packets are real packets through a kernel that somebody has told what a
// state says.
type Packets struct {
	name  string
	lab   *lab
	flows *conntrack.Conn
	write Writer
	close func() error
}

// NewPackets makes the namespaces; open gives the writer for that of the node.
func NewPackets(name string, open func(netns int) (Writer, func() error, error)) (*Packets, error) {
	l, err := newLab()
	if err != nil {
		return nil, err
	}
	p := &Packets{name: name, lab: l}
	if p.flows, err = conntrack.Open(l.ns["node"].Fd()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if p.write, p.close, err = open(l.ns["node"].Fd()); err != nil {
		p.flows.Close()
		return nil, errors.Join(err, l.Close())
	}
	return p, nil
}

// Name says what it is.
func (p *Packets) Name() string { return p.name }

// Close lets everything go.
func (p *Packets) Close() error {
	p.flows.Close()
	return errors.Join(p.close(), p.lab.Close())
}

// Disagree sends the packets and looks what comes of them.
func (p *Packets) Disagree(ctx context.Context, s *lb.State, packets []string) (string, error) {
	if err := p.write(ctx, s); err != nil {
		return "", err
	}
	for _, ipv6 := range []bool{false, true} { // what the case before has left
		if _, err := p.flows.Delete(ctx, ipv6, func(conntrack.Flow) bool { return true }); err != nil {
			return "", err
		}
	}
	kept := clients{}
	for _, text := range packets {
		pkt, h, err := packet(text)
		if err != nil {
			return "", err
		}
		v := eval.Eval(s, pkt)
		if v.Outcome == eval.NoService || toItself(pkt, v) {
			continue // what becomes of the packet is nobody's concern
		}
		if what := p.send(kept, h, pkt, v); what != "" {
			return fmt.Sprintf("%s\n  eval:    %s\n  packets: %s", text, v, what), nil
		}
	}
	return "", nil
}

// toItself: a pod of another node may be its own endpoint. Its packet does not
// come this way but by that node, which masquerades it.
func toItself(pkt eval.Packet, v eval.Verdict) bool {
	at := slices.IndexFunc(v.Endpoints, func(e netip.AddrPort) bool { return e.Addr() == pkt.Src })
	return at >= 0 && !v.Masquerade[at]
}

// clients are the endpoints that clients of ports with affinity were sent to.
type clients map[client][]string

// client is who keeps its endpoint, and for what.
type client struct {
	port  *lb.Port
	local bool
	who   netip.Addr
}

// wrong tells of a client that was sent elsewhere than before. What it learnt
// by the other traffic policy it may keep to as well: eBPF and iptables do.
func (c clients) wrong(got traffic.Answer, pkt eval.Packet, v eval.Verdict) string {
	if !v.Sticky || got.Server == "" {
		return ""
	}
	who, other := client{v.Target.Port, v.Local, pkt.Src}, client{v.Target.Port, !v.Local, pkt.Src}
	before := append(slices.Clone(c[who]), c[other]...)
	met := len(c[who]) > 0
	c[who] = append(c[who], got.Server)
	if met && !slices.Contains(before, got.Server) {
		return fmt.Sprintf("%s, and the client was sent to %v before: no affinity", got, before)
	}
	return ""
}

// send says what is not as the verdict has it.
func (p *Packets) send(kept clients, h host, pkt eval.Packet, v eval.Verdict) string {
	n, wait := 1, traffic.Patience
	switch {
	case v.Outcome == eval.Drop:
		wait = traffic.Silence
	case len(v.Endpoints) > 1:
		n = rounds
	}
	for range n {
		got, err := p.ask(h, pkt, wait)
		if err != nil {
			return err.Error()
		}
		if what := cmp.Or(judge(got, pkt, v), kept.wrong(got, pkt, v)); what != "" {
			return what
		}
	}
	return ""
}

func (p *Packets) ask(h host, pkt eval.Packet, wait time.Duration) (traffic.Answer, error) {
	c, err := p.lab.dial(h, traffic.Question{Proto: pkt.Proto, To: pkt.Dst, Wait: wait})
	if err != nil {
		return traffic.AnswerOf(err)
	}
	defer func() { _ = c.Close() }()
	return c.Ask(wait)
}

func judge(got traffic.Answer, pkt eval.Packet, v eval.Verdict) string {
	at := slices.IndexFunc(v.Endpoints, func(e netip.AddrPort) bool { return e.Addr().String() == got.Server })
	switch {
	case v.Outcome != eval.DNAT && (got.Refused != (v.Outcome == eval.Reject) || got.Silent != (v.Outcome == eval.Drop)):
		return got.String()
	case v.Outcome != eval.DNAT:
		return ""
	case got.Refused, got.Silent:
		return got.String()
	case at < 0:
		return got.String() + ", which is none of the endpoints"
	case pkt.From != lb.FromNode && (got.Saw != pkt.Src) != v.Masquerade[at]:
		return fmt.Sprintf("%s: masqueraded %t", got, got.Saw != pkt.Src)
	}
	return ""
}
