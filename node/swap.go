package node

import (
	"context"
	"errors"

	"nodelet/agent/podplan"
	"nodelet/agent/stats"
)

// buildSwap finds out what of the machine's swap pods may use.
func (p *agentParts) buildSwap() error {
	c := &p.n.cfg.Kubelet
	bytes := p.stats.Node(context.Background(), stats.Cheap).Swap
	if c.FailSwapOn && bytes > 0 {
		return errors.New("swap is on and failSwapOn is true: turn swap off (swapoff -a) or set failSwapOn: false")
	}
	p.swap = podplan.Swap{Accounted: p.cgroups.AccountsSwap(), V2: p.cgroups.V2(), Limited: c.LimitedSwap, Bytes: int64(bytes)}
	if c.LimitedSwap && !p.swap.Given() {
		p.n.deps.Log.Warn("swapBehavior LimitedSwap needs cgroup v2 and a kernel that accounts swap: pods get no swap",
			"cgroup v2", p.swap.V2, "accounted", p.swap.Accounted)
	}
	return nil
}
