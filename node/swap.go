package node

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/podplan"
	"nodelet/agent/stats"
	"nodelet/agent/volume/mount"
)

// checkSwap refuses a machine with swap, of that many bytes, where the configuration says so.
func checkSwap(fail bool, bytes uint64) error {
	if fail && bytes > 0 {
		return errors.New("swap is on and failSwapOn is true: turn swap off (swapoff -a) or set failSwapOn: false")
	}
	return nil
}

// swapWarning is what users should know of a machine with so many bytes of swap; empty for nothing.
func swapWarning(bytes uint64, noSwap bool) string {
	if bytes == 0 || noSwap {
		return ""
	}
	return "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. secrets, emptyDirs, etc.) might be swapped to disk and should no longer be considered secure."
}

// buildSwap finds out what of the machine's swap pods may use.
func (p *agentParts) buildSwap() error {
	c := &p.n.cfg.Kubelet
	bytes := p.stats.Node(context.Background(), stats.Cheap).Swap
	if err := checkSwap(c.FailSwapOn, bytes); err != nil {
		return err
	}
	if message := swapWarning(bytes, mount.NoSwap()); message != "" {
		p.events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: p.n.cfg.NodeName, UID: types.UID(p.n.cfg.NodeName)},
			corev1.EventTypeWarning, "PossibleMemoryBackedVolumesOnDisk", message)
	}
	p.swap = podplan.Swap{Accounted: p.cgroups.AccountsSwap(), V2: p.cgroups.V2(), Limited: c.LimitedSwap, Bytes: int64(bytes)}
	if c.LimitedSwap && !p.swap.Given() {
		p.n.deps.Log.Warn("swapBehavior LimitedSwap needs cgroup v2 and a kernel that accounts swap: pods get no swap",
			"cgroup v2", p.swap.V2, "accounted", p.swap.Accounted)
	}
	return nil
}
