package cni

import (
	"errors"
	"log/slog"
	"net/netip"

	"nodelet/cni/linkplan"
	"nodelet/cni/routes"
	"nodelet/internal/model"
	"nodelet/internal/nl"
)

// observeHost reads what network needs to know of the host's own links; pods'
// links and loopback do not count.
func observeHost(conn *nl.Conn) (host, error) {
	h := host{mtu: map[netip.Addr]int{}}
	links, err := conn.Links()
	if err != nil {
		return h, err
	}
	mtu := map[int]int{}
	for _, l := range links {
		if l.Up && !l.Loopback && l.Group != linkplan.Group {
			mtu[l.Index] = l.MTU
		}
	}
	addrs, err := conn.Addrs(0)
	if err != nil {
		return h, err
	}
	for _, a := range addrs {
		if mtu[a.Link] == 0 || !a.Global {
			continue
		}
		h.mtu[a.Prefix.Addr()] = mtu[a.Link]
		if !a.Prefix.IsSingleIP() {
			h.connected = append(h.connected, a.Prefix.Masked())
		}
	}
	return h, nil
}

// applyRoutes brings the routes between nodes in line with the plan. Ours are
// those of our protocol number that lead to a next hop or nowhere; the ones
// onto a link are pods' and belong to the plugin.
func (c *CNI) applyRoutes(conn *nl.Conn, nodes []*model.Node, h host) error {
	plan := routes.Make(c.cfg.NodeName, nodes, h.connected)
	for _, p := range plan.Problems {
		c.say(slog.LevelWarn, "%s", p)
	}
	have, err := nodeRoutes(conn)
	if err != nil {
		return err
	}
	var errs []error
	wanted := map[routes.Route]bool{}
	for _, r := range plan.Routes {
		wanted[r] = true
		if _, ok := have[r]; ok {
			continue
		}
		if err := conn.ReplaceRoute(toKernel(r)); err != nil {
			errs = append(errs, err)
			continue
		}
		c.deps.Log.Info("pod network: set route", "route", r.String())
	}
	for r, kernel := range have {
		if wanted[r] {
			continue
		}
		if err := conn.DeleteRoute(kernel); err != nil {
			errs = append(errs, err)
			continue
		}
		c.deps.Log.Info("pod network: removed route", "route", r.String())
	}
	return errors.Join(errs...)
}

func nodeRoutes(conn *nl.Conn) (map[routes.Route]nl.Route, error) {
	all, err := conn.Routes(nl.Proto)
	if err != nil {
		return nil, err
	}
	have := map[routes.Route]nl.Route{}
	for _, r := range all {
		if r.Via.IsValid() || r.Kind != nl.Unicast {
			have[routes.Route{Dst: r.Dst, Via: r.Via}] = r
		}
	}
	return have, nil
}

func toKernel(r routes.Route) nl.Route {
	if !r.Via.IsValid() {
		return nl.Route{Kind: nl.Unreachable, Dst: r.Dst}
	}
	return nl.Route{Dst: r.Dst, Via: r.Via}
}
