package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/cgroup"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// enforceAgain is how often limits are written although nothing failed: whoever lifted one by
	// hand finds it back.
	enforceAgain = 10 * time.Minute
	// enforceRetry is upstream's: a limit below what pods use now fails until enough are evicted.
	enforceRetry = time.Minute
)

// podsLimits are those of all pods together: what the node offers them, or only their weight beside the
// machine's own programs where they are not to be held to it.
func (p *agentParts) podsLimits() cgroup.Limits {
	limits := cgroup.ForNode(p.enforceable)
	if p.n.cfg.Kubelet.Enforce.pods() {
		return limits
	}
	return cgroup.Limits{CPUShares: limits.CPUShares}
}

// enforceAllocatable keeps all pods together within what the node offers them, and the machine's own
// programs within what is reserved for them.
func (p *agentParts) enforceAllocatable(ctx context.Context) error {
	limits, reserved, told := p.podsLimits(), p.n.cfg.Kubelet.reservedCgroups(), map[string]string{}
	tell := func(what, kind, reason, message string) {
		if told[what] != message {
			told[what] = message
			name := p.n.cfg.NodeName
			p.events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}, kind, reason, message)
		}
	}
	const failed, done = "FailedNodeAllocatableEnforcement", "NodeAllocatableEnforced"
	loop := reconcile.Loop{
		Name: "node allocatable", Store: p.n.store, Log: p.n.deps.Log, Health: p.n.watchHealth("node allocatable"),
		Relevant: func(_, _ *store.Snapshot) bool { return false },
		Resync:   enforceAgain, Backoff: reconcile.Backoff{Min: enforceRetry, Max: enforceRetry},
		Sync: func(context.Context, *store.Snapshot, *store.Snapshot) error {
			err := p.cgroups.EnsureRoot(limits)
			if err != nil {
				tell("pods", corev1.EventTypeWarning, failed, "Failed to update Node Allocatable Limits: "+err.Error())
			} else {
				tell("pods", corev1.EventTypeNormal, done, "Updated Node Allocatable limit across pods")
			}
			errs := []error{err}
			for _, r := range reserved {
				if err := p.cgroups.LimitForeign(r.name, r.limits); err != nil {
					errs = append(errs, err)
					tell(r.what, corev1.EventTypeWarning, failed, fmt.Sprintf("Failed to enforce limits on %s reserved cgroup %q: %v", r.what, r.name, err))
					continue
				}
				tell(r.what, corev1.EventTypeNormal, done, fmt.Sprintf("Updated limits on %s reserved cgroup %s", r.what, r.name))
			}
			return errors.Join(errs...)
		},
	}
	return loop.Run(ctx)
}
