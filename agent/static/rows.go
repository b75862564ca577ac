package static

import (
	"context"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/podstatus"
	"nodelet/agent/static/staticplan"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

// beginning is a row as it is when its pod is taken.
func beginning(r staticplan.Row, now time.Time) staticplan.Row {
	pod := *r.Pod
	pod.CreationTimestamp = metav1.NewTime(now.Truncate(time.Second))
	r.Pod = &pod
	return r
}

// ending is a row whose pod has its grace period to end in.
func ending(r staticplan.Row, now time.Time) staticplan.Row {
	pod := *r.Pod
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = *g
	}
	at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &at, &grace
	r.Pod = &pod
	return r
}

// put changes one row; mu is held, and publish follows.
func (s *Static) put(r staticplan.Row) {
	s.version++
	pod := *r.Pod
	pod.ResourceVersion = strconv.FormatUint(s.version, 10)
	r.Pod = &pod
	s.rows[model.UID(pod.UID)] = r
}

// publish makes the store and the record say what the rows say; mu is held.
func (s *Static) publish() {
	before := s.deps.Store.Snapshot().Revision
	after := s.deps.Pods.Commit(func(tx *store.Tx[model.UID, *corev1.Pod]) {
		for uid, pod := range tx.Before().All() {
			if _, ok := s.rows[uid]; !ok && podref.IsStatic(pod) {
				tx.Delete(uid)
			}
		}
		for uid, r := range s.rows {
			tx.Set(uid, r.Pod)
		}
	})
	if after != before {
		s.save()
	}
}

// PatchPodStatus takes the status of a static pod, and passes on that of any other.
func (s *Static) PatchPodStatus(ctx context.Context, key model.Key, uid model.UID, patch []byte) (*corev1.Pod, error) {
	pod, ours, err := s.patch(uid, patch)
	if ours {
		return pod, err
	}
	return s.deps.API.PatchPodStatus(ctx, key, uid, patch)
}

func (s *Static) patch(uid model.UID, patch []byte) (pod *corev1.Pod, ours bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ours := s.rows[uid]
	if !ours {
		return nil, false, nil
	}
	if r.Pod, err = podstatus.Apply(r.Pod, patch); err != nil {
		return nil, true, err
	}
	s.put(r)
	s.publish()
	return s.rows[uid].Pod, true, nil
}

// DeletePod removes a static pod of which nothing is left on the node, and passes on the removal of any other.
func (s *Static) DeletePod(ctx context.Context, key model.Key, uid model.UID) error {
	if !s.remove(uid) {
		return s.deps.API.DeletePod(ctx, key, uid)
	}
	// Its successor may begin now.
	signal(s.wake)
	return nil
}

func (s *Static) remove(uid model.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ours := s.rows[uid]; !ours {
		return false
	}
	delete(s.rows, uid)
	s.publish()
	return true
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}
