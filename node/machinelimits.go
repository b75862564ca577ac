package node

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"nodelet/internal/kube"
	"nodelet/internal/proc"
)

// Bounds of the kernel's own.
const (
	maxOOMScore    = 1000
	minQuotaPeriod = time.Millisecond
	maxQuotaPeriod = time.Second
)

// checkRates names what is wrong with rates, periods and scores.
func (k *KubeletOptions) checkRates() error {
	var errs []error
	if k.KubeAPIQPS < 0 || k.KubeAPIBurst < 0 {
		errs = append(errs, fmt.Errorf("kubeAPIQPS is %d and kubeAPIBurst %d: neither may be negative", k.KubeAPIQPS, k.KubeAPIBurst))
	}
	if s := k.OOMScoreAdj; s != nil && (*s < -maxOOMScore || *s > maxOOMScore) {
		errs = append(errs, fmt.Errorf("oomScoreAdj is %d: must be between -%d and %d", *s, maxOOMScore, maxOOMScore))
	}
	if k.SyncFrequency < 0 {
		errs = append(errs, fmt.Errorf("syncFrequency is %s: must not be negative", k.SyncFrequency))
	}
	if n := k.NodeStatusMaxImages; n != nil && *n < -1 {
		errs = append(errs, fmt.Errorf("nodeStatusMaxImages is %d: must be -1 (all) or more", *n))
	}
	if p := k.CPUQuotaPeriod; p != 0 && (p < minQuotaPeriod || p > maxQuotaPeriod) {
		errs = append(errs, fmt.Errorf("cpuCFSQuotaPeriod is %s: must be between %s and %s", p, minQuotaPeriod, maxQuotaPeriod))
	}
	return errors.Join(errs...)
}

// apiRate is what KubeletOptions say of requests to the API server; no bound where they say nothing.
func (k *KubeletOptions) apiRate() kube.Rate {
	return kube.Rate{PerSecond: k.KubeAPIQPS, Burst: cmp.Or(k.KubeAPIBurst, 100)}
}

// setOOMScore makes the kernel spare this daemon more or less when memory runs out. Where it must not, the
// node works all the same.
func (n *Node) setOOMScore() {
	score := n.cfg.Kubelet.OOMScoreAdj
	if score == nil {
		return
	}
	if err := proc.SetOOMScore("/proc", *score); err != nil {
		n.deps.Log.Warn("oomScoreAdj is not set, the daemon's stays as it was at the start: lowering it needs CAP_SYS_RESOURCE (or OOMScoreAdjust= in the unit)", "wanted", *score, "err", err)
	}
}

// statusImages is how many images the node's status names, as package nodestatus has it.
func (k *KubeletOptions) statusImages() (most int, none bool) {
	if k.NodeStatusMaxImages == nil {
		return 0, false
	}
	return *k.NodeStatusMaxImages, *k.NodeStatusMaxImages == 0
}
