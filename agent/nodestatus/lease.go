package nodestatus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/reconcile"
)

// renew keeps the node's Lease until ctx ends: it is the sign of life that keeps pods from being
// moved elsewhere, so nothing else is done here.
func (n *NodeStatus) renew(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-n.registered:
	}
	retry := reconcile.Backoff{Min: 100 * time.Millisecond, Max: 7 * time.Second}
	interval := n.cfg.LeaseDuration / 4
	failures := 0
	var lease *coordinationv1.Lease
	for ctx.Err() == nil {
		next, err := n.renewOnce(ctx, lease)
		lease = next
		wait := interval + time.Duration(rand.Int64N(int64(interval)/25+1)) // 4 %, so that nodes spread out
		if err != nil && ctx.Err() == nil {
			failures++
			wait = min(retry.After(failures), interval)
			n.deps.Log.Error("renew the node's lease", "err", err, "attempt", failures, "retryIn", wait)
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// renewOnce writes the Lease once. It gives the Lease to build on next time: nil after a failure,
// since it may have changed.
func (n *NodeStatus) renewOnce(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LeaseDuration/4)
	defer cancel()
	name := n.cfg.Identity.Name
	if lease == nil {
		got, err := n.deps.API.GetLease(ctx, corev1.NamespaceNodeLease, name)
		switch {
		case apierrors.IsNotFound(err):
			made, err := n.deps.API.CreateLease(ctx, n.fill(&coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
			}))
			if err != nil {
				return nil, fmt.Errorf("create lease %s: %w", name, err)
			}
			return made, nil
		case err != nil:
			return nil, fmt.Errorf("get lease %s: %w", name, err)
		}
		lease = got
	}
	next, err := n.deps.API.UpdateLease(ctx, n.fill(lease.DeepCopy()))
	if err != nil {
		return nil, fmt.Errorf("update lease %s: %w", name, err)
	}
	return next, nil
}

// fill writes who holds the Lease and that it is being held now.
func (n *NodeStatus) fill(l *coordinationv1.Lease) *coordinationv1.Lease {
	name := n.cfg.Identity.Name
	seconds := int32(n.cfg.LeaseDuration / time.Second)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds = &name, &seconds
	l.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
	n.mu.Lock()
	uid := types.UID(n.uid)
	n.mu.Unlock()
	// The Lease goes with the Node. One left from a former Node of this name would be collected.
	l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}}
	return l
}
