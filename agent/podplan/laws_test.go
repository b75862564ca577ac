package podplan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// TestLaws draws pods in any state and checks what must hold of every plan.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pod := drawPod(t)
		facts := drawFacts(t, pod)
		plan := Make(facts, now)
		if diff := cmp.Diff(plan.String(), Make(facts, now).String()); diff != "" {
			t.Fatalf("the same facts gave another plan: %s", diff)
		}
		checkLaws(t, facts, plan)
	})
}

func checkLaws(t *rapid.T, f Facts, plan Plan) {
	rt := f.runtime()
	fail := func(format string, args ...any) {
		t.Fatalf("%s\nruntime %s\nplan\n%s", fmt.Sprintf(format, args...), rt, plan)
	}
	living, ready := map[string]bool{}, 0
	for i := range rt.Containers {
		if c := &rt.Containers[i]; alive(c) {
			living[c.SandboxID], living[c.ID] = true, true
		}
	}
	for _, s := range rt.Sandboxes {
		if s.Ready {
			ready++
		}
	}
	seen := map[string]bool{}
	for _, a := range plan.Actions {
		if seen[a.String()] {
			fail("%s twice", a)
		}
		seen[a.String()] = true
		switch a := a.(type) {
		case CreateSandbox:
			if ready > 0 || len(living) > 0 {
				fail("a sandbox is made beside another")
			}
		case StopSandbox:
			if living[a.ID] {
				fail("sandbox %s is stopped under a running container", a.ID)
			}
		case RemoveSandbox:
			if living[a.ID] {
				fail("sandbox %s is removed under a running container", a.ID)
			}
		case RemoveContainer:
			if living[a.ID] {
				fail("running container %s is removed", a.ID)
			}
		case CreateContainer:
			for _, c := range rt.Containers {
				if c.Name == a.Config.Metadata.Name && (living[c.ID] || c.Attempt >= a.Config.Metadata.Attempt) {
					fail("%s beside attempt %d", a, c.Attempt)
				}
			}
			if plan.Stopping {
				fail("%s in a pod that is being stopped", a)
			}
		case StartContainer:
			for _, c := range rt.Containers {
				if c.Name == a.Name && living[c.ID] {
					fail("%s beside attempt %d", a, c.Attempt)
				}
			}
		case KillContainer:
			if !living[a.ID] || a.Grace < leastGrace(f.pod(), f.Notes.Containers[a.ID].PreStopDone) {
				fail("%s", a)
			}
		case DeletePodObject:
			if len(rt.Containers)+len(rt.Sandboxes) > 0 {
				fail("the object goes before its containers")
			}
		}
	}
	checkStatus(t, f, plan, fail, len(living) > 0)
}

func checkStatus(t *rapid.T, f Facts, plan Plan, fail func(string, ...any), living bool) {
	pod := f.pod()
	if (plan.Status == nil) != (pod == nil) {
		fail("status %v of pod %v", plan.Status, pod)
	}
	if pod == nil {
		return
	}
	before, after := pod.Status.Phase, plan.Status.Phase
	switch {
	case terminal(before) && after != before, before == corev1.PodRunning && after == corev1.PodPending:
		fail("phase went back from %s to %s", before, after)
	case terminal(after) && !terminal(before) && living:
		fail("phase %s while a container runs", after)
	}
	if n := len(plan.Status.ContainerStatuses); n != len(pod.Spec.Containers) {
		fail("%d statuses of %d containers", n, len(pod.Spec.Containers))
	}
	// What is reported is what the next look takes as given: it must be a fixed point.
	next := pod.DeepCopy()
	next.Status = *plan.Status
	facts := f
	facts.World = withPod(f.World, next)
	again := Make(facts, now)
	want, _ := json.Marshal(plan.Status)
	got, _ := json.Marshal(again.Status)
	if string(want) != string(got) && terminal(before) == terminal(after) {
		t.Fatalf("the status does not settle:\n%s\nplan\n%s", cmp.Diff(string(want), string(got)), plan)
	}
}

