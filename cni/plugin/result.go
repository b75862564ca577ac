package plugin

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"nodelet/cni/ipam"
	"nodelet/cni/linkplan"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// podInterface is the index of the pod's end in the result's interfaces.
const podInterface = 1

// result is what ADD answers: both ends, the addresses, the default routes.
func result(cfg Config, args *skel.CmdArgs, lease ipam.Lease, plan linkplan.Plan) types.Result {
	r := &current.Result{
		CNIVersion: cfg.CNIVersion,
		Interfaces: []*current.Interface{
			{Name: plan.Host.Name, Mac: plan.Host.MAC.String(), Mtu: plan.MTU},
			{Name: plan.Pod.Name, Mac: plan.Pod.MAC.String(), Mtu: plan.MTU, Sandbox: args.Netns},
		},
	}
	for _, a := range lease.Addrs {
		gw := net.IP(linkplan.Gateway(a).AsSlice())
		r.IPs = append(r.IPs, &current.IPConfig{
			Interface: current.Int(podInterface), Gateway: gw,
			Address: net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
		})
	}
	for _, route := range plan.Pod.Routes {
		bits := route.Dst.Addr().BitLen()
		r.Routes = append(r.Routes, &types.Route{
			Dst: net.IPNet{IP: route.Dst.Addr().AsSlice(), Mask: net.CIDRMask(route.Dst.Bits(), bits)}, GW: route.Via.AsSlice(),
		})
	}
	return r
}

// previousAddrs reads the addresses of prevResult, whatever version it is of.
func (c Config) previousAddrs() ([]netip.Addr, error) {
	if len(c.PrevResult) == 0 {
		return nil, nil
	}
	var prev struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(c.PrevResult, &prev); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("read prevResult: %v", err), "")
	}
	var out []netip.Addr
	for _, ip := range prev.IPs {
		out = append(out, ip.Address.Addr())
	}
	return out, nil
}

// addLoopback does what the plugin of that name does.
func addLoopback(cfg Config, args *skel.CmdArgs, ns *netns.NS) error {
	conn, err := nl.OpenAt(ns.Fd())
	if err != nil {
		return err
	}
	defer conn.Close()
	lo, err := conn.Link("lo")
	if err != nil {
		return err
	}
	if err := conn.SetUp(lo.Index); err != nil {
		return err
	}
	r := &current.Result{CNIVersion: cfg.CNIVersion, Interfaces: []*current.Interface{
		{Name: "lo", Mac: "00:00:00:00:00:00", Sandbox: args.Netns}}}
	for _, p := range []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")} {
		bits := p.Addr().BitLen()
		r.IPs = append(r.IPs, &current.IPConfig{Interface: current.Int(0),
			Address: net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}})
	}
	return types.PrintResult(r, cfg.CNIVersion)
}
