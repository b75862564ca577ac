package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// refresh keeps up to date what the daemon has written for a pod that is on its way out, for as long as its
// containers run: one that has hours to end would be left with a token that has expired
// (kubernetes/kubernetes#116481). Nothing is made anew, and its row stays as it is.
func (v *Volumes) refresh(ctx context.Context, pod *corev1.Pod, snap *store.Snapshot) (time.Duration, error) {
	plan, err := volumeplan.Make(v.facts(pod, snap))
	if err != nil {
		return 0, err
	}
	m := &maker{Volumes: v, pod: pod, uid: plan.UID, snap: snap}
	for i := range plan.Volumes {
		vol := &plan.Volumes[i]
		if vol.Problem.Text != "" || !complete(vol) {
			continue
		}
		if err := m.write(ctx, vol); err != nil && ctx.Err() == nil {
			m.errs = append(m.errs, fmt.Errorf("refresh volume %q of pod %s: %w", vol.Name, plan.UID, err))
		}
	}
	return m.again, errors.Join(m.errs...)
}

// idle tells whether nobody waits any more for what is being done for a pod: for its volumes when it is to
// go, for their refreshing when its containers have ended.
func idle(uid model.UID, running, next *store.Snapshot) bool {
	return wanted(running, uid) && !wanted(next, uid) || inUse(running, uid) && !inUse(next, uid) && !wanted(next, uid)
}