// leastGrace is two seconds, or one where that is asked for and no hook took of it.
func leastGrace(pod *corev1.Pod, hadHook bool) time.Duration {
	if !hadHook && pod != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 1 {
		return time.Second
	}
	return 2 * time.Second
}

// withPod is the same world with another version of the pod.
func withPod(old *store.Snapshot, pod *corev1.Pod) *store.Snapshot {
	next := *old
	s, w := store.New()
	w.Pods.Replace(map[model.UID]*corev1.Pod{model.UID(pod.UID): pod})
	next.Pods = s.Snapshot().Pods
	return &next
}

func drawPod(t *rapid.T) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u1", Generation: 3}}
	pod.Spec.RestartPolicy = rapid.SampledFrom([]corev1.RestartPolicy{"Always", "OnFailure", "Never"}).Draw(t, "policy")
	always := corev1.ContainerRestartPolicyAlways
	for i := range rapid.IntRange(0, 3).Draw(t, "inits") {
		c := corev1.Container{Name: fmt.Sprint("i", i), Image: "img"}
		if rapid.Bool().Draw(t, "sidecar") {
			c.RestartPolicy = &always
		}
		drawHooks(t, &c)
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "mains") {
		c := corev1.Container{Name: fmt.Sprint("c", i), Image: "img"}
		drawHooks(t, &c)
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	if rapid.IntRange(0, 3).Draw(t, "deleted") == 0 {
		grace := rapid.Int64Range(0, 30).Draw(t, "grace")
		at := metav1.NewTime(now.Add(time.Minute))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &at, &grace
	}
	pod.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{"", "Pending", "Running", "Succeeded", "Failed"}).Draw(t, "phase")
	if rapid.Bool().Draw(t, "deadline") {
		seconds, start := int64(60), metav1.NewTime(now.Add(-time.Duration(rapid.IntRange(50, 70).Draw(t, "age"))*time.Second))
		pod.Spec.ActiveDeadlineSeconds, pod.Status.StartTime = &seconds, &start
	}
	return pod
}

func drawHooks(t *rapid.T, c *corev1.Container) {
	if rapid.IntRange(0, 3).Draw(t, "hook") == 0 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}, PostStart: &corev1.LifecycleHandler{}}
	}
	if rapid.IntRange(0, 3).Draw(t, "probe") == 0 {
		c.LivenessProbe, c.StartupProbe, c.ReadinessProbe = &corev1.Probe{}, &corev1.Probe{}, &corev1.Probe{}
	}
}

func drawFacts(t *rapid.T, pod *corev1.Pod) Facts {
	w := world{Gone: rapid.IntRange(0, 9).Draw(t, "gone") == 0}
	w.Volumes = rapid.SampledFrom([]string{"ready", "ready", "absent", "failed"}).Draw(t, "volumes")
	f := w.facts(nil, pod)
	rt := &model.PodRuntime{UID: "u1", Pod: podKey(pod)}
	for i := rapid.IntRange(0, 2).Draw(t, "sandboxes") - 1; i >= 0; i-- {
		s := model.Sandbox{ID: fmt.Sprint("sb", i), Attempt: uint32(i), Ready: rapid.Bool().Draw(t, "ready")}
		if rapid.IntRange(0, 5).Draw(t, "ip") > 0 {
			s.IPs = []netip.Addr{netip.MustParseAddr("10.1.0.5")}
		}
		rt.Sandboxes = append(rt.Sandboxes, s)
	}
	s, tables := store.New()
	if len(rt.Sandboxes) > 0 {
		for _, c := range containers(pod) {
			drawContainers(t, rt, c, &f.Notes)
			for _, kind := range []model.ProbeType{model.Startup, model.Liveness, model.Readiness} {
				key := model.ProbeKey{PodUID: "u1", Container: c.Name, Type: kind}
				last := rt.Latest(c.Name)
				if v := model.Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")); v != model.Pending && last != nil {
					tables.Probes.Set(key, &model.Probe{ProbeKey: key, ContainerID: last.ID, Verdict: v})
				}
			}
		}
		tables.Runtime.Set("u1", rt)
	}
	tables.Runtime.Commit(func(tx *store.Tx[model.UID, *model.PodRuntime]) { tx.Synced() })
	next := *f.World
	next.Runtime, next.Probes = s.Snapshot().Runtime, s.Snapshot().Probes
	f.World = &next
	return f
}

