package image

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/image/gcplan"
	"nodelet/cri"
	"nodelet/cri/critest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// cellar is a runtime with images, and a Collector that looks at them.
type cellar struct {
	world
	collector *Collector
	available atomic.Uint64 // of 100 MiB
}

func collecting(t *testing.T, policy gcplan.Policy, test func(*cellar)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cellar{world: world{t: t, server: critest.New(critest.Config{FaultRate: -1}), start: time.Now()}}
		c.store, c.w = store.New()
		c.w.Pods.Replace(nil)
		c.w.Runtime.Replace(nil)
		c.available.Store(90 << 20)
		var err error
		c.collector, err = NewCollector(CollectConfig{NodeName: "n1", Policy: policy}, CollectDeps{
			Deps:    Deps{Store: c.store, Images: c.w.Images, Events: c, Log: slog.New(slog.NewTextHandler(io.Discard, nil))},
			Runtime: c.server.Runtime(cri.Deps{}),
			Keep:    func(name string) bool { return name == "kept:1" },
			Space:   func(context.Context) (uint64, uint64, bool) { return 100 << 20, c.available.Load(), true },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		for _, name := range []string{"a:1", "b:1", "c:1"} {
			c.server.AddImage(name)
		}
		go func() { defer close(done); c.collector.Run(ctx) }()
		synctest.Wait()
		test(c)
		cancel()
		<-done
		c.server.Close()
	})
}

// left are the images that are there.
func (c *cellar) left() string {
	synctest.Wait()
	resp, err := c.server.Runtime(cri.Deps{}).ListImages(c.t.Context(), &runtimev1.ListImagesRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, i := range resp.GetImages() {
		names = append(names, i.GetRepoTags()...)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// pod puts a pod that names an image into the store.
func (c *cellar) pod(name, image string) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u-" + "x", ResourceVersion: fmt.Sprint(time.Now().UnixNano())}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
	c.w.Pods.Set(model.UID(name), p)
}

func (c *cellar) want(left string) {
	c.t.Helper()
	if got := c.left(); got != left {
		c.t.Errorf("left %q, want %q", got, left)
	}
}

func TestCollectForSpace(t *testing.T) {
	collecting(t, gcplan.Policy{}, func(c *cellar) {
		c.pod("p", "a:1")
		time.Sleep(5*time.Minute + time.Second)
		c.want("a:1 b:1 c:1") // there is room
		c.w.Images.Set("b:1", &model.Image{Ref: "b:1", ID: c.id("b:1"), State: model.ImagePresent})
		c.available.Store(15 << 20)
		time.Sleep(5 * time.Minute)
		c.want("a:1") // each frees 1 MiB of the 5 that are needed
		if c.told("FreeDiskSpaceFailed") != 1 {
			c.t.Errorf("events %q", c.events)
		}
		if _, ok := c.store.Snapshot().Images.Get("b:1"); ok {
			c.t.Error("the table says that an image is there which was removed")
		}
	})
}

func (c *cellar) id(name string) string {
	resp, err := c.server.Runtime(cri.Deps{}).ImageStatus(c.t.Context(), &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: name}})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.GetImage().GetId()
}

// What is in use stays however full the disk is: images of pods by any of their names, and of containers.
func TestReclaim(t *testing.T) {
	collecting(t, gcplan.Policy{}, func(c *cellar) {
		c.pod("p", "b") // pulled as b:latest, found by its row
		c.w.Images.Set("b", &model.Image{Ref: "b", ID: c.id("b:1"), State: model.ImagePresent})
		c.server.AddImage("kept:1")
		c.w.Runtime.Set("u", &model.PodRuntime{UID: "u", Containers: []model.Container{{ID: "1", ImageRef: c.id("c:1"), State: model.ContainerExited}}})
		if err := c.collector.Reclaim(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		c.want("a:1 b:1 c:1 kept:1") // all are younger than two minutes
		time.Sleep(3 * time.Minute)
		if err := c.collector.Reclaim(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		c.want("b:1 c:1 kept:1")
	})
}

func TestCollectForAge(t *testing.T) {
	collecting(t, gcplan.Policy{MaxAge: time.Hour}, func(c *cellar) {
		c.pod("p", "a:1")
		time.Sleep(59 * time.Minute)
		c.want("a:1 b:1 c:1")
		time.Sleep(7 * time.Minute)
		c.want("a:1")
	})
}

func TestBadPolicy(t *testing.T) {
	if _, err := NewCollector(CollectConfig{Policy: gcplan.Policy{High: 50, Low: 60}}, CollectDeps{}); err == nil {
		t.Error("accepted")
	}
}

// One round that fails is nothing to tell of; the next is.
func TestCollectFailsAgain(t *testing.T) {
	collecting(t, gcplan.Policy{}, func(c *cellar) {
		c.server.Inject(critest.Fault{Op: "ListImages", Kind: critest.Refuse, Times: 2})
		time.Sleep(5*time.Minute + time.Second)
		if n := c.told("ImageGCFailed"); n != 0 {
			c.t.Errorf("told %d times of one failure", n)
		}
		time.Sleep(5 * time.Minute)
		if n := c.told("ImageGCFailed"); n != 1 {
			c.t.Errorf("told %d times of two failures", n)
		}
		time.Sleep(10 * time.Minute)
		if n := c.told("ImageGCFailed"); n != 1 {
			c.t.Errorf("told %d times when it works again", n)
		}
	})
}
