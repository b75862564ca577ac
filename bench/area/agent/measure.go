package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"nodelet/bench/area"
	"nodelet/bench/stack"
)

func sized(format string, n int) string { return fmt.Sprintf(format, n) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// turn is one agent under measurement.
type turn struct {
	area.Turn
	node           *area.Node
	stack          *stack.Stack
	watch          *stack.Watcher
	agent, runtime int // process ids; the runtime's is 0 where it is embedded
}

// measure starts a node and takes what parts measures on it.
func measure(ctx context.Context, n *area.Node, t area.Turn, parts func(context.Context, *turn) error) error {
	m := &turn{Turn: t, node: n, stack: stack.New(n)}
	defer m.stack.Stop()
	if err := m.start(ctx); err != nil {
		return err
	}
	w, err := m.stack.API.WatchPods(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	m.watch = w
	if err := parts(ctx, m); err != nil {
		return fmt.Errorf("%w\n%s", err, m.stack.Logs())
	}
	return nil
}

// each does one part after the other.
func (m *turn) each(ctx context.Context, parts ...func(context.Context) error) error {
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *turn) start(ctx context.Context) error {
	s := m.stack
	if _, err := s.ControlPlane(ctx); err != nil {
		return err
	}
	if err := s.NodeKeys(ctx); err != nil {
		return err
	}
	if m.Who != embedded {
		p, err := s.Containerd(ctx)
		if err != nil {
			return err
		}
		m.runtime = p.PID()
	}
	m.node.Note("control plane and runtime are up")
	switch m.Who {
	case upstream:
		p, err := s.Kubelet(ctx)
		if err != nil {
			return err
		}
		m.agent = p.PID()
	case external:
		p, err := s.Nodelet(ctx, "agent", "--container-runtime-endpoint="+stack.RuntimeEndpoint())
		if err != nil {
			return err
		}
		m.agent = p.PID()
	default:
		p, err := s.Nodelet(ctx, "agent,cni")
		if err != nil {
			return err
		}
		m.agent = p.PID()
		return s.Import(ctx)
	}
	return nil
}

// singles starts pods one after the other; kills the container of some; deletes each.
func (m *turn) singles(ctx context.Context) error {
	count, kills := 13, 6
	if m.Quick {
		count, kills = 3, 1
	}
	for i := range count {
		name := fmt.Sprintf("one-%d", i)
		took, err := m.startPod(ctx, stack.Pod(name, stack.HelloImage))
		if err != nil {
			return err
		}
		if i > 0 { // the first one warms everything up
			m.node.Add(oneP50, m.Who, ms(took))
			m.node.Add(oneP99, m.Who, ms(took))
		}
		if i > 0 && i <= kills {
			if err := m.kill(ctx, name); err != nil {
				return err
			}
		}
		took, err = m.remove(ctx, name)
		if err != nil {
			return err
		}
		if i > kills || m.Quick { // a container that was just restarted is no usual one
			m.node.Add(goneHeeded, m.Who, ms(took))
		}
	}
	return nil
}

// warm starts the first pod, which warms everything up.
func (m *turn) warm(ctx context.Context) error {
	if _, err := m.startPod(ctx, stack.Pod("warm", stack.HelloImage)); err != nil {
		return err
	}
	_, err := m.remove(ctx, "warm")
	return err
}

func (m *turn) startPod(ctx context.Context, p *corev1.Pod) (time.Duration, error) {
	ready := m.watch.Expect(p.Name, stack.Ready)
	begin := time.Now()
	if err := m.stack.API.Create(ctx, p); err != nil {
		return 0, err
	}
	at, err := stack.Await(ctx, "pod "+p.Name+" Ready", ready)
	return at.Sub(begin), err
}

func (m *turn) remove(ctx context.Context, name string) (time.Duration, error) {
	gone := m.watch.Expect(name, nil)
	begin := time.Now()
	if err := m.stack.API.Delete(ctx, name); err != nil {
		return 0, err
	}
	at, err := stack.Await(ctx, "pod "+name+" gone", gone)
	return at.Sub(begin), err
}

// kill ends the container's program as the kernel would. At a random moment of a second: agents that
// look at their containers once a second must not be met always at the same one.
func (m *turn) kill(ctx context.Context, name string) error {
	if err := stack.Sleep(ctx, time.Duration(rand.IntN(1000))*time.Millisecond); err != nil {
		return err
	}
	pids := stack.Find("HOSTNAME=" + name)
	if len(pids) == 0 {
		return fmt.Errorf("pod %s has no process", name)
	}
	changed := m.watch.Expect(name, func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && (p.Status.ContainerStatuses[0].State.Running == nil || p.Status.ContainerStatuses[0].RestartCount > 0)
	})
	again := m.watch.Expect(name, func(p *corev1.Pod) bool {
		return stack.Ready(p) && p.Status.ContainerStatuses[0].RestartCount > 0 && p.Status.ContainerStatuses[0].State.Running != nil
	})
	begin := time.Now()
	if err := unix.Kill(slices.Min(pids), unix.SIGKILL); err != nil {
		return fmt.Errorf("kill the container of %s: %w", name, err)
	}
	at, err := stack.Await(ctx, "the end of "+name+" noticed", changed)
	if err != nil {
		return err
	}
	m.node.Add(noticed, m.Who, ms(at.Sub(begin)))
	at, err = stack.Await(ctx, name+" running again", again)
	if err != nil {
		return err
	}
	m.node.Add(restarted, m.Who, ms(at.Sub(begin)))
	return nil
}

// stubborn deletes pods that do not listen to SIGTERM.
func (m *turn) stubborn(ctx context.Context) error {
	count := 3
	if m.Quick {
		count = 1
	}
	for i := range count {
		name := fmt.Sprintf("stubborn-%d", i)
		if _, err := m.startPod(ctx, stack.Pod(name, stack.BusyboxImage, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done")); err != nil {
			return err
		}
		took, err := m.remove(ctx, name)
		if err != nil {
			return err
		}
		m.node.Add(goneIgnored, m.Who, ms(took))
	}
	return nil
}

// crowds is the part that starts so many pods at once, one size after the other,
// and looks what they cost while nothing happens.
func (m *turn) crowds(sizes ...int) func(context.Context) error {
	return func(ctx context.Context) error {
		for i, size := range sizes {
			last := m.Quick || i+1 == len(sizes)
			if err := m.oneCrowd(ctx, size, last); err != nil || last {
				return err
			}
		}
		return nil
	}
}

// oneCrowd leaves the pods where they are when it is the last: they go with the node.
func (m *turn) oneCrowd(ctx context.Context, size int, last bool) error {
	real, settle, over := size, 8*time.Second, 15*time.Second
	if m.Quick {
		real, settle, over = 5, time.Second, 2*time.Second
	}
	m.node.Note("%d pods at once", real)
	var took time.Duration
	err := m.observed(ctx, sized("%d-at-once", size), profiledFor, func() (err error) {
		took, err = m.crowd(ctx, size, real)
		return err
	})
	if err != nil {
		return err
	}
	m.node.Add(sized(atOnce, size), m.Who, float64(real)/took.Seconds())
	if m.Size == 0 {
		if err := errors.Join(stack.Sleep(ctx, settle), m.idle(ctx, size, over)); err != nil {
			return err
		}
	}
	if last {
		return nil
	}
	return parallel(real, func(i int) error {
		_, err := m.remove(ctx, fmt.Sprintf("crowd-%d-%d", size, i))
		return err
	})
}

// crowd gives the time from the first write until all are Ready.
func (m *turn) crowd(ctx context.Context, size, count int) (time.Duration, error) {
	ready := make([]<-chan time.Time, count)
	for i := range ready {
		ready[i] = m.watch.Expect(fmt.Sprintf("crowd-%d-%d", size, i), stack.Ready)
	}
	begin := time.Now()
	if err := parallel(count, func(i int) error {
		return m.stack.API.Create(ctx, stack.Pod(fmt.Sprintf("crowd-%d-%d", size, i), stack.HelloImage))
	}); err != nil {
		return 0, err
	}
	var last time.Time
	for i, r := range ready {
		at, err := stack.Await(ctx, fmt.Sprintf("pod %d of %d Ready", i, count), r)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(begin), nil
}

func (m *turn) idle(ctx context.Context, size int, over time.Duration) error {
	groups := map[string][]int{"agent": {m.agent}, "both": {m.agent}}
	if m.runtime != 0 {
		groups["both"] = append(groups["both"], m.runtime)
	}
	var used map[string]stack.Usage
	err := m.observed(ctx, sized("%d-idle", size), over, func() (err error) {
		used, err = stack.Measure(ctx, over, groups)
		return err
	})
	if err != nil {
		return errors.Join(errors.New("measure idle pods"), err)
	}
	if m.runtime != 0 { // embedded they cannot be told apart
		m.node.Add(sized(cpuIdle, size), m.Who, used["agent"].CPU)
		m.node.Add(sized(memIdle, size), m.Who, used["agent"].Memory)
	}
	m.node.Add(sized(cpuBoth, size), m.Who, used["both"].CPU)
	m.node.Add(sized(memBoth, size), m.Who, used["both"].Memory)
	return nil
}
