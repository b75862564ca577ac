package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"nodelet/cni/ipam"
	"nodelet/cni/ipam/file"
	"nodelet/cni/link"
	"nodelet/cni/linkplan"
	"nodelet/cni/ruleset"
	"nodelet/internal/netns"
	"nodelet/internal/nft"
	"nodelet/internal/nl"
)

// Node is what all attachments of a node have in common.
type Node struct {
	StateDir string
	// Subnets are the ranges of pod addresses, at most one per family.
	Subnets []netip.Prefix
	// NodeIPs are the host's addresses towards its pods.
	NodeIPs []netip.Addr
	MTU     int
	// Inside are the destinations that pods reach with their own address.
	Inside []netip.Prefix
}

// Dir is the node's state; damaged files are rebuilt from the kernel.
func (n Node) Dir() file.Dir {
	return file.Dir{Path: n.StateDir, Seed: seed, Damaged: func(aside string, err error) {
		fmt.Fprintf(os.Stderr, "network state set aside as %s and rebuilt from the kernel: %v\n", aside, err)
	}}
}

// seed gives a lease to every host end; only its name and addresses are known.
func seed() ([]ipam.Lease, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	found, err := link.Ours(conn)
	if err != nil {
		return nil, err
	}
	s := ipam.State{}
	for veth, addrs := range found {
		s = ipam.Adopt(s, ipam.Lease{Veth: veth, Addrs: addrs})
	}
	return s.Leases, nil
}

// Living gives a test of whether the sandbox of a lease may still exist. Two
// witnesses must both deny it: the path of its namespace, which a daemon in a
// container may not see, and its link, which goes with the namespace but is not
// there yet when an ADD has only begun. A lease rebuilt from the kernel has no path.
func Living(conn *nl.Conn) (func(ipam.Lease) bool, error) {
	links, err := link.Ours(conn)
	if err != nil {
		return nil, err
	}
	return func(l ipam.Lease) bool {
		_, linked := links[l.Veth]
		return linked || l.Netns != "" && netns.Exists(l.Netns)
	}, nil
}

// Plan is the attachment that belongs to a lease.
func (n Node) Plan(l ipam.Lease) (linkplan.Plan, error) {
	req := linkplan.Request{ContainerID: l.ContainerID, IfName: l.IfName, Bandwidth: l.Bandwidth}
	return linkplan.Make(req, linkplan.Network{MTU: n.MTU, NodeIPs: n.NodeIPs}, l.Addrs)
}

// Add makes the attachment that want describes (all but its name and
// addresses) in the namespace ns. It may be repeated; after an error nothing
// of it is left.
func (n Node) Add(ctx context.Context, ns *netns.NS, want ipam.Lease) (ipam.Lease, linkplan.Plan, error) {
	want.Veth = linkplan.VethName(linkplan.Request{ContainerID: want.ContainerID, IfName: want.IfName})
	lease, err := n.lease(ctx, want)
	if err != nil {
		return lease, linkplan.Plan{}, err
	}
	step("lease")
	plan, err := n.build(ns, lease)
	if err != nil {
		return lease, plan, errors.Join(err, n.Release(ctx, []ipam.Lease{lease}))
	}
	return lease, plan, n.openPorts(ctx, lease)
}

// lease reserves addresses and ports. Leases of sandboxes whose namespace is
// gone make way when either runs out.
func (n Node) lease(ctx context.Context, want ipam.Lease) (got ipam.Lease, err error) {
	reserve := func(s ipam.State) (next ipam.State, err error) {
		next, got, err = ipam.Allocate(s, n.Subnets, want)
		return next, err
	}
	err = n.Dir().Update(reserve)
	if !errors.Is(err, ipam.ErrExhausted) && !errors.Is(err, ipam.ErrPortTaken) {
		return got, err
	}
	dead, deadErr := n.dead()
	if deadErr != nil {
		return got, errors.Join(err, deadErr)
	}
	if len(dead) == 0 {
		return got, err
	}
	if err := n.Release(ctx, dead); err != nil {
		return got, err
	}
	return got, n.Dir().Update(reserve)
}

