package node

import (
	"fmt"
	"net/netip"

	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/internal/nl"
)

// DetectNodeIP fills in the address of the node when none was given: that of
// the interface with the default route.
func (c *Config) DetectNodeIP() error {
	if len(c.NodeIPs) > 0 {
		c.Kubelet.NodeIPGiven = true
		return nil
	}
	conn, err := nl.Open()
	if err != nil {
		return fmt.Errorf("look at network interfaces: %w (pass --node-ip)", err)
	}
	defer conn.Close()
	links, err := conn.Links()
	if err != nil {
		return fmt.Errorf("list network interfaces: %w (pass --node-ip)", err)
	}
	var choices []nodeplan.Link
	for _, l := range links {
		addrs, err := conn.Addrs(l.Index)
		if err != nil {
			return fmt.Errorf("list addresses of %s: %w (pass --node-ip)", l.Name, err)
		}
		choice := nodeplan.Link{Index: l.Index, Name: l.Name, Up: l.Up, Loopback: l.Loopback}
		for _, a := range addrs {
			choice.Addrs = append(choice.Addrs, a.Prefix.Addr())
		}
		choices = append(choices, choice)
	}
	defaults, err := defaultRoutes(conn)
	if err != nil {
		return err
	}
	ip, err := nodeplan.DefaultIP(choices, defaults)
	if err != nil {
		return err
	}
	c.NodeIPs = []netip.Addr{ip}
	return nil
}

// defaultRoutes lists the routes to everywhere, whoever made them.
func defaultRoutes(conn *nl.Conn) ([]nodeplan.DefaultRoute, error) {
	routes, err := conn.Routes(0)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w (pass --node-ip)", err)
	}
	var out []nodeplan.DefaultRoute
	for _, r := range routes {
		if r.Dst.Bits() == 0 {
			out = append(out, nodeplan.DefaultRoute{Link: r.Link, Metric: r.Metric})
		}
	}
	return out, nil
}