func drawContainers(t *rapid.T, rt *model.PodRuntime, c ctr, notes *Notes) {
	span := func(name string) time.Time {
		return now.Add(-time.Duration(rapid.IntRange(1, 900).Draw(t, name)) * time.Second)
	}
	for n := rapid.IntRange(0, 2).Draw(t, "attempts") - 1; n >= 0; n-- {
		x := model.Container{
			ID: fmt.Sprintf("%s-%d", c.Name, n), Name: c.Name, Attempt: uint32(n), Created: span("created"),
			SandboxID: rapid.SampledFrom(rt.Sandboxes).Draw(t, "in").ID, Started: span("started"),
			State: rapid.SampledFrom([]model.ContainerState{0, 1, 2, 2, 3, 3, 3}).Draw(t, "state"),
			Annotations: map[string]string{
				AnnotationHash: specHash(c), AnnotationBackOff: fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "level")),
			},
		}
		if x.State == model.ContainerExited {
			x.Finished, x.ExitCode = span("finished"), int32(rapid.IntRange(0, 1).Draw(t, "exit"))
		}
		notes.Containers[x.ID] = ContainerNote{
			PreStopDone: rapid.Bool().Draw(t, "preStopDone"), PostStart: rapid.IntRange(0, 5).Draw(t, "postStart") == 0,
		}
		rt.Containers = append(rt.Containers, x)
	}
}

// FuzzPod feeds any pod the API could hold, and many it could not.
func FuzzPod(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"c","image":"img","env":[{"name":"A","value":"$(A"}]}]}}`), true)
	f.Add([]byte(`{"spec":{"initContainers":[{"name":"c","restartPolicy":"Always"}],"containers":[{"name":"c"},{}]},"status":{"phase":"Running"}}`), false)
	f.Add([]byte(`{"metadata":{"deletionTimestamp":"2026-08-01T12:00:00Z"},"spec":{"ephemeralContainers":[{"name":"e","targetContainerName":"x"}]}}`), true)
	f.Add([]byte(`{"spec":{"containers":[{"name":"c","image":"img","resources":{"limits":{"cpu":"9223372036854775807","hugepages-1Gi":"1e30"}},"env":[{"name":"R","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"1n"}}}]}]}}`), true)
	f.Add([]byte(`{"spec":{"hostname":"-","subdomain":"s","setHostnameAsFQDN":true,"containers":[{"name":"c","volumeMounts":[{"name":"v","subPathExpr":"$(X)/.."}]}],"volumes":[{"name":"v"}]}}`), true)
	f.Fuzz(func(t *testing.T, raw []byte, up bool) {
		pod := &corev1.Pod{}
		if json.Unmarshal(raw, pod) != nil {
			return
		}
		pod.UID = "u1"
		var w world
		facts := w.facts(t, pod)
		if up {
			rt := &model.PodRuntime{UID: "u1", Sandboxes: []model.Sandbox{{ID: "sb", Ready: true, HostNetwork: pod.Spec.HostNetwork, IPs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}}}
			for i, c := range pod.Spec.InitContainers {
				rt.Containers = append(rt.Containers, model.Container{ID: fmt.Sprint(i), Name: c.Name, SandboxID: "sb", State: model.ContainerState(i % 4)})
			}
			s, tables := store.New()
			tables.Runtime.Replace(map[model.UID]*model.PodRuntime{"u1": rt})
			next := *facts.World
			next.Runtime = s.Snapshot().Runtime
			facts.World = &next
		}
		plan := Make(facts, now)
		if plan.String() != Make(facts, now).String() {
			t.Error("the same facts gave another plan")
		}
	})
}
