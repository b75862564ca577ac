package link

import (
	"errors"
	"fmt"
	"net"
	"os"

	"nodelet/cni/linkplan"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// loopbackIndex is the index of lo in every namespace (LOOPBACK_IFINDEX).
const loopbackIndex = 1

// Apply makes the attachment of the pod namespace ns as planned. step is
// called between any two steps with the name of what was just done: a seam
// for tests that kill the process there; it may be nil.
func Apply(host *nl.Conn, ns *netns.NS, plan linkplan.Plan, step func(string)) error {
	if step == nil {
		step = func(string) {}
	}
	index, err := addPair(host, ns, plan)
	if err != nil {
		return err
	}
	step("veth")
	if err := configure(ns, plan, step); err != nil {
		return errors.Join(err, undo(host, index, plan))
	}
	err = applyEnd(host, index, plan.Host, step)
	if err == nil {
		// The host end was up first, without a carrier: what is sent to the pod before this would be lost.
		err = host.AwaitUse(index)
	}
	if err != nil {
		return errors.Join(err, undo(host, index, plan))
	}
	return nil
}

func undo(host *nl.Conn, index int, plan linkplan.Plan) error {
	return errors.Join(host.DeleteLink(index), removeIfb(host, plan.Host.Name))
}

// addPair creates the pair, or finds it where an ADD that was cut short left it.
func addPair(host *nl.Conn, ns *netns.NS, plan linkplan.Plan) (int, error) {
	veth := nl.Veth{
		Name: plan.Host.Name, MAC: hw(plan.Host.MAC), MTU: plan.MTU, Group: linkplan.Group,
		PeerNS: ns.Fd(), PeerName: plan.Pod.Name, PeerMAC: hw(plan.Pod.MAC),
	}
	index, err := host.AddVeth(veth)
	if !errors.Is(err, nl.ErrExists) {
		return index, err
	}
	old, findErr := host.Link(plan.Host.Name)
	if errors.Is(findErr, nl.ErrNotFound) {
		return 0, fmt.Errorf("interface %s exists in %s already and is not nodelet's: run one CNI network per interface: %w",
			plan.Pod.Name, ns, err)
	}
	if findErr != nil {
		return 0, findErr
	}
	if !ours(old) {
		return 0, fmt.Errorf("%w: %s is not nodelet's (group %d, not %d)", err, old, old.Group, linkplan.Group)
	}
	if peerIn(ns, plan.Pod.Name, old.Index) {
		return old.Index, nil
	}
	// The same sandbox id with another namespace: the old pair is dead.
	if err := host.DeleteLink(old.Index); err != nil {
		return 0, err
	}
	return host.AddVeth(veth)
}

func peerIn(ns *netns.NS, name string, hostIndex int) bool {
	pod, err := nl.OpenAt(ns.Fd())
	if err != nil {
		return false
	}
	defer pod.Close()
	l, err := pod.Link(name)
	return err == nil && l.Kind == "veth" && l.PeerIndex == hostIndex
}

func ours(l nl.Link) bool { return l.Kind == "veth" && l.Group == linkplan.Group }

// configure does the host's sysctls before anything of the pod is up, so that
// no packet of the pod meets a host end with other settings; then the pod.
func configure(ns *netns.NS, plan linkplan.Plan, step func(string)) error {
	if err := applySysctls(plan.Host.Sysctls); err != nil {
		return err
	}
	step("host-sysctls")
	if len(plan.Pod.Sysctls) > 0 {
		if err := ns.Do(func() error { return applySysctls(plan.Pod.Sysctls) }); err != nil {
			return err
		}
	}
	pod, err := nl.OpenAt(ns.Fd())
	if err != nil {
		return err
	}
	defer pod.Close()
	inside, err := pod.Link(plan.Pod.Name)
	if err != nil {
		return err
	}
	if err := pod.SetUp(loopbackIndex); err != nil {
		return err
	}
	if err := pod.SetUp(inside.Index); err != nil {
		return err
	}
	step("pod-up")
	return applyEnd(pod, inside.Index, plan.Pod, step)
}

func applyEnd(conn *nl.Conn, index int, end linkplan.End, step func(string)) error {
	if err := applyShapes(conn, index, end); err != nil {
		return err
	}
	step("shapes-" + end.Name)
	for _, a := range end.Addrs {
		if err := conn.AddAddr(nl.Addr{Prefix: a, Link: index}); err != nil {
			return err
		}
	}
	for _, n := range end.Neighs {
		if err := conn.SetNeigh(nl.Neigh{Link: index, IP: n.IP, MAC: hw(n.MAC)}); err != nil {
			return err
		}
	}
	step("neigh-" + end.Name)
	for _, r := range end.Routes {
		if err := applyRoute(conn, index, r); err != nil {
			return err
		}
	}
	step("route-" + end.Name)
	return nil
}

// applyRoute falls back to the kernel's choice of a source address when the
// preferred one is not on the host (any more): a pod with a less fitting
// source beats none, and the daemon repairs it when it knows the new address.
func applyRoute(conn *nl.Conn, index int, r linkplan.Route) error {
	route := nl.Route{Dst: r.Dst, Via: r.Via, Src: r.Src, Link: index, Onlink: r.Via.IsValid()}
	err := conn.ReplaceRoute(route)
	if err == nil || !r.Src.IsValid() {
		return err
	}
	route.Src = linkplan.Route{}.Src
	return conn.ReplaceRoute(route)
}

// applySysctls skips keys that this kernel lacks: IPv6 may be compiled out.
func applySysctls(list []linkplan.Sysctl) error {
	for _, s := range list {
		if _, err := netns.WriteSysctl(s.Key, s.Value); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Remove deletes the pair of that host end, and with it all its routes,
// neighbours and addresses, and then the link that shapes what its pod sends;
// what is gone is fine.
func Remove(host *nl.Conn, veth string) error {
	l, err := host.Link(veth)
	if errors.Is(err, nl.ErrNotFound) {
		return removeIfb(host, veth)
	}
	if err != nil {
		return err
	}
	if !ours(l) {
		return fmt.Errorf("delete link %s: it is not nodelet's (group %d, not %d)", l, l.Group, linkplan.Group)
	}
	if err := host.DeleteLink(l.Index); err != nil {
		return err
	}
	return removeIfb(host, veth)
}

func hw(m linkplan.MAC) net.HardwareAddr { return net.HardwareAddr(m[:]) }
