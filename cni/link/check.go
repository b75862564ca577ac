package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"nodelet/cni/linkplan"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// Check compares the kernel with the plan on both ends; the error names
// everything that is missing.
func Check(host *nl.Conn, ns *netns.NS, plan linkplan.Plan) error {
	pod, err := nl.OpenAt(ns.Fd())
	if err != nil {
		return err
	}
	defer pod.Close()
	err = errors.Join(checkEnd(host, plan.Host), checkEnd(pod, plan.Pod))
	if l, findErr := host.Link(plan.Host.Name); findErr == nil && !ours(l) {
		err = errors.Join(err, fmt.Errorf("link %s is not nodelet's", l))
	}
	return err
}

// checkEnd works in the namespace conn was opened in.
func checkEnd(conn *nl.Conn, end linkplan.End) error {
	l, err := conn.Link(end.Name)
	if err != nil {
		return err
	}
	var problems []error
	missing := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !l.Up {
		missing("link %s is down", end.Name)
	}
	addrs, err := conn.Addrs(l.Index)
	if err != nil {
		return err
	}
	for _, a := range end.Addrs {
		if !slices.ContainsFunc(addrs, func(h nl.Addr) bool { return h.Prefix == a }) {
			missing("link %s lacks address %s", end.Name, a)
		}
	}
	neighs, err := conn.Neighs(l.Index)
	if err != nil {
		return err
	}
	for _, n := range end.Neighs {
		if !slices.ContainsFunc(neighs, func(h nl.Neigh) bool { return h.IP == n.IP && h.MAC.String() == n.MAC.String() }) {
			missing("link %s lacks neighbour %s", end.Name, n.IP)
		}
	}
	routes, err := conn.Routes(0)
	if err != nil {
		return err
	}
	for _, r := range end.Routes {
		if !slices.ContainsFunc(routes, func(h nl.Route) bool { return h.Link == l.Index && h.Dst == r.Dst && h.Via == r.Via }) {
			missing("link %s lacks route to %s", end.Name, r.Dst)
		}
	}
	return errors.Join(append(problems, checkShapes(conn, l.Index, end))...)
}

// Broken gives those host ends of which a link setting, neighbour or route is
// missing, by one look at the kernel for all of them; sysctls are not looked at.
func Broken(host *nl.Conn, ends []linkplan.End) ([]linkplan.End, error) {
	links, err := host.Links()
	if err != nil {
		return nil, err
	}
	neighs, err := host.Neighs(0)
	if err != nil {
		return nil, err
	}
	routes, err := host.Routes(nl.Proto)
	if err != nil {
		return nil, err
	}
	type entry struct {
		link int
		ip   netip.Addr
	}
	index, have := map[string]int{}, map[entry]int{}
	for _, l := range links {
		if l.Up && ours(l) {
			index[l.Name] = l.Index
		}
	}
	for _, n := range neighs {
		have[entry{n.Link, n.IP}]++
	}
	for _, r := range routes {
		if r.Dst.IsSingleIP() {
			have[entry{r.Link, r.Dst.Addr()}]++
		}
	}
	var broken []linkplan.End
	for _, end := range ends {
		i, whole := index[end.Name]
		for _, n := range end.Neighs { // each address has a neighbour and a route
			whole = whole && have[entry{i, n.IP}] == 2
		}
		whole = whole && checkShapes(host, i, end) == nil
		if !whole {
			broken = append(broken, end)
		}
	}
	return broken, nil
}

// Repair sets the host's side of an attachment right again and says whether
// anything was missing. An attachment without its veth cannot be repaired:
// the pod's side is gone with it; that is nl.ErrNotFound.
func Repair(host *nl.Conn, end linkplan.End) (repaired bool, err error) {
	l, err := host.Link(end.Name)
	if err != nil {
		return false, err
	}
	if !ours(l) {
		return false, fmt.Errorf("link %s is not nodelet's: %w", l, nl.ErrNotFound)
	}
	if checkEnd(host, end) == nil && sysctlsHold(end.Sysctls) {
		return false, nil
	}
	if err := applySysctls(end.Sysctls); err != nil {
		return false, err
	}
	if err := host.SetUp(l.Index); err != nil {
		return false, err
	}
	return true, applyEnd(host, l.Index, end, func(string) {})
}

func sysctlsHold(list []linkplan.Sysctl) bool {
	for _, s := range list {
		have, err := netns.ReadSysctl(s.Key)
		if err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && have != s.Value {
			return false
		}
	}
	return true
}

// Ours lists the host ends nodelet has made, with the pod addresses their
// routes lead to: what a daemon without any memory can know.
func Ours(host *nl.Conn) (map[string][]netip.Addr, error) {
	links, err := host.Links()
	if err != nil {
		return nil, err
	}
	routes, err := host.Routes(nl.Proto)
	if err != nil {
		return nil, err
	}
	found := map[string][]netip.Addr{}
	for _, l := range links {
		if !ours(l) {
			continue
		}
		found[l.Name] = nil
		for _, r := range routes {
			if r.Link == l.Index && r.Dst.IsSingleIP() {
				found[l.Name] = append(found[l.Name], r.Dst.Addr())
			}
		}
	}
	return found, nil
}
