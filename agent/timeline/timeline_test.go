package timeline

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

var start = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func after(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func web() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u", CreationTimestamp: metav1.NewTime(start)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func text(t *testing.T, r *Recorder) string {
	t.Helper()
	tl, err := r.Of(model.Key{Namespace: "ns", Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range tl.Steps {
		fmt.Fprintf(&b, "%d %s %s#%d %s\n", s.At.Sub(tl.Written).Milliseconds(), s.Name, s.Container, s.Attempt, s.Detail)
	}
	return b.String()
}

// A pod's life, seen in snapshots as they come: each step once, at the runtime's time where it has one.
func TestLife(t *testing.T) {
	s, w := store.New()
	r := &Recorder{}
	look := func(ms int) { r.Note(web(), after(ms), Steps(s.Snapshot(), "u")...) }
	w.Pods.Set("u", web())
	look(10)
	w.Allocations.Set("u", &model.Allocation{UID: "u"})
	look(11)
	w.Volumes.Set("u", &model.PodVolumes{UID: "u", Message: "waiting for the ConfigMap"})
	look(12)
	w.Volumes.Set("u", &model.PodVolumes{UID: "u", State: model.VolumesReady})
	w.Images.Set("i", &model.Image{Ref: "i", State: model.ImagePulling})
	look(20)
	w.Images.Set("i", &model.Image{Ref: "i", State: model.ImagePresent})
	rt := &model.PodRuntime{UID: "u", Sandboxes: []model.Sandbox{{ID: "s", Created: after(25), IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}}
	w.Runtime.Set("u", rt)
	look(90)
	run := *rt
	run.Containers = []model.Container{{ID: "c0", Name: "c", State: model.ContainerRunning, Created: after(95), Started: after(140)}}
	w.Runtime.Set("u", &run)
	look(150)
	w.Probes.Set(model.ProbeKey{PodUID: "u", Container: "c", Type: model.Readiness}, &model.Probe{
		ProbeKey: model.ProbeKey{PodUID: "u", Container: "c", Type: model.Readiness}, ContainerID: "c0", Verdict: model.Success, Since: after(200),
	})
	look(201)
	status := corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	r.Note(web(), after(210), Status(&status))
	look(220)
	r.Gone("u", after(300))
	const want = `10 seen #0 
11 admitted #0 
12 volumes #0 absent: waiting for the ConfigMap
20 volumes #0 ready
20 image #0 pulling i
25 sandbox #0 
90 image #0 present i
90 network #0 10.0.0.2
95 created c#0 
140 started c#0 
200 probe c#0 readiness success
210 status #0 written: Running, ready
300 gone #0 
`
	if got := text(t, r); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A pod that crashes for ever and nodes with many pods take a bounded memory; the start stays.
func TestBounds(t *testing.T) {
	r := &Recorder{}
	r.Note(web(), after(0), Step{Name: "seen"})
	for i := range 10 * maxSteps {
		r.Note(web(), after(i), Step{Name: "exited", Container: "c", Attempt: uint32(i)})
	}
	tl, _ := r.Of(model.Key{Namespace: "ns", Name: "web"})
	if len(tl.Steps) != maxSteps || tl.Steps[0].Name != "seen" || tl.Steps[maxSteps-1].Attempt != 10*maxSteps-1 || tl.Dropped != 9*maxSteps+1 {
		t.Errorf("%d steps, dropped %d", len(tl.Steps), tl.Dropped)
	}
	for i := range 5 * maxGone {
		pod := web()
		pod.Name, pod.UID = fmt.Sprint("p", i), types.UID(fmt.Sprint("p", i))
		r.Note(pod, after(i), Step{Name: "seen"})
		r.Gone(model.UID(pod.UID), after(i))
	}
	if len(r.pods) != maxGone+1 {
		t.Errorf("%d pods are kept", len(r.pods))
	}
	if _, err := r.Of(model.Key{Namespace: "ns", Name: fmt.Sprint("p", 5*maxGone-1)}); err != nil {
		t.Errorf("the newest is not kept: %v", err)
	}
}

// The newest of a name is meant, and one that is there before one that is gone.
func TestSameName(t *testing.T) {
	r := &Recorder{}
	first, second := web(), web()
	second.UID = "v"
	r.Note(first, after(0), Step{Name: "seen"})
	r.Gone("u", after(10))
	r.Note(second, after(5), Step{Name: "seen"})
	if tl, err := r.Of(model.Key{Namespace: "ns", Name: "web"}); err != nil || tl.UID != "v" {
		t.Errorf("%v %v", tl, err)
	}
	r.Gone("v", after(20))
	r.Gone("nobody", after(20).Add(keepGone+time.Second))
	if tl, err := r.Of(model.Key{Namespace: "ns", Name: "web"}); err == nil {
		t.Errorf("kept for too long: %v", tl)
	}
	var none *Recorder
	none.Note(first, start, Step{Name: "seen"})
	none.Gone("u", start)
}

func BenchmarkNote(b *testing.B) {
	s, w := store.New()
	pod := web()
	w.Pods.Set("u", pod)
	w.Allocations.Set("u", &model.Allocation{UID: "u"})
	w.Volumes.Set("u", &model.PodVolumes{UID: "u", State: model.VolumesReady})
	w.Runtime.Set("u", &model.PodRuntime{UID: "u", Sandboxes: []model.Sandbox{{ID: "s", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}},
		Containers: []model.Container{{ID: "c0", Name: "c", State: model.ContainerRunning, Created: start, Started: start}}})
	r, snap := &Recorder{}, s.Snapshot()
	b.ReportAllocs()
	for b.Loop() {
		r.Note(pod, start, Steps(snap, "u")...)
	}
}
