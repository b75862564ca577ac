package staticplan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/static/manifest"
	"nodelet/internal/model"
)

// Row is a pod that was taken from a manifest; one with a DeletionTimestamp is ending.
type Row struct {
	Pod *corev1.Pod
	// Place is the path or URL of its manifest.
	Place string
}

func (r Row) live() bool   { return r.Pod.DeletionTimestamp == nil }
func (r Row) hash() string { return r.Pod.Annotations[manifest.HashAnnotation] }

// Found is what one place holds now.
type Found struct {
	Place string
	// Pod is nil when Err says why there is none.
	Pod *corev1.Pod
	Err error
}

// Change is what to do about static pods.
type Change struct {
	// Add are pods to take, End those to end.
	Add []Row
	End []model.UID
	// Wait are the places of pods that begin when an earlier one of their name is gone.
	Wait []string
	// Problems by place: manifests that have no effect.
	Problems map[string]string
}

// String has one line a change.
func (c Change) String() string {
	var b strings.Builder
	for _, r := range c.Add {
		fmt.Fprintf(&b, "add %s/%s uid=%s from %s\n", r.Pod.Namespace, r.Pod.Name, r.Pod.UID, r.Place)
	}
	for _, uid := range c.End {
		fmt.Fprintf(&b, "end %s\n", uid)
	}
	for _, place := range c.Wait {
		fmt.Fprintf(&b, "wait %s\n", place)
	}
	for _, place := range sorted(c.Problems) {
		fmt.Fprintf(&b, "problem %s: %s\n", place, c.Problems[place])
	}
	return b.String()
}

func sorted(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Next gives what changes when these manifests are there now, and no others.
func Next(rows []Row, found []Found) Change {
	c := Change{Problems: map[string]string{}}
	wanted := map[model.Key]Found{}
	keep := map[string]bool{} // places whose pod goes on as it was
	for _, f := range found {
		if f.Err != nil {
			c.Problems[f.Place] = f.Err.Error()
			keep[f.Place] = true
			continue
		}
		key := keyOf(f.Pod)
		if first, twice := wanted[key]; twice {
			c.Problems[f.Place] = fmt.Sprintf("pod %s is in %s too: the first by name counts", key, first.Place)
			continue
		}
		wanted[key] = f
	}
	taken := map[model.Key]bool{}
	uids := map[model.UID]bool{}
	for _, r := range rows {
		key := keyOf(r.Pod)
		f, ok := wanted[key]
		same := ok && f.Place == r.Place && string(f.Pod.UID) == r.hash()
		switch {
		case !r.live():
		case same:
			delete(wanted, key)
		case keep[r.Place] && !ok:
		default:
			c.End = append(c.End, model.UID(r.Pod.UID))
		}
		taken[key], uids[model.UID(r.Pod.UID)] = true, true
	}
	for _, f := range found {
		if f.Err != nil || wanted[keyOf(f.Pod)].Pod != f.Pod {
			continue
		}
		if taken[keyOf(f.Pod)] {
			c.Wait = append(c.Wait, f.Place)
			continue
		}
		c.Add = append(c.Add, Row{Pod: fresh(f.Pod, uids), Place: f.Place})
	}
	return c
}

// fresh gives the pod a UID that no pod has.
func fresh(pod *corev1.Pod, used map[model.UID]bool) *corev1.Pod {
	hash := string(pod.UID)
	out := *pod
	for n := 0; used[model.UID(out.UID)]; n++ {
		out.UID = manifest.UID(hash, n)
	}
	return &out
}

func keyOf(pod *corev1.Pod) model.Key { return model.Key{Namespace: pod.Namespace, Name: pod.Name} }
