package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/result"
	"nodelet/internal/netns"
)

const (
	ours = "nodelet-cni"
	peer = "bridge + host-local + portmap"
	// empty is a program that does nothing: what it takes to execute one.
	empty = "/bin/true"
)

// Names of figures.
const (
	addP50  = "ADD, p50"
	addP99  = "ADD, p99"
	addPort = "ADD with a host port, p50"
	delP50  = "DEL, p50"
	version = "executed alone (VERSION), p50"
)

// Area is this package's.
func Area() *area.Area {
	f := func(name string, q float64, g result.Goal) *result.Figure {
		return &result.Figure{Name: name, Unit: "ms", Quantile: q, Goals: map[string]result.Goal{"": g}}
	}
	return &area.Area{
		Name:        "cni",
		Contestants: []result.Contestant{{Name: ours, Role: result.Ours}, {Name: peer, Role: result.Peer}, {Name: empty, Role: result.Floor}},
		Figures: []*result.Figure{
			f(addP50, .5, result.Goal{Limit: 3, Times: 1}), f(addP99, .99, result.Goal{Times: 1}), f(addPort, .5, result.Goal{Times: 1}),
			f(delP50, .5, result.Goal{Times: 1}), f(version, .5, result.Goal{Times: 1}),
		},
		Turns: func(o area.Options) []area.Turn {
			var out []area.Turn
			for round := range o.Runs {
				out = append(out, area.Turn{Who: ours, Round: round, Quick: o.Quick}, area.Turn{Who: peer, Round: round, Quick: o.Quick})
			}
			return out
		},
		Measure: measure,
	}
}

// chain is the plugins of one network, in order.
type chain struct {
	dir     string
	plugins []map[string]any
}

// upstream is what the agent's area gives containerd, too.
func upstream() chain {
	return chain{"/usr/lib/cni", []map[string]any{
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": map[string]any{
			"type": "host-local", "ranges": []any{[]any{map[string]string{"subnet": "10.244.0.0/24"}}}, "routes": []any{map[string]string{"dst": "0.0.0.0/0"}},
		}},
		{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
	}}
}

// nodelet is what the daemon writes.
func nodelet(n *area.Node) chain {
	return chain{n.Bin, []map[string]any{{
		"type": ours, "capabilities": map[string]bool{"portMappings": true}, "subnets": []string{"10.244.0.0/24"}, "nodeIPs": []string{area.NodeIP},
		"mtu": 1500, "stateDir": filepath.Join(n.Dir, "cni"), "inside": []string{"10.244.0.0/16"},
	}}}
}

// pod is one sandbox's network.
type pod struct {
	id, path string
	port     int // on the host; 0 for none
}

// call executes one plugin; what it prints becomes the next one's prevResult.
func (c chain) call(ctx context.Context, verb string, i int, p pod, prev json.RawMessage) (json.RawMessage, error) {
	conf := map[string]any{"cniVersion": "0.4.0", "name": "bench"}
	for k, v := range c.plugins[i] {
		conf[k] = v
	}
	if prev != nil {
		conf["prevResult"] = prev
	}
	if p.port != 0 {
		conf["runtimeConfig"] = map[string]any{"portMappings": []any{map[string]any{"hostPort": p.port, "containerPort": 80, "protocol": "tcp"}}}
	}
	in, err := json.Marshal(conf)
	if err != nil {
		return nil, fmt.Errorf("configure plugin: %w", err)
	}
	name, _ := conf["type"].(string)
	cmd := exec.CommandContext(ctx, filepath.Join(c.dir, name))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.id, "CNI_NETNS="+p.path, "CNI_IFNAME=eth0", "CNI_PATH="+c.dir)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, verb, err, out)
	}
	return out, nil
}

func (c chain) add(ctx context.Context, p pod) (prev json.RawMessage, took time.Duration, err error) {
	begin := time.Now()
	for i := range c.plugins {
		if prev, err = c.call(ctx, "ADD", i, p, prev); err != nil {
			return nil, 0, err
		}
	}
	return prev, time.Since(begin), nil
}

func (c chain) del(ctx context.Context, p pod, prev json.RawMessage) (time.Duration, error) {
	begin := time.Now()
	for i := len(c.plugins) - 1; i >= 0; i-- {
		if _, err := c.call(ctx, "DEL", i, p, prev); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

func measure(ctx context.Context, n *area.Node, t area.Turn) error {
	c := nodelet(n)
	if t.Who == peer {
		c = upstream()
	}
	count := 60
	if t.Quick {
		count = 5
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	for i := range count + 1 {
		p := pod{id: fmt.Sprintf("pod-%d", i), path: fmt.Sprintf("/run/netns/pod-%d", i)}
		figure := addP50
		if i%4 == 3 {
			p.port, figure = 20000+i, addPort
		}
		ns, err := netns.Create(p.path)
		if err != nil {
			return err
		}
		prev, took, err := c.add(ctx, p)
		if err != nil {
			return err
		}
		gone, err := c.del(ctx, p, prev)
		if err != nil {
			return err
		}
		alone, err := executed(ctx, n, p)
		if err != nil {
			return err
		}
		_ = ns.Close()
		if err := netns.Delete(p.path); err != nil {
			return err
		}
		if i == 0 {
			continue // it makes the bridge, the chains, the files
		}
		n.Add(figure, t.Who, ms(took))
		if p.port == 0 {
			n.Add(addP99, t.Who, ms(took))
		}
		n.Add(delP50, t.Who, ms(gone))
		for who, took := range alone {
			n.Add(version, who, ms(took))
		}
	}
	return nil
}

// executed is how long everybody's program takes that has nothing to do, one after the other: in turns
// of their own, what the machine does meanwhile would be more than the difference.
func executed(ctx context.Context, n *area.Node, p pod) (map[string]time.Duration, error) {
	out := map[string]time.Duration{}
	nothing := chain{filepath.Dir(empty), []map[string]any{{"type": filepath.Base(empty)}}}
	for who, c := range map[string]chain{ours: nodelet(n), peer: upstream(), empty: nothing} {
		begin := time.Now()
		if _, err := c.call(ctx, "VERSION", 0, p, nil); err != nil {
			return nil, err
		}
		out[who] = time.Since(begin)
	}
	return out, nil
}
