package whole

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/bench/area"
	"nodelet/bench/lab"
	"nodelet/bench/stack"
)

// cluster is one that runs.
type cluster struct {
	*stack.Stack
	ready time.Duration
	// answers is when the cluster DNS did; of nodelet alone.
	answers       time.Duration
	node, control []int
}

// up starts a whole cluster from nothing.
func up(ctx context.Context, n *area.Node, who string) (*cluster, error) {
	c := &cluster{Stack: stack.New(n)}
	if who == ours {
		begin := time.Now()
		ended, err := c.AllInOne(ctx)
		c.ready = time.Since(begin)
		if err == nil {
			err = <-ended // it ends when the cluster DNS has answered
			c.answers = time.Since(begin)
		}
		if err != nil {
			return c, err
		}
		daemon, plane, err := stack.PIDs()
		c.node, c.control = []int{daemon}, []int{plane}
		return c, errors.Join(err, c.Import(ctx), c.Account(ctx))
	}
	if err := c.Keys(ctx); err != nil {
		return c, err
	}
	begin := time.Now()
	control, err := c.Upstream(ctx)
	if err != nil {
		return c, err
	}
	node, err := c.UpstreamNode(ctx)
	c.ready = time.Since(begin)
	c.node, c.control = pids(node), pids(control)
	return c, err
}

func pids(all []*lab.Process) []int {
	var out []int
	for _, p := range all {
		out = append(out, p.PID())
	}
	return out
}

func boot(ctx context.Context, n *area.Node, t area.Turn) error {
	c, err := up(ctx, n, t.Who)
	defer c.Stop()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.Logs())
	}
	w, err := c.API.WatchPods(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	ready := w.Expect("first", stack.Ready)
	begin := time.Now()
	if err := c.API.Create(ctx, stack.Pod("first", stack.HelloImage)); err != nil {
		return err
	}
	at, err := stack.Await(ctx, "the first pod", ready)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.Logs())
	}
	n.Add(toReady, t.Who, c.ready.Seconds())
	// Importing the image lies between the two and belongs to neither.
	n.Add(toPod, t.Who, (c.ready + at.Sub(begin)).Seconds())
	if t.Who != ours {
		return nil
	}
	n.Add(toDNS, t.Who, c.answers.Seconds())
	took, err := c.Again(ctx)
	if err == nil {
		n.Add(again, t.Who, took.Seconds())
	}
	return err
}

func idle(ctx context.Context, n *area.Node, t area.Turn) error {
	c, err := up(ctx, n, t.Who)
	defer c.Stop()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.Logs())
	}
	settle, over := times(t.Quick)
	if err := stack.Sleep(ctx, settle); err != nil {
		return err
	}
	used, err := stack.Measure(ctx, over, map[string][]int{"node": c.node, "control": c.control})
	if err != nil {
		return err
	}
	n.Add(nodeMemory, t.Who, used["node"].Memory)
	n.Add(nodeCPU, t.Who, used["node"].CPU)
	n.Add(planeMemory, t.Who, used["control"].Memory)
	n.Add(planeCPU, t.Who, used["control"].CPU)
	return nil
}

func api(ctx context.Context, n *area.Node, t area.Turn) error {
	s := stack.New(n)
	defer s.Stop()
	var control []int
	begin := time.Now()
	if t.Who == ours {
		p, err := s.ControlPlane(ctx)
		if err != nil {
			return err
		}
		control = []int{p.PID()}
	} else {
		if err := s.Keys(ctx); err != nil {
			return err
		}
		begin = time.Now()
		all, err := s.Upstream(ctx)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.Logs())
		}
		control = pids(all)
	}
	n.Add(planeStart, t.Who, time.Since(begin).Seconds())
	if err := s.Account(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Logs())
	}
	settle, over := times(t.Quick)
	if err := stack.Sleep(ctx, settle); err != nil {
		return err
	}
	groups := map[string][]int{"": control}
	used, err := stack.Measure(ctx, over, groups)
	if err != nil {
		return err
	}
	n.Add(planeMemory, t.Who, used[""].Memory)
	n.Add(planeCPU, t.Who, used[""].CPU)
	return load(ctx, n, t, s.API, groups)
}

// loadTime is how long objects are written.
const loadTime = 4 * time.Second

func load(ctx context.Context, n *area.Node, t area.Turn, a *stack.API, groups map[string][]int) error {
	one, err := create(ctx, a, "one", 1)
	if err != nil {
		return err
	}
	n.Add(createOne, t.Who, one)
	var many float64
	failed := make(chan error, 1)
	go func() {
		var err error
		many, err = create(ctx, a, "many", 8)
		failed <- err
	}()
	used, err := stack.Measure(ctx, loadTime, groups)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	n.Add(createMany, t.Who, many)
	n.Add(createCPU, t.Who, 10*used[""].CPU/many) // percent of a second, in ms, for each
	n.Add(memoryLoaded, t.Who, used[""].Memory)
	return nil
}

// create writes ConfigMaps of half a kilobyte and gives how many a second.
func create(ctx context.Context, a *stack.API, prefix string, clients int) (float64, error) {
	var count atomic.Int64
	errs := make([]error, clients)
	var wg sync.WaitGroup
	text := make([]byte, 512)
	for i := range text {
		text[i] = 'x'
	}
	end := time.Now().Add(loadTime)
	for c := range clients {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				m := corev1.ConfigMap{
					TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d-%d", prefix, c, i)}, Data: map[string]string{"x": string(text)},
				}
				if errs[c] = a.Do(ctx, http.MethodPost, "/api/v1/namespaces/default/configmaps", &m, nil); errs[c] != nil {
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(count.Load()) / loadTime.Seconds(), errors.Join(errs...)
}
