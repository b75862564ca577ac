package kube

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// claimFirst and claimLast bound the waits between two looks at a claim that
	// is not bound or cannot be read yet.
	claimFirst = 100 * time.Millisecond
	claimLast  = 5 * time.Second
	// claimFresh is how often a bound claim is read again: its size may grow.
	claimFresh = time.Minute
	// claimQuiet is how many refusals in a row are not told: the API server's
	// authorizer learns a moment later than we do which pods are on this node.
	claimQuiet = 6
)

// claims keeps table Claims. A node may get the claims of its pods, but not
// list or watch them, so they are asked for one by one.
type claims struct {
	*Reflector
	mu sync.Mutex
	// tries counts the looks in a row that did not give a bound claim.
	tries map[model.Key]int
}

// reflectClaims reads each claim that a pod of this node refers to, until ctx ends.
func (r *Reflector) reflectClaims(ctx context.Context) {
	c := &claims{Reflector: r, tries: map[model.Key]int{}}
	loop := reconcile.Keyed[model.Key]{
		Name: "claims", Store: r.Store, Log: r.Log,
		Ready: func(n *store.Snapshot) bool { return n.Pods.Synced() },
		Keys:  claimKeys, Sync: c.sync, Parallel: 8,
	}
	_ = loop.Run(ctx) // returns nil once ctx has ended
}

// claimKeys yields the claims of the pods that came, changed or went.
func claimKeys(prev, next *store.Snapshot) iter.Seq[model.Key] {
	return func(yield func(model.Key) bool) {
		if prev == nil {
			prev = &store.Snapshot{}
		}
		for d := range next.Pods.Since(prev.Pods) {
			if d.Was && d.Is {
				continue // the volumes of a pod never change
			}
			for _, pod := range []*corev1.Pod{d.Old, d.New} {
				if pod == nil {
					continue
				}
				for _, key := range podref.Claims(pod) {
					if !yield(key) {
						return
					}
				}
			}
		}
	}
}

// sync reads one claim and the volume it is bound to.
func (c *claims) sync(ctx context.Context, key model.Key, snap *store.Snapshot) (time.Duration, error) {
	if !claimWanted(snap, key) {
		c.settled(key)
		c.Writers.Claims.Delete(key)
		return 0, nil
	}
	got, err := c.Client.readClaim(ctx, key)
	if ctx.Err() != nil {
		return 0, nil
	}
	tries, wait := c.unsettled(key)
	if err != nil {
		// What is known of a claim stays true while the API server is away.
		if old, known := snap.Claims.Get(key); tries > claimQuiet && (!known || old.Claim == nil) {
			c.Writers.Claims.Set(key, &model.Claim{Key: key, Problem: plain(err)})
		}
		c.Log.Debug("read claim", "claim", key, "err", err, "retryIn", wait)
		return wait, nil
	}
	c.Writers.Claims.Set(key, got)
	if got.Volume != nil {
		c.settled(key)
		return claimFresh, nil
	}
	return wait, nil
}

func claimWanted(snap *store.Snapshot, key model.Key) bool {
	for _, pod := range snap.Pods.All() {
		if pod.Namespace != key.Namespace {
			continue
		}
		for _, k := range podref.Claims(pod) {
			if k == key {
				return true
			}
		}
	}
	return false
}

func (c *claims) settled(key model.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tries, key)
}

// unsettled counts one more look in vain and gives the wait before the next.
func (c *claims) unsettled(key model.Key) (tries int, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries[key]++
	tries = c.tries[key]
	return tries, min(claimLast, time.Duration(float64(claimFirst)*math.Pow(1.3, float64(min(tries, 30)-1))))
}

// readClaim gets a claim, and its volume when it is bound.
func (c *Client) readClaim(ctx context.Context, key model.Key) (*model.Claim, error) {
	out := &model.Claim{Key: key}
	pvc, err := into[corev1.PersistentVolumeClaim](ctx, c.core().Get().Namespace(key.Namespace).Resource("persistentvolumeclaims").Name(key.Name))
	if apierrors.IsNotFound(err) {
		out.Missing = true
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get claim %s: %w", key, err)
	}
	pvc.ManagedFields = nil
	out.Claim = pvc
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return out, nil
	}
	pv, err := into[corev1.PersistentVolume](ctx, c.core().Get().Resource("persistentvolumes").Name(pvc.Spec.VolumeName))
	if apierrors.IsNotFound(err) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get volume %s of claim %s: %w", pvc.Spec.VolumeName, key, err)
	}
	pv.ManagedFields = nil
	out.Volume = pv
	return out, nil
}
