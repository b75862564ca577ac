package shutdownplan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

func pod(name string, priority int32, grace int64) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{Priority: &priority, TerminationGracePeriodSeconds: &grace}}
}

func TestPeriods(t *testing.T) {
	for _, c := range []struct {
		s    Settings
		want string
		bad  bool
	}{
		{s: Settings{}, want: "[]"},
		{s: Settings{Total: 30 * time.Second, Critical: 10 * time.Second}, want: "[{0 20s} {2000000000 10s}]"},
		{s: Settings{Total: 30 * time.Second}, want: "[{0 30s} {2000000000 0s}]"},
		{s: Settings{ByPriority: []Period{{100, time.Second}, {-5, time.Minute}}}, want: "[{-5 1m0s} {100 1s}]"},
		{s: Settings{Total: time.Second, Critical: 2 * time.Second}, bad: true},
		{s: Settings{Total: time.Millisecond}, bad: true},
		{s: Settings{Total: -time.Second, Critical: -time.Minute}, bad: true},
		{s: Settings{Total: time.Second, ByPriority: []Period{{0, 0}}}, bad: true},
		{s: Settings{ByPriority: []Period{{0, -1}}}, bad: true},
	} {
		if err := c.s.Check(); (err != nil) != c.bad {
			t.Errorf("%+v: %v", c.s, err)
		}
		if got := fmt.Sprint(c.s.Periods()); !c.bad && got != c.want {
			t.Errorf("%+v: %s, want %s", c.s, got, c.want)
		}
	}
}

// TestOrder walks through a shutdown of four pods.
func TestOrder(t *testing.T) {
	f := Facts{Now: now, Periods: []Period{{0, 20 * time.Second}, {1000, 10 * time.Second}, {5000, 99 * time.Second}, {2_000_000_000, 30 * time.Second}}}
	f.Pods = []Pod{{Pod: pod("critical", 2_000_000_100, 5)}, {Pod: pod("low", -7, 60)}, {Pod: pod("edge", 1000, 60)}, {Pod: pod("usual", 999, 3)}}
	ended := func(names ...string) {
		for i := range f.Pods {
			f.Pods[i].Ended = f.Pods[i].Ended || slices.Contains(names, f.Pods[i].Pod.Name)
		}
	}
	step := func(after time.Duration, want string) {
		t.Helper()
		f.Now = now.Add(after)
		p := Make(f)
		if got := p.String(); got != want {
			t.Errorf("after %s:\n%swant:\n%s", after, got, want)
		}
		f.State = p.State
	}
	step(0, "end ns/low within 20s\nend ns/usual within 3s\ngroup 0 since 03:04:00 until 03:04:20\n")
	ended("usual")
	step(4*time.Second, "end ns/low within 20s\ngroup 0 since 03:04:00 until 03:04:20\n")
	// The period is over although low has not ended: the next group's turn, the empty one after it takes no time.
	step(20*time.Second, "end ns/low within 20s\nend ns/edge within 10s\ngroup 1 since 03:04:20 until 03:04:30\n")
	ended("edge", "low")
	step(22*time.Second, "end ns/critical within 5s\ngroup 3 since 03:04:22 until 03:04:52\n")
	ended("critical")
	step(23*time.Second, "over\n")
}

func TestPeriodOfZeroStillEndsItsPods(t *testing.T) {
	p := Make(Facts{Now: now, Periods: []Period{{0, 0}}, Pods: []Pod{{Pod: pod("a", 0, 30)}}})
	if got := p.String(); got != "end ns/a within 0s\nover\n" {
		t.Errorf("%s", got)
	}
}

// TestLaws: whatever the pods do, the shutdown ends within the sum of the periods, no pod is asked to end
// while one of a lower group has time left, and every pod that is left is asked.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var s Settings
		for _, priority := range rapid.SliceOfNDistinct(rapid.Int32Range(-3, 12), 1, 4, rapid.ID[int32]).Draw(r, "priorities") {
			s.ByPriority = append(s.ByPriority, Period{priority, time.Duration(rapid.IntRange(0, 20).Draw(r, "grace")) * time.Second})
		}
		f := Facts{Now: now, Periods: s.Periods()}
		for i := range rapid.IntRange(0, 8).Draw(r, "pods") {
			f.Pods = append(f.Pods, Pod{Pod: pod(fmt.Sprint(i), rapid.Int32Range(-9, 15).Draw(r, "priority"), rapid.Int64Range(0, 30).Draw(r, "own"))})
		}
		asked := map[string]bool{}
		for {
			p := Make(f)
			if p.State.Group < f.State.Group {
				r.Fatalf("went back from group %d to %d", f.State.Group, p.State.Group)
			}
			for _, e := range p.End {
				asked[e.Pod.Name] = true
				if at := index(f.Periods, e.Pod); at > p.State.Group || e.Grace > f.Periods[at].Grace {
					r.Fatalf("%s of group %d ends within %s while it is the turn of %d", e.Pod.Name, at, e.Grace, p.State.Group)
				}
			}
			f.State = p.State
			if p.Over {
				break
			}
			f.Now = f.Now.Add(time.Duration(rapid.IntRange(1, 5).Draw(r, "step")) * time.Second)
			if f.Now.Sub(now) > Whole(f.Periods)+5*4*time.Second {
				r.Fatalf("still at group %d after %s", f.State.Group, f.Now.Sub(now))
			}
			for i := range f.Pods {
				if asked[f.Pods[i].Pod.Name] && rapid.Bool().Draw(r, "ended") {
					f.Pods[i].Ended = true
				}
			}
		}
		if len(asked) != len(f.Pods) {
			r.Fatalf("asked %v of %d pods", asked, len(f.Pods))
		}
	})
}
