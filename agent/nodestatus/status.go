package nodestatus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// apiTimeout bounds one call to the API server: less than the interval between two looks.
const apiTimeout = 9 * time.Second

// relevant: somebody changed the Node object.
func (n *NodeStatus) relevant(prev, next *store.Snapshot) bool {
	a, _ := prev.Nodes.Get(n.key())
	b, _ := next.Nodes.Get(n.key())
	return a != b
}

func (n *NodeStatus) key() model.Key { return model.Key{Name: n.cfg.Identity.Name} }

// sync brings the Node object up to the facts.
func (n *NodeStatus) sync(ctx context.Context, _, next *store.Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	facts := n.gather(next)
	if n.node == nil {
		if err := n.register(ctx, facts); err != nil {
			return err
		}
	} else if err := n.refresh(ctx, next); err != nil {
		return err
	}
	n.tellCordoned()
	plan := nodeplan.Make(facts, n.node)
	if !plan.Changed && facts.Now.Sub(n.reported) < n.cfg.ReportInterval {
		return nil
	}
	return n.report(ctx, plan, facts.Now)
}

func (n *NodeStatus) report(ctx context.Context, plan nodeplan.Plan, now time.Time) error {
	patch, err := nodeplan.Patch(n.node, plan.Node)
	if err != nil || patch == nil {
		return err
	}
	node, err := n.deps.API.PatchNodeStatus(ctx, n.cfg.Identity.Name, patch)
	if err != nil {
		return n.explain("write the status of", err)
	}
	n.took(node, now)
	n.tell(plan)
	return nil
}

// register makes the Node object, or takes over the one that exists.
func (n *NodeStatus) register(ctx context.Context, facts nodeplan.Facts) error {
	plan := nodeplan.Make(facts, nil)
	node, err := n.create(ctx, plan)
	switch {
	case err == nil:
		n.deps.Log.Info("node registered", "node", node.Name, "ready", plan.Ready())
		n.took(node, facts.Now)
		n.tell(plan)
	case apierrors.IsAlreadyExists(err), apierrors.IsForbidden(err):
		// Where nodes may not register themselves somebody else has made the object.
		node, getErr := n.deps.API.GetNode(ctx, n.cfg.Identity.Name)
		if getErr != nil {
			return fmt.Errorf("register node %s: %w; then get it: %w", n.cfg.Identity.Name, err, getErr)
		}
		n.deps.Log.Info("node was registered before", "node", node.Name)
		n.node = node
	default:
		return fmt.Errorf("register node %s: %w", n.cfg.Identity.Name, err)
	}
	n.mu.Lock()
	n.uid = string(n.node.UID)
	n.mu.Unlock()
	close(n.registered)
	n.deps.Events.Event(n.ref(), corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	return nil
}

// errNotRegistering stands for the answer of an API server that was not asked.
var errNotRegistering = apierrors.NewForbidden(corev1.Resource("nodes"), "", errors.New("registerNode is false: create the Node object, and it is taken up"))

func (n *NodeStatus) create(ctx context.Context, plan nodeplan.Plan) (*corev1.Node, error) {
	if n.cfg.NoRegister {
		return nil, errNotRegistering
	}
	return n.deps.API.CreateNode(ctx, plan.Node)
}

func (n *NodeStatus) took(node *corev1.Node, now time.Time) {
	n.node, n.reported = node, now
}

// tellCordoned tells that somebody took the node out of service, or back.
func (n *NodeStatus) tellCordoned() {
	if n.node.Spec.Unschedulable == n.cordoned {
		return
	}
	n.cordoned = n.node.Spec.Unschedulable
	reason := "NodeSchedulable"
	if n.cordoned {
		reason = "NodeNotSchedulable"
	}
	n.deps.Events.Event(n.ref(), corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", n.cfg.Identity.Name, reason))
}

func (n *NodeStatus) tell(plan nodeplan.Plan) {
	for _, e := range plan.Events {
		n.deps.Log.Info("node", "event", e.Reason, "message", e.Message)
		n.deps.Events.Event(n.ref(), e.Type, e.Reason, e.Message)
	}
}

// ref is how events name a node: upstream puts the name into the UID, and kubectl describe looks for that.
func (n *NodeStatus) ref() corev1.ObjectReference {
	name := n.cfg.Identity.Name
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}
}

// refresh gets the object again when the store shows that somebody else has written it: the node
// controller does when it has not heard of us for a while.
func (n *NodeStatus) refresh(ctx context.Context, snap *store.Snapshot) error {
	entry, ok := snap.Nodes.Get(n.key())
	if entry == n.seen {
		return nil
	}
	if !ok || entry.ResourceVersion != n.node.ResourceVersion {
		node, err := n.deps.API.GetNode(ctx, n.cfg.Identity.Name)
		if err != nil {
			return n.explain("get", err)
		}
		n.node = node
	}
	n.seen = entry
	return nil
}

func (n *NodeStatus) explain(doing string, err error) error {
	name := n.cfg.Identity.Name
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s node %s: its object was deleted: restart nodelet to register it again, or stop nodelet if the node was removed: %w", doing, name, err)
	}
	return fmt.Errorf("%s node %s: %w", doing, name, err)
}

// gather takes the facts together.
func (n *NodeStatus) gather(snap *store.Snapshot) nodeplan.Facts {
	if m, err := ReadMachine(n.cfg.HostRoot, n.cfg.KubeletRoot); err != nil {
		n.deps.Log.Warn("look at the machine, telling what was seen before", "err", err)
	} else {
		n.machine = m
	}
	f := nodeplan.Facts{
		Now: time.Now(), Started: n.started,
		Identity: n.cfg.Identity, Machine: *n.machine, Reserve: n.reserve(*n.machine),
		Missing: n.missing(snap),
	}
	if n.deps.Pressure != nil {
		f.Pressure = n.deps.Pressure()
	}
	if n.deps.Devices != nil {
		f.Devices = n.deps.Devices()
	}
	f.ShuttingDown = n.deps.ShuttingDown != nil && n.deps.ShuttingDown()
	n.mu.Lock()
	defer n.mu.Unlock()
	f.Runtime, f.Images = n.runtime, n.images
	return f
}

func (n *NodeStatus) reserve(m nodeplan.Machine) nodeplan.Reserve {
	r := n.cfg.Reserve
	r.EvictStorage += m.EphemeralStorage / 100 * uint64(max(n.cfg.EvictStoragePercent, 0))
	return r
}

// missing says which features have never programmed the kernel.
func (n *NodeStatus) missing(snap *store.Snapshot) []string {
	var all []string
	for _, r := range n.cfg.Require {
		if snap.Applied[r.Feature] == 0 {
			all = append(all, r.Missing)
		}
	}
	return all
}

// awaitApplied wakes the status as soon as a missing feature has programmed the kernel.
func (n *NodeStatus) awaitApplied(ctx context.Context) {
	snap := n.deps.Store.Snapshot()
	before := n.missing(snap)
	for len(before) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-snap.Changed():
		}
		snap = n.deps.Store.Snapshot()
		now := n.missing(snap)
		if !slices.Equal(before, now) {
			signal(n.wake)
			signal(n.poke) // with the pod network set up, the runtime's network becomes ready
		}
		before = now
	}
}
