package prove

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"nodelet/proxy/ebpf"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// SimulatedEBPF is the eBPF back end without a kernel: what it would write into
// its maps, followed as its programs do.
func SimulatedEBPF() Subject { return simulatedEBPF{} }

type simulatedEBPF struct{}

func (simulatedEBPF) Name() string { return "ebpf simulated" }
func (simulatedEBPF) Close() error { return nil }

func (simulatedEBPF) Disagree(_ context.Context, s *lb.State, packets []string) (string, error) {
	return followMaps(ebpf.Rendered(s, nodeAddrs()), s, packets)
}

func nodeAddrs() (out []netip.Addr) {
	for _, a := range []string{"127.0.0.1", "::1", "192.168.7.1", "192.168.8.1", "fd07::1", "fd08::1"} {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// followMaps runs packets through maps and gives the first disagreement.
func followMaps(m *ebpf.Maps, s *lb.State, packets []string) (string, error) {
	for _, text := range packets {
		p, _, err := packet(text)
		if err != nil {
			return "", err
		}
		if what := compare(eval.Eval(s, p), p, m.Follow(p)); what != "" {
			return fmt.Sprintf("%s\n  eval: %s\n  maps: %s", text, eval.Eval(s, p), what), nil
		}
	}
	return "", nil
}

// heldEBPF are the maps as a kernel holds them.
type heldEBPF struct {
	lab  *lab
	box  *ebpf.Sandbox
	back *ebpf.Backend
}

// HeldEBPF is the eBPF back end in a kernel. All cases of a run go through one
// back end, so that the way from each to the next is proven too.
func HeldEBPF() (Subject, error) {
	l, err := newLab()
	if err != nil {
		return nil, err
	}
	h := &heldEBPF{lab: l}
	if h.box, err = ebpf.NewSandbox(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if h.back, err = ebpf.New(h.box.Config(l.ns["node"].Fd())); err != nil {
		return nil, errors.Join(err, h.box.Close(), l.Close())
	}
	return h, nil
}

// Name says what it is.
func (h *heldEBPF) Name() string { return "ebpf in the kernel" }

// Close lets everything go.
func (h *heldEBPF) Close() error {
	return errors.Join(h.back.Cleanup(context.Background()), h.box.Close(), h.lab.Close())
}

// Disagree writes the maps, reads them back and follows the packets.
func (h *heldEBPF) Disagree(ctx context.Context, s *lb.State, packets []string) (string, error) {
	if _, err := h.back.Apply(ctx, s); err != nil {
		return "", err
	}
	m, err := h.back.Held()
	if err != nil {
		return "", err
	}
	return followMaps(m, s, packets)
}

// PacketsEBPF are real packets through the eBPF back end. The sockets of the
// node and of its pods are in a cgroup of their own.
func PacketsEBPF() (*Packets, error) {
	box, err := ebpf.NewSandbox()
	if err != nil {
		return nil, err
	}
	p, err := NewPackets("ebpf with packets", func(netns int) (Writer, func() error, error) {
		back, err := ebpf.New(box.Config(netns))
		if err != nil {
			return nil, nil, err
		}
		write := func(ctx context.Context, s *lb.State) error {
			if _, err := back.Apply(ctx, s); err != nil {
				return err
			}
			return back.ForgetConnections()
		}
		return write, func() error { return errors.Join(back.Cleanup(context.Background()), box.Close()) }, nil
	})
	if err != nil {
		return nil, errors.Join(err, box.Close())
	}
	p.lab.sockets = box.Within
	return p, nil
}
