package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"nodelet/dns/wire"
	"nodelet/dns/xdp"
	"nodelet/dns/zone"
)

// inKernel is what answers before a question reaches a socket, with Config.XDP.
// It is only ever a faster way to the same answer.
type inKernel struct {
	xdp *xdp.Answerer
	// problem is why the kernel answers nothing, empty when it does or need not; for people.
	problem string
}

// newInKernel gives nil unless it is wanted.
func newInKernel(c Config, d *DNS) (*inKernel, error) {
	if !c.XDP {
		return nil, nil
	}
	x, err := xdp.New(xdp.Config{Servers: c.ListenAddrs, Port: c.Port}, d.log)
	if err != nil {
		return nil, err
	}
	return &inKernel{xdp: x}, nil
}

// run keeps the program where pods' packets arrive.
func (k *inKernel) run(ctx context.Context) error { return k.xdp.Run(ctx) }

// advanceKernel brings what the kernel answers in step with z, which is routed
// and about to be used. It goes first: so nothing that comes after an answer by
// z, such as the revision that TXT rev._nodelet gives, is older than the kernel's.
func (d *DNS) advanceKernel(z *zone.Zone) {
	if d.kernel == nil {
		return
	}
	err := d.program.Load().plain(d.c.ClusterDomain)
	if err != nil {
		d.kernel.xdp.Clear()
	} else {
		err = d.kernel.xdp.Apply(z)
	}
	d.kernelErr.Store(&err)
	d.logNew(&d.kernel.problem, "the kernel answers no questions, the sockets do", err)
}

// kernelProblem is why the kernel does not answer though it is to.
func (d *DNS) kernelProblem() error {
	if p := d.kernelErr.Load(); p != nil {
		return *p
	}
	return nil
}

// plain is nil when nothing but the zone has a say in names of the cluster.
func (p *program) plain(domain string) error {
	at, err := suffixOf(strings.ToLower(strings.TrimSuffix(domain, ".")))
	if err != nil {
		return err
	}
	var q wire.Query
	q.Set([]byte(at.name), wire.TypeA)
	if b := p.of(&q); b == nil || !b.cluster {
		return errors.New("answer DNS by XDP: the Corefile has no kubernetes block for the cluster's names")
	}
	for _, b := range p.blocks {
		inside := false
		for _, z := range b.zones {
			inside = inside || strings.HasSuffix(z.name, at.name)
		}
		if !inside && b != p.of(&q) {
			continue
		}
		if what := b.meddles(at); what != "" {
			return fmt.Errorf("answer DNS by XDP: the Corefile has %s for the block with the cluster's names", what)
		}
	}
	return nil
}

// meddles names what has a say in names below domain beside the zone.
func (b *block) meddles(domain suffix) string {
	switch {
	case len(b.rewrites) > 0:
		return "rewrite"
	case len(b.templates) > 0:
		return "template"
	case !b.cluster:
		return "no kubernetes"
	}
	if b.hosts != nil {
		for name := range b.hosts.addrs {
			if strings.HasSuffix(name, domain.name) {
				return "hosts of the cluster's domain"
			}
		}
	}
	return ""
}

// kernelLast is what one answer of the kernel takes, for the histogram of
// durations: measuring it would take longer.
const kernelLast = time.Microsecond

// addKernel counts the answers of the kernel with all others.
func (out *Stats) addKernel(counts map[string]uint64, zone string) {
	h := out.Durations[zone]
	for qtype, n := range counts {
		out.addRequests(RequestCount{Zone: zone, Proto: "udp", Family: "1", Type: qtype, Count: n})
		out.addResponses(ResponseCount{Zone: zone, RCode: wire.Success.String(), Count: n})
		for bound := range h.Buckets {
			h.Buckets[bound] += n
		}
		h.Count += n
		h.Sum += (time.Duration(n) * kernelLast).Seconds()
		out.Kernel += n
	}
	out.Durations[zone] = h
}
