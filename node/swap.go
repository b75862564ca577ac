package node

import (
	"context"
	"errors"

	"nodelet/agent/podplan"
	"nodelet/agent/stats"
)

// checkSwap refuses a machine with swap, of that many bytes, where the configuration says so.
func checkSwap(fail bool, bytes uint64) error {
	if fail && bytes > 0 {
		return errors.New("swap is on and failSwapOn is true: turn swap off (swapoff -a) or set failSwapOn: false")
	}
	return nil
}

// buildSwap finds out what of the machine's swap pods may use.
func (p *agentParts) buildSwap() error {
	c := &p.n.cfg.Kubelet
	bytes := p.stats.Node(context.Background(), stats.Cheap).Swap
	if err := checkSwap(c.FailSwapOn, bytes); err != nil {
		return err
	}
	p.swap = podplan.Swap{Accounted: p.cgroups.AccountsSwap(), V2: p.cgroups.V2(), Limited: c.LimitedSwap, Bytes: int64(bytes)}
	if c.LimitedSwap && !p.swap.Given() {
		p.n.deps.Log.Warn("swapBehavior LimitedSwap needs cgroup v2 and a kernel that accounts swap: pods get no swap",
			"cgroup v2", p.swap.V2, "accounted", p.swap.Accounted)
	}
	return nil
}
