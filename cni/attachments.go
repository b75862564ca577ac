package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nodelet/cni/attach"
	"nodelet/cni/ipam"
	"nodelet/cni/link"
	"nodelet/cni/linkplan"
	"nodelet/cni/plugin"
	"nodelet/internal/nl"
)

// Attachments lists the pods on the node's network, for people: it works
// without the daemon and without rights beyond reading the state directory.
func Attachments(stateDir string) ([]ipam.Lease, error) {
	s, err := attach.Node{StateDir: stateDir}.Dir().View()
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	return s.Leases, nil
}

// sweep releases attachments whose sandbox is gone, repairs the host's side of
// the others, and keeps the node's table. The runtime's DEL may have been lost:
// it was killed, or the machine was.
func (c *CNI) sweep(ctx context.Context, conn *nl.Conn, network plugin.Config) error {
	node := network.Node()
	state, err := node.Dir().View()
	if err != nil {
		return err
	}
	alive, err := attach.Living(conn)
	if err != nil {
		return err
	}
	living, dead := ipam.Keep(state, alive)
	if dead, err = stillThere(node, dead); err != nil {
		return err
	}
	var errs []error
	if len(dead) > 0 {
		c.deps.Log.Info("pod network: release attachments of sandboxes that are gone", "count", len(dead), "first", dead[0].String())
		errs = append(errs, node.Release(ctx, dead))
	}
	errs = append(errs, removeOrphans(conn), c.repairLinks(conn, node, living.Leases), c.keepRules(ctx, node))
	return errors.Join(errs...)
}

// removeOrphans deletes the links that shaped what pods sent and whose host
// end went without them: with the pod's namespace, or before a DEL was cut short.
func removeOrphans(conn *nl.Conn) error {
	veths, err := link.Orphans(conn)
	for _, veth := range veths {
		err = errors.Join(err, link.Remove(conn, veth))
	}
	return err
}

// stillThere drops the leases that a DEL has released since the state was
// read: a runtime removes the namespace only after DEL has returned.
func stillThere(node attach.Node, dead []ipam.Lease) ([]ipam.Lease, error) {
	if len(dead) == 0 {
		return nil, nil
	}
	now, err := node.Dir().View()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(dead, func(l ipam.Lease) bool {
		_, there := now.Lease(l.Veth)
		return !there
	}), nil
}

// secondLook is longer than any ADD takes to finish what it has begun.
const secondLook = 500 * time.Millisecond

// lookAgain wakes the loop.
func (c *CNI) lookAgain() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *CNI) repairLinks(conn *nl.Conn, node attach.Node, leases []ipam.Lease) error {
	var ends []linkplan.End
	for _, l := range leases {
		if l.Netns == "" {
			continue // nothing is known but its name
		}
		plan, err := node.Plan(l)
		if err != nil {
			return err
		}
		ends = append(ends, plan.Host)
	}
	broken, err := link.Broken(conn, ends)
	if err != nil {
		return err
	}
	var errs []error
	suspects := map[string]bool{}
	for _, end := range broken {
		if !c.suspects[end.Name] {
			// An ADD that is under way looks just like this: it counts as
			// broken only when a second look finds it so.
			suspects[end.Name] = true
			continue
		}
		repaired, err := link.Repair(conn, end)
		switch {
		case errors.Is(err, nl.ErrNotFound):
			// An ADD or DEL is under way, or somebody has deleted the link: then the
			// pod is cut off until its sandbox is made anew.
			c.deps.Log.Debug("pod network: no link", "veth", end.Name)
		case err != nil:
			errs = append(errs, err)
		case repaired:
			c.deps.Log.Warn("pod network: repaired what somebody has removed", "veth", end.Name)
		}
	}
	c.suspects = suspects
	if len(suspects) > 0 {
		time.AfterFunc(secondLook, c.lookAgain)
	}
	return errors.Join(errs...)
}

func (c *CNI) keepRules(ctx context.Context, node attach.Node) error {
	same := func(s ipam.State) (ipam.State, error) { return s, nil }
	return node.Dir().UpdateThen(same, func(s ipam.State) error {
		changed, err := node.SyncRules(ctx, s)
		if changed {
			c.deps.Log.Info("pod network: wrote table inet nodelet-cni")
		}
		return err
	})
}
