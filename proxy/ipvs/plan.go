package ipvs

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/internal/ipvs"
	"nodelet/internal/model"
	"nodelet/proxy/lb"
	"nodelet/proxy/nftables"
)

// table is what IPVS holds at our addresses, or shall hold.
type table struct {
	addrs    map[netip.Addr]bool
	services map[ipvs.VirtualServer]service
	// serving are the endpoints to which UDP flows are right, chosen or not;
	// only known of what shall be. Also for frontends that IPVS does not serve
	// any more: their flows go on as they began.
	serving map[ipvs.VirtualServer][]netip.AddrPort
}

type service struct {
	scheduler string
	real      map[netip.AddrPort]ipvs.RealServer
}

func newTable() *table {
	return &table{map[netip.Addr]bool{}, map[ipvs.VirtualServer]service{}, map[ipvs.VirtualServer][]netip.AddrPort{}}
}

// compile gives the table for a State.
func compile(s *lb.State, scheduler string, ipv6 bool) *table {
	t := newTable()
	for f, target := range s.All() {
		if f.IPv6() && !ipv6 {
			continue
		}
		server := ipvs.VirtualServer{Addr: f.Addr, Proto: uint8(f.Proto), Port: f.Port}
		if f.Proto == model.UDP {
			t.serving[server] = target.Serving
		}
		if !nftables.HandedOver(s, target) {
			if awaits(s, target) {
				t.addrs[f.Addr] = true
			}
			continue
		}
		one := service{scheduler, map[netip.AddrPort]ipvs.RealServer{}}
		for _, e := range target.Route(s.Config(), lb.FromOutside).Endpoints {
			one.real[e.AddrPort] = ipvs.RealServer{AddrPort: e.AddrPort, Weight: 1}
		}
		t.services[server] = one
		t.addrs[f.Addr] = true
	}
	return t
}

// awaits tells of a frontend that would be handed over if it had endpoints. Its
// address stays: the node's own sockets that are connected to it have it as
// their source, and could send nothing from an address that is gone.
func awaits(s *lb.State, t lb.Target) bool {
	if t.Kind == lb.NodePort || t.Kind.WholeAddress() || t.Affinity > 0 || t.Kind != lb.ClusterIP && t.ExternalLocal {
		return false
	}
	return len(t.Route(s.Config(), lb.FromOutside).Endpoints) == 0
}

// verb is a kind of step.
type verb uint8

const (
	addAddr verb = iota
	addServer
	setScheduler
	addReal
	setWeight
	deleteReal
	deleteServer
	deleteAddr
)

// step is one change of the kernel.
type step struct {
	do        verb
	addr      netip.Addr
	server    ipvs.VirtualServer
	scheduler string
	real      ipvs.RealServer
}

// String is one line.
func (s step) String() string {
	name := [...]string{"add address", "add server", "set scheduler of", "add to", "set weight in", "delete from", "delete server", "delete address"}[s.do]
	switch s.do {
	case addAddr, deleteAddr:
		return fmt.Sprintf("%s %s", name, s.addr)
	case addServer, setScheduler:
		return fmt.Sprintf("%s %s: %s", name, s.server, s.scheduler)
	case deleteServer:
		return fmt.Sprintf("%s %s", name, s.server)
	}
	return fmt.Sprintf("%s %s: %s weight %d", name, s.server, s.real.AddrPort, s.real.Weight)
}

// drains tells whether a real server that is not wanted may still end its
// connections: UDP flows, which may never end, only as long as it serves.
func (t *table) drains(v ipvs.VirtualServer, r ipvs.RealServer) bool {
	return r.Connections > 0 && (v.Proto != unix.IPPROTO_UDP || slices.Contains(t.serving[v], r.AddrPort))
}

// diff gives the steps from have to want, and tells whether some real servers
// stay only until their connections have ended.
func diff(have, want *table) (steps []step, draining bool) {
	kept := map[netip.Addr]bool{}
	for v, h := range have.services {
		w, wanted := want.services[v]
		stays := wanted
		for _, r := range h.real {
			switch goal, ok := w.real[r.AddrPort]; {
			case ok && goal.Weight != r.Weight:
				steps = append(steps, step{do: setWeight, server: v, real: goal})
			case ok:
			case want.drains(v, r):
				stays, draining = true, true
				if r.Weight != 0 {
					steps = append(steps, step{do: setWeight, server: v, real: ipvs.RealServer{AddrPort: r.AddrPort}})
				}
			case wanted || want.draining(v, h):
				steps = append(steps, step{do: deleteReal, server: v, real: r})
			}
		}
		if !stays {
			steps = append(steps, step{do: deleteServer, server: v})
			continue
		}
		kept[v.Addr] = true
		if wanted && w.scheduler != h.scheduler {
			steps = append(steps, step{do: setScheduler, server: v, scheduler: w.scheduler})
		}
	}
	for v, w := range want.services {
		h, there := have.services[v]
		if !there {
			steps = append(steps, step{do: addServer, server: v, scheduler: w.scheduler})
		}
		for a, r := range w.real {
			if _, ok := h.real[a]; !ok {
				steps = append(steps, step{do: addReal, server: v, real: r})
			}
		}
	}
	for a := range want.addrs {
		if !have.addrs[a] {
			steps = append(steps, step{do: addAddr, addr: a})
		}
	}
	for a := range have.addrs {
		if !want.addrs[a] && !kept[a] {
			steps = append(steps, step{do: deleteAddr, addr: a})
		}
	}
	slices.SortFunc(steps, step.compare)
	return steps, draining
}

// draining tells whether a real server of a virtual one that is not wanted has connections.
func (t *table) draining(v ipvs.VirtualServer, s service) bool {
	for _, r := range s.real {
		if t.drains(v, r) {
			return true
		}
	}
	return false
}

// compare puts steps into an order in which each can be done.
func (s step) compare(o step) int {
	return cmp.Or(
		cmp.Compare(s.do, o.do), s.addr.Compare(o.addr), s.server.Addr.Compare(o.server.Addr), cmp.Compare(s.server.Port, o.server.Port),
		cmp.Compare(s.server.Proto, o.server.Proto), s.real.Compare(o.real.AddrPort),
	)
}

// line is a virtual server with its real ones and their weights.
func line(v ipvs.VirtualServer, s service) string {
	text := v.String() + " " + s.scheduler
	for _, a := range slices.SortedFunc(maps.Keys(s.real), netip.AddrPort.Compare) {
		text += fmt.Sprintf(" %s=%d", a, s.real[a].Weight)
	}
	return text
}

// String lists the table.
func (t *table) String() string {
	var lines []string
	for v, s := range t.services {
		lines = append(lines, line(v, s))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