// dead lists the leases of sandboxes that are gone.
func (n Node) dead() ([]ipam.Lease, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state, err := n.Dir().View()
	if err != nil {
		return nil, err
	}
	living, err := Living(conn)
	if err != nil {
		return nil, err
	}
	_, dead := ipam.Keep(state, living)
	return dead, nil
}

func (n Node) build(ns *netns.NS, lease ipam.Lease) (linkplan.Plan, error) {
	plan, err := n.Plan(lease)
	if err != nil {
		return plan, err
	}
	conn, err := nl.Open()
	if err != nil {
		return plan, err
	}
	defer conn.Close()
	return plan, link.Apply(conn, ns, plan, step)
}

// openPorts programs the host ports of a lease, if it has any. An error
// leaves the attachment: the runtime answers a failed ADD with a DEL.
func (n Node) openPorts(ctx context.Context, lease ipam.Lease) error {
	if len(lease.Ports) == 0 {
		return nil
	}
	same := func(s ipam.State) (ipam.State, error) { return s, nil }
	err := n.Dir().UpdateThen(same, func(s ipam.State) error {
		_, err := n.SyncRules(ctx, s)
		return err
	})
	step("ports")
	return errors.Join(err, endFlows(ctx, []ipam.Lease{lease}, openedFlows(lease, n.NodeIPs)))
}

// SyncRules brings the node's table in line with the state, which must be
// that of a running Update: its lock orders all writers of the table.
func (n Node) SyncRules(ctx context.Context, s ipam.State) (changed bool, err error) {
	conn, err := nft.Open(nft.Options{})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	rules := ruleset.Make(ruleset.Network{Pods: n.Subnets, Inside: n.Inside}, s.Leases)
	return conn.Ensure(ctx, &rules)
}

// Release undoes attachments: it closes their ports, removes their links, and
// then frees their addresses. What is gone already is fine; a link that cannot
// be removed keeps its lease. A full disk is no error (full).
func (n Node) Release(ctx context.Context, dead []ipam.Lease) error {
	if err := n.closePorts(ctx, dead); err != nil {
		return err
	}
	step("ports-closed")
	errs := n.removeLinks(&dead)
	step("links-removed")
	if len(dead) > 0 {
		err := n.Dir().Update(func(s ipam.State) (ipam.State, error) {
			for _, l := range dead {
				s, _ = ipam.Release(s, l.Veth)
			}
			return s, nil
		})
		if !full(err) {
			errs = append(errs, err)
		}
	}
	step("released")
	return errors.Join(errs...)
}

func (n Node) closePorts(ctx context.Context, dead []ipam.Lease) error {
	if !slices.ContainsFunc(dead, func(l ipam.Lease) bool { return len(l.Ports) > 0 }) {
		return nil
	}
	isDead := func(l ipam.Lease) bool {
		return slices.ContainsFunc(dead, func(d ipam.Lease) bool { return d.Veth == l.Veth })
	}
	closed := func(s ipam.State) (ipam.State, error) { return ipam.ClosePorts(s, isDead), nil }
	sync := func(s ipam.State) error {
		_, err := n.SyncRules(ctx, ipam.ClosePorts(s, isDead))
		return err
	}
	err := n.Dir().UpdateThen(closed, sync)
	if full(err) { // without writing it down
		err = n.Dir().UpdateThen(func(s ipam.State) (ipam.State, error) { return s, nil }, sync)
	}
	return errors.Join(err, endFlows(ctx, dead, closedFlows(dead)))
}

// full tells whether the disk has no room for a change of the state. That must not keep a pod from ending, which
// may be what makes room: its link and its namespace are gone then, so that its lease makes way when it
// is looked for (Living).
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// removeLinks takes the leases out of dead whose links would not go.
func (n Node) removeLinks(dead *[]ipam.Lease) []error {
	conn, err := nl.Open()
	if err != nil {
		*dead = nil
		return []error{err}
	}
	defer conn.Close()
	var gone []ipam.Lease
	var errs []error
	for _, l := range *dead {
		if err := link.Remove(conn, l.Veth); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, l)
	}
	*dead = gone
	return errs
}
