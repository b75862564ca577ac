package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/lab"
)

// Limits and sizes of the parts.
const (
	// limit is for whatever is waited for.
	limit = 4 * time.Minute
	// pause lets kube-proxy's minSyncPeriod (1 s) pass between changes, so that its best is measured.
	pause = 1100 * time.Millisecond
	// connects are made in each of so many blocks on the node and on the bare one, by turns.
	connects, connectBlocks = 40, 100
	// trafficTime is how long connections are made, or bytes are sent, in each of so many blocks.
	trafficTime, trafficBlocks = 300 * time.Millisecond, 8
	// changeEvery is the pause between changes where there are a hundred a second.
	changeEvery = 10 * time.Millisecond
)

// turn is what measure works on.
type turn struct {
	area.Turn
	node *area.Node
	// here, bare and far make connections: on the node, on one without a proxy, and outside.
	here, bare, far *client
	world           *world
	process         *lab.Process
	flipped         int
}

func vip(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

func measure(ctx context.Context, n *area.Node, t area.Turn) (err error) {
	m := &turn{Turn: t, node: n}
	defer m.stopClients()
	if err := m.place(ctx); err != nil {
		return err
	}
	endpoints := usualEndpoints
	if t.Size == huge {
		endpoints = hugeEndpoints
	}
	w, err := newWorld(t.Size, endpoints)
	if err != nil {
		return err
	}
	defer w.api.Close()
	if err := w.fill(); err != nil {
		return err
	}
	m.world = w
	alike, err := m.added(netip.AddrPortFrom(unrelated, servePort), netip.AddrPortFrom(unrelated, servePort))
	if err != nil {
		return err
	}
	n.Note("without a proxy, connect() on the node takes %+.2f µs more than on the bare one", median(alike.added))
	if err := errors.Join(m.hooksAlone(), m.updateAlone()); err != nil {
		return err
	}
	if err := m.cold(ctx); err != nil {
		return err
	}
	defer m.process.Stop()
	for _, part := range []func(context.Context) error{
		m.changes, m.followed, m.connects, m.memory, m.busy, m.traffic,
	} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, m.process.Log())
		}
	}
	return nil
}

func (m *turn) name(format string) string { return fmt.Sprintf(format, m.Size) }

// place makes the back ends and the clients. The bare client comes before the node has its own cgroup.
func (m *turn) place(ctx context.Context) (err error) {
	if err := m.node.BareShell("ip route add 10.128.0.0/16 via " + area.FarIP); err != nil {
		return err
	}
	if m.bare, err = startClient(area.NetworkFile(area.BareFD)); err != nil {
		return err
	}
	if err := errors.Join(m.node.OwnCgroup(), serve(ctx, m.node)); err != nil {
		return err
	}
	if m.here, err = startClient("/proc/self/ns/net"); err != nil {
		return err
	}
	m.far, err = startClient(area.NetworkFile(area.FarFD))
	return err
}

func (m *turn) stopClients() {
	for _, c := range []*client{m.here, m.bare, m.far} {
		if c != nil {
			c.stop()
		}
	}
}

