package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"nodelet/cni/attach"
	"nodelet/cni/ipam"
	"nodelet/cni/link"
	"nodelet/cni/linkplan"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// notAvailable is the error code of STATUS that says: ADD would fail (spec 1.1).
const notAvailable = 50

// Run serves one call of the plugin: the verb in CNI_COMMAND, the network
// configuration on standard input, the result on standard output. The error is
// printed there already, as the specification wants it.
func Run(ctx context.Context, programVersion string) error {
	verb := func(f func(context.Context, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return f(ctx, args) }
	}
	verbs := skel.CNIFuncs{Add: verb(add), Del: verb(del), Check: verb(check), GC: verb(gc), Status: verb(status)}
	e := skel.PluginMainFuncsWithError(verbs, version.All, "nodelet-cni "+programVersion+", the pod network of nodelet")
	if e == nil {
		return nil
	}
	return errors.Join(e, e.Print())
}

func add(ctx context.Context, args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	ns, err := openNetns(args.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	if cfg.Type == loopbackType {
		return addLoopback(cfg, args, ns)
	}
	if len(cfg.PrevResult) > 0 {
		return types.NewError(types.ErrInvalidNetworkConfig, "nodelet-cni must be the first plugin of network "+cfg.Name, "")
	}
	if err := cfg.usable(); err != nil {
		return err
	}
	want := ipam.Lease{ContainerID: args.ContainerID, IfName: args.IfName, Netns: args.Netns}
	want.Pod, want.PodUID = podArgs(args.Args)
	want.Bandwidth = cfg.bandwidth()
	if want.Ports, err = cfg.ports(); err != nil {
		return err
	}
	lease, plan, err := cfg.Node().Add(ctx, ns, want)
	if errors.Is(err, ipam.ErrExhausted) || errors.Is(err, ipam.ErrPortTaken) {
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	}
	if err != nil {
		return err
	}
	return types.PrintResult(result(cfg, args, lease, plan), cfg.CNIVersion)
}

// del needs neither the namespace nor a usable configuration, only the place
// of the state.
func del(ctx context.Context, args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil || cfg.Type == loopbackType {
		return err
	}
	veth := linkplan.VethName(linkplan.Request{ContainerID: args.ContainerID, IfName: args.IfName})
	state, err := cfg.Node().Dir().View()
	if err != nil {
		return err
	}
	lease, ok := state.Lease(veth)
	if !ok {
		lease.Veth = veth
	}
	return cfg.Node().Release(ctx, []ipam.Lease{lease})
}

// check compares what the kernel has with what ADD has answered.
func check(_ context.Context, args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil || cfg.Type == loopbackType {
		return err
	}
	ns, err := openNetns(args.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	state, err := cfg.Node().Dir().View()
	if err != nil {
		return err
	}
	veth := linkplan.VethName(linkplan.Request{ContainerID: args.ContainerID, IfName: args.IfName})
	lease, ok := state.Lease(veth)
	if !ok {
		return fmt.Errorf("check attachment %s/%s: nodelet has no record of it", args.ContainerID, args.IfName)
	}
	// A lease rebuilt from the kernel does not know whose it is; the caller does.
	lease.ContainerID, lease.IfName = args.ContainerID, args.IfName
	if err := cfg.matchesPrevious(lease.Addrs); err != nil {
		return err
	}
	plan, err := cfg.Node().Plan(lease)
	if err != nil {
		return err
	}
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	return link.Check(conn, ns, plan)
}

// gc releases every attachment that the runtime does not list.
func gc(ctx context.Context, args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil || cfg.Type == loopbackType {
		return err
	}
	valid := map[string]bool{}
	for _, v := range cfg.Valid {
		valid[linkplan.VethName(linkplan.Request{ContainerID: v.ContainerID, IfName: v.IfName})] = true
	}
	state, err := cfg.Node().Dir().View()
	if err != nil {
		return err
	}
	_, dead := ipam.Keep(state, func(l ipam.Lease) bool { return valid[l.Veth] })
	if len(dead) == 0 {
		return nil
	}
	return cfg.Node().Release(ctx, dead)
}

// status says whether an ADD would have what it needs.
func status(_ context.Context, args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil || cfg.Type == loopbackType {
		return err
	}
	if err := cfg.usable(); err != nil {
		return types.NewError(notAvailable, err.Error(), "")
	}
	err = cfg.Node().Dir().Update(func(s ipam.State) (ipam.State, error) {
		_, _, err := ipam.Allocate(s, cfg.Subnets, ipam.Lease{Veth: "status"})
		return s, err
	})
	if err != nil {
		return types.NewError(notAvailable, err.Error(), "")
	}
	return nil
}

func openNetns(path string) (*netns.NS, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	}
	return ns, nil
}

// Node is the same as the attachments see it.
func (c Config) Node() attach.Node {
	return attach.Node{StateDir: c.StateDir, Subnets: c.Subnets, NodeIPs: c.NodeIPs, MTU: c.MTU, Inside: c.Inside}
}

// matchesPrevious compares addresses with those of the result ADD gave.
func (c Config) matchesPrevious(addrs []netip.Addr) error {
	previous, err := c.previousAddrs()
	if err != nil {
		return err
	}
	for _, p := range previous {
		if !slices.Contains(addrs, p) {
			return fmt.Errorf("check attachment: ADD gave address %s, the record says %v", p, addrs)
		}
	}
	return nil
}
