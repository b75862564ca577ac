package agent

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri/critest"
	"nodelet/internal/model"
)

var (
	worlds = flag.Int("worlds", 12, "how many worlds TestConverges makes")
	first  = flag.Uint64("seed", 1, "the seed of the first world of TestConverges")
)

// TestConverges lets everything happen at once, in any order: faults of the
// runtime and of the API, daemons killed at any moment, pods that come, change,
// crash, lose their sandbox and go. However that went, the end is the same as
// without all of it.
func TestConverges(t *testing.T) {
	for seed := *first; seed < *first+uint64(*worlds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { converge(t, seed) })
		})
	}
}

// chaos is one world and what is to become of it.
type chaos struct {
	*world
	rand *rand.Rand
	// want has the pods that are to run in the end, with the image of their container.
	want map[model.UID]string
	made int
}

func converge(t *testing.T, seed uint64) {
	c := &chaos{rand: rand.New(rand.NewPCG(seed, 7)), want: map[model.UID]string{}}
	c.world = newWorld(t, critest.Config{Seed: seed, Program: c.program, ExitLag: time.Duration(seed%4) * 200 * time.Millisecond})
	c.refuse = func(n int) error {
		if n%7 == 3 {
			return errors.New("the API server is not there")
		}
		return nil
	}
	c.start()
	for range 60 {
		c.step()
		time.Sleep(time.Duration(c.rand.IntN(1500)) * time.Millisecond)
	}
	// Back-offs of 5 minutes are the longest thing to wait for.
	c.await("the wanted end", 20*time.Minute, c.done)
	time.Sleep(time.Minute)
	if !c.done() {
		t.Fatalf("the end did not last:\n%s", c)
	}
	c.kill()
	c.check()
}

// program: containers take a while to end; images called bad crash a few seconds after each start.
func (c *chaos) program(config *runtimev1.ContainerConfig) critest.Program {
	p := critest.Program{StopAfter: 300 * time.Millisecond}
	if config.GetImage().GetUserSpecifiedImage() == "bad:1" {
		p.RunFor, p.ExitCode = 5*time.Second, 1
	}
	return p
}

func (c *chaos) step() {
	uids := make([]model.UID, 0, len(c.want))
	for uid := range c.want {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	pick := func() model.UID {
		if len(uids) == 0 {
			return ""
		}
		return uids[c.rand.IntN(len(uids))]
	}
	switch n := c.rand.IntN(20); {
	case n < 6:
		c.create()
	case n < 9:
		c.kill()
		if c.rand.IntN(2) == 0 {
			time.Sleep(time.Duration(c.rand.IntN(3000)) * time.Millisecond)
		}
		c.start()
	case n < 11:
		if uid := pick(); uid != "" {
			delete(c.want, uid)
			c.delete(uid, int64(c.rand.IntN(30)))
		}
	case n < 12:
		if uid := pick(); uid != "" { // force: the object is gone at once
			delete(c.want, uid)
			c.remove(uid)
		}
	case n < 14:
		if uid := pick(); uid != "" {
			image := fmt.Sprintf("image:%d", c.rand.IntN(3))
			c.want[uid] = image
			c.edit(uid, func(p *corev1.Pod) { p.Spec.Containers[0].Image = image; p.Generation++ })
		}
	case n < 17:
		if all := c.runtime.Containers(); len(all) > 0 {
			c.runtime.Exit(all[c.rand.IntN(len(all))].GetId(), int32(c.rand.IntN(2)))
		}
	case n < 18:
		if all := c.runtime.Sandboxes(); len(all) > 0 {
			c.runtime.KillSandbox(all[c.rand.IntN(len(all))].GetId())
		}
	case n < 19:
		c.runtime.Down()
		time.Sleep(time.Duration(c.rand.IntN(5000)) * time.Millisecond)
		c.runtime.Up()
	default:
		c.runtime.Reboot()
	}
}

func (c *chaos) create() {
	c.made++
	p := pod(fmt.Sprint("p", c.made), corev1.Container{Name: "main"}, corev1.Container{Name: "other", Image: "image:9"})
	if c.rand.IntN(4) == 0 {
		p.Spec.Containers[1].Image = "bad:1"
	}
	if c.rand.IntN(3) == 0 {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "image:1", RestartPolicy: &always}}
	}
	c.want[model.UID(p.UID)] = "image:1"
	c.put(p)
}

// done: every wanted pod runs what it should, and there is nothing else.
func (c *chaos) done() bool {
	c.mu.Lock()
	pods := len(c.pods)
	c.mu.Unlock()
	if pods != len(c.want) || len(c.runtime.Sandboxes()) < len(c.want) {
		return false
	}
	running := map[model.UID]int{}
	for _, x := range c.runtime.Containers() {
		uid := model.UID(x.GetLabels()["io.kubernetes.pod.uid"])
		image, wanted := c.want[uid]
		if !wanted {
			return false
		}
		if x.GetState() != runtimev1.ContainerState_CONTAINER_RUNNING {
			continue
		}
		running[uid]++
		if x.GetMetadata().GetName() == "main" && x.GetImage().GetUserSpecifiedImage() != image {
			return false
		}
	}
	for uid := range c.want {
		p := c.get(uid)
		if p.Spec.Containers[1].Image == "bad:1" {
			continue // it never settles
		}
		if n := len(p.Spec.Containers) + len(p.Spec.InitContainers); running[uid] != n || condition(p, corev1.PodReady) != corev1.ConditionTrue {
			return false
		}
	}
	return true
}

// check looks at how it went: counts only grow, phases only go forward, nothing ran twice.
func (c *chaos) check() {
	if bad := c.runtime.Incidents(); len(bad) > 0 {
		c.t.Errorf("incidents: %v", bad)
	}
	for uid, history := range c.history {
		restarts := map[string]int32{}
		phase := corev1.PodPending
		for i, s := range history {
			for _, x := range append(slices.Clone(s.ContainerStatuses), s.InitContainerStatuses...) {
				if x.RestartCount < restarts[x.Name] {
					c.t.Errorf("%s/%s: restart count went from %d to %d", uid, x.Name, restarts[x.Name], x.RestartCount)
				}
				restarts[x.Name] = x.RestartCount
			}
			if phase != corev1.PodPending && s.Phase == corev1.PodPending || phase == corev1.PodFailed && s.Phase != phase {
				c.t.Errorf("%s: phase went from %s to %s in write %d", uid, phase, s.Phase, i)
			}
			phase = s.Phase
		}
	}
	if c.t.Failed() {
		c.t.Logf("%s", c)
	}
}