// cold starts the proxy with all objects there.
func (m *turn) cold(ctx context.Context) error {
	begin := time.Now()
	p, err := start(m.node, m.Who, m.world.api.URL())
	if err != nil {
		return err
	}
	m.process = p
	if err := errors.Join(m.until(ctx, vip(flipVIP, 80), 0), m.until(ctx, vip(lastVIP, 80), 0)); err != nil {
		p.Stop()
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	m.node.Add(m.name(coldWall), m.Who, time.Since(begin).Seconds())
	time.Sleep(2 * time.Second) // what follows a start: a second round of synchronising, garbage
	// A service may answer while the rest is still being written: the metric is there when all is.
	took, err := programming()
	for wait := time.Now().Add(limit); err != nil && time.Now().Before(wait) && ctx.Err() == nil; took, err = programming() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	m.node.Add(m.name(coldSync), m.Who, took)
	return nil
}

// change moves the Service to the other back end and takes the time until it answers.
func (m *turn) change(ctx context.Context) (time.Duration, error) {
	m.flipped = 1 - m.flipped
	begin := time.Now()
	if err := m.world.flip(m.flipped); err != nil {
		return 0, err
	}
	err := m.until(ctx, vip(flipVIP, 80), m.flipped)
	return time.Since(begin), err
}

func (m *turn) changes(ctx context.Context) error {
	count := 8
	if m.Quick {
		count = 3
	}
	if _, err := m.change(ctx); err != nil { // warm
		return err
	}
	time.Sleep(pause)
	before, err := programming()
	if err != nil {
		return err
	}
	for range count {
		took, err := m.change(ctx)
		if err != nil {
			return err
		}
		m.node.Add(m.name(change), m.Who, float64(took.Microseconds())/1000)
		time.Sleep(pause)
	}
	after, err := programming()
	m.node.Add(m.name(syncOne), m.Who, 1000*(after-before)/float64(count))
	return err
}

// compared are medians of blocks, in µs: of the node's, of the bare one's, and by how much the former is longer.
type compared struct{ here, bare, added []float64 }

// added compares connect() on the node with connect() on the bare one, by turns. What the machine does
// meanwhile meets both.
func (m *turn) added(to, bareTo netip.AddrPort) (c compared, err error) {
	const warm = 5
	for i := range connectBlocks {
		var v [2][]float64
		for k := range v {
			k = (k + i) % 2 // who is first changes, too
			who, where := m.here, to
			if k == 1 {
				who, where = m.bare, bareTo
			}
			if v[k], err = who.ask(ask{What: askConnects, To: where, Count: warm + connects}); err != nil {
				return c, err
			}
		}
		h, b := median(v[0][warm:]), median(v[1][warm:])
		c.here, c.bare, c.added = append(c.here, h), append(c.bare, b), append(c.added, h-b)
	}
	return c, nil
}

// connects is what the proxy adds to connect().
func (m *turn) connects(context.Context) error {
	service, err := m.added(vip(flipVIP, 80), netip.AddrPortFrom(backends[m.flipped], servePort))
	if err != nil {
		return err
	}
	other, err := m.added(netip.AddrPortFrom(unrelated, servePort), netip.AddrPortFrom(unrelated, servePort))
	if err != nil {
		return err
	}
	m.node.Add(m.name(connectIs), m.Who, service.here...)
	m.node.Add(m.name(connectIs), direct, service.bare...)
	m.node.Add(m.name(addedVIP), m.Who, service.added...)
	m.node.Add(m.name(addedOther), m.Who, other.added...)
	return nil
}

func (m *turn) memory(context.Context) error {
	pss, err := lab.PSS(m.process.PID())
	m.node.Add(m.name(memory), m.Who, pss/1e6)
	return err
}

// busy changes endpoints of Services all over, a hundred times a second.
func (m *turn) busy(ctx context.Context) error {
	if m.Size != topSize {
		return nil
	}
	const count = 1000
	profiled := make(chan error, 1)
	if m.Profile == "" || !strings.HasPrefix(m.Who, "nodelet") {
		profiled <- nil
	} else {
		file := filepath.Join(m.Profile, strings.ReplaceAll(m.Who, " ", "-")+".pprof")
		go func() { profiled <- profile(count*changeEvery, file) }()
	}
	before, err := m.process.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	tick := time.NewTicker(changeEvery)
	defer tick.Stop()
	for i := range count {
		<-tick.C
		at := i * 7919 % (m.Size - 2)
		if err := m.world.api.Put(m.world.slice(at, 1)); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	after, err := m.process.CPU()
	if err != nil {
		return err
	}
	m.node.Add(m.name(busy), m.Who, 100*(after-before).Seconds()/took.Seconds())
	if err := <-profiled; err != nil {
		return err
	}
	late, err := m.change(ctx)
	m.node.Add(m.name(lagBehind), m.Who, float64(late.Microseconds())/1000)
	return err
}

// traffic is what goes through, in short blocks by turns.
func (m *turn) traffic(context.Context) error {
	if m.Size != trafficSize {
		return nil
	}
	port := func(p uint16) netip.AddrPort { return vip(area.NodeIP, p) }
	backend := func(p uint16) netip.AddrPort { return netip.AddrPortFrom(backends[m.flipped], p) }
	parts := []struct {
		figure, who string
		from        *client
		what        string
		to          netip.AddrPort
	}{
		{connsVIP, m.Who, m.here, askRate, vip(flipVIP, 80)}, {connsVIP, direct, m.bare, askRate, backend(servePort)},
		{connsPort, m.Who, m.far, askRate, port(nodePort)},
		{flowVIP, m.Who, m.here, askFlow, vip(flipVIP, 81)}, {flowVIP, direct, m.bare, askFlow, backend(sinkPort)},
		{flowPort, m.Who, m.far, askFlow, port(flowPort2)},
	}
	for range trafficBlocks {
		for _, p := range parts {
			v, err := p.from.one(p.what, p.to, trafficTime)
			if err != nil {
				return fmt.Errorf("%s: %w", p.figure, err)
			}
			m.node.Add(p.figure, p.who, v)
		}
	}
	return nil
}
