package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/lab"
)

// Limits and sizes of the parts.
const (
	// limit is for whatever is waited for.
	limit = 4 * time.Minute
	// pause lets kube-proxy's minSyncPeriod (1 s) pass between changes, so that its best is measured.
	pause    = 1100 * time.Millisecond
	connects = 2000
	// trafficTime is how long connections are made, or bytes are sent.
	trafficTime = 1500 * time.Millisecond
)

// turn is what measure works on.
type turn struct {
	area.Turn
	node    *area.Node
	world   *world
	process *lab.Process
	flipped int
}

func vip(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

func measure(ctx context.Context, n *area.Node, t area.Turn) (err error) {
	if err := errors.Join(n.OwnCgroup(), serve(ctx, n)); err != nil {
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
	m := &turn{Turn: t, node: n, world: w}
	before, err := m.baseline()
	if err != nil {
		return err
	}
	if err := m.cold(ctx); err != nil {
		return err
	}
	defer m.process.Stop()
	for _, part := range []func(context.Context) error{
		m.changes, func(context.Context) error { return m.connects(before) }, m.memory, m.busy, m.traffic,
	} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, m.process.Log())
		}
	}
	return nil
}

func (m *turn) name(format string) string { return fmt.Sprintf(format, m.Size) }

// baseline is connect() on this node before any proxy was started: to a back end and to the unrelated address.
func (m *turn) baseline() ([2]float64, error) {
	var out [2]float64
	for i, to := range []netip.AddrPort{netip.AddrPortFrom(backends[0], servePort), netip.AddrPortFrom(unrelated, servePort)} {
		if _, err := latency(to, 200); err != nil { // warm
			return out, err
		}
		v, err := latency(to, connects)
		if err != nil {
			return out, err
		}
		out[i] = median(v)
	}
	m.node.Add(m.name(connectIs), direct, out[0])
	if m.Size != trafficSize {
		return out, nil
	}
	for figure, measure := range map[string]func() (float64, error){
		connsVIP: func() (float64, error) { return rate(near, netip.AddrPortFrom(backends[0], servePort), trafficTime) },
		flowVIP:  func() (float64, error) { return flow(near, netip.AddrPortFrom(backends[0], sinkPort), trafficTime) },
	} {
		v, err := measure()
		if err != nil {
			return out, err
		}
		m.node.Add(figure, direct, v)
	}
	return out, nil
}

// near runs something in this network namespace.
func near(fn func() error) error { return fn() }

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

// connects is what the proxy adds to connect().
func (m *turn) connects(before [2]float64) error {
	var now [2]float64
	for i, to := range []netip.AddrPort{vip(flipVIP, 80), netip.AddrPortFrom(unrelated, servePort)} {
		if _, err := latency(to, 200); err != nil {
			return err
		}
		v, err := latency(to, connects)
		if err != nil {
			return err
		}
		now[i] = median(v)
	}
	m.node.Add(m.name(connectIs), m.Who, now[0])
	m.node.Add(m.name(addedVIP), m.Who, now[0]-before[0])
	m.node.Add(m.name(addedOther), m.Who, now[1]-before[1])
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
	before, err := m.process.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
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
	late, err := m.change(ctx)
	m.node.Add(m.name(lagBehind), m.Who, float64(late.Microseconds())/1000)
	return err
}

// traffic is what goes through.
func (m *turn) traffic(context.Context) error {
	if m.Size != trafficSize {
		return nil
	}
	port := func(p uint16) netip.AddrPort { return vip(area.NodeIP, p) }
	for _, f := range []struct {
		figure string
		run    func(func(func() error) error, netip.AddrPort, time.Duration) (float64, error)
		from   func(func() error) error
		to     netip.AddrPort
	}{
		{connsVIP, rate, near, vip(flipVIP, 80)}, {flowVIP, flow, near, vip(flipVIP, 81)},
		{connsPort, rate, m.node.Far, port(nodePort)}, {flowPort, flow, m.node.Far, port(flowPort2)},
	} {
		v, err := f.run(f.from, f.to, trafficTime)
		if err != nil {
			return fmt.Errorf("%s: %w", f.figure, err)
		}
		m.node.Add(f.figure, m.Who, v)
	}
	return nil
}
