package node

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/cgroup"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// enforceAgain is how often the limit of all pods is written although nothing failed: whoever
	// lifted it by hand finds it back.
	enforceAgain = 10 * time.Minute
	// enforceRetry is upstream's: a limit below what pods use now fails until enough are evicted.
	enforceRetry = time.Minute
)

// enforceAllocatable keeps all pods together within what the node offers them.
func (p *agentParts) enforceAllocatable(ctx context.Context) error {
	limits, told := cgroup.ForNode(p.enforceable), ""
	tell := func(kind, reason, message string) {
		if told != message {
			told = message
			name := p.n.cfg.NodeName
			p.events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}, kind, reason, message)
		}
	}
	loop := reconcile.Loop{
		Name: "node allocatable", Store: p.n.store, Log: p.n.deps.Log, Health: p.n.watchHealth("node allocatable"),
		Relevant: func(_, _ *store.Snapshot) bool { return false },
		Resync:   enforceAgain, Backoff: reconcile.Backoff{Min: enforceRetry, Max: enforceRetry},
		Sync: func(context.Context, *store.Snapshot, *store.Snapshot) error {
			err := p.cgroups.EnsureRoot(limits)
			if err != nil {
				tell(corev1.EventTypeWarning, "FailedNodeAllocatableEnforcement", "Failed to update Node Allocatable Limits: "+err.Error())
				return err
			}
			tell(corev1.EventTypeNormal, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
			return nil
		},
	}
	return loop.Run(ctx)
}
