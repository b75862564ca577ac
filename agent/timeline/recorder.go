package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

const (
	// maxSteps bounds what is kept of one pod: the first half is its start, of the rest the newest.
	maxSteps = 128
	// maxGone and keepGone bound the pods that are kept although they are gone.
	maxGone  = 64
	keepGone = 10 * time.Minute
)

// Timeline is what was recorded of one pod, in the order of time.
type Timeline struct {
	APIVersion string    `json:"apiVersion"` // nodelet.dev/v1
	Kind       string    `json:"kind"`       // Timeline
	Pod        model.Key `json:"pod"`
	UID        model.UID `json:"uid"`
	// Written is when the API server made the object, in whole seconds.
	Written time.Time `json:"written"`
	Steps   []Step    `json:"steps"`
	// Dropped counts steps that there was no room for.
	Dropped int `json:"dropped,omitempty"`
}

// Recorder keeps the timelines of a node. The zero value is ready; a nil one keeps nothing.
type Recorder struct {
	mu   sync.Mutex
	pods map[model.UID]*record
}

type record struct {
	Timeline
	gone time.Time
}

// Note adds the steps that are not there yet; those without a time happened now.
func (r *Recorder) Note(pod *corev1.Pod, now time.Time, steps ...Step) {
	if r == nil {
		return
	}
	uid := model.UID(pod.UID)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.pods[uid]
	if rec == nil {
		if r.pods == nil {
			r.pods = map[model.UID]*record{}
		}
		rec = &record{Timeline: Timeline{
			APIVersion: "nodelet.dev/v1", Kind: "Timeline", UID: uid,
			Pod: model.Key{Namespace: pod.Namespace, Name: pod.Name}, Written: pod.CreationTimestamp.Time,
		}}
		r.pods[uid] = rec
	}
	for _, s := range steps {
		rec.add(s, now)
	}
}

func (rec *record) add(s Step, now time.Time) {
	// Mostly it was noted lately.
	for i := len(rec.Steps) - 1; i >= 0; i-- {
		if same(rec.Steps[i], s) {
			return
		}
	}
	if s.At.IsZero() {
		s.At = now
	}
	if len(rec.Steps) == maxSteps {
		rec.Steps = slices.Delete(rec.Steps, maxSteps/2, maxSteps/2+1)
		rec.Dropped++
	}
	rec.Steps = append(rec.Steps, s)
}

// Gone notes that nothing is left of a pod; it is kept for a while.
func (r *Recorder) Gone(uid model.UID, now time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.pods[uid]; rec != nil && rec.gone.IsZero() {
		rec.add(Step{Name: "gone"}, now)
		rec.gone = now
	}
	r.forget(now)
}

// forget drops what is too old or too much; mu is held.
func (r *Recorder) forget(now time.Time) {
	var gone []*record
	for uid, rec := range r.pods {
		switch {
		case rec.gone.IsZero():
		case now.Sub(rec.gone) > keepGone:
			delete(r.pods, uid)
		default:
			gone = append(gone, rec)
		}
	}
	if len(gone) <= maxGone {
		return
	}
	slices.SortFunc(gone, func(a, b *record) int { return a.gone.Compare(b.gone) })
	for _, rec := range gone[:len(gone)-maxGone] {
		delete(r.pods, rec.UID)
	}
}

// Of gives the timeline of the pod of that name: the one that is there, else the one that went last.
func (r *Recorder) Of(key model.Key) (Timeline, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best *record
	for _, rec := range r.pods {
		if rec.Pod == key && (best == nil || newer(rec, best)) {
			best = rec
		}
	}
	if best == nil {
		return Timeline{}, fmt.Errorf("nothing is recorded of a pod %s: it is not on this node, or has been gone for more than %s", key, keepGone)
	}
	out := best.Timeline
	out.Steps = slices.Clone(best.Steps)
	slices.SortStableFunc(out.Steps, func(a, b Step) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	return out, nil
}

func newer(a, b *record) bool {
	if a.gone.IsZero() != b.gone.IsZero() {
		return a.gone.IsZero()
	}
	return a.gone.After(b.gone) || a.gone.Equal(b.gone) && a.Written.After(b.Written)
}
