package node

import (
	"nodelet/agent/static"
)

// buildStatic makes the node's own pods. It comes before the agent, which must
// know them when it looks at the runtime for the first time.
func (p *agentParts) buildStatic() (err error) {
	k := &p.n.cfg.Kubelet
	p.static, err = static.New(static.Config{
		NodeName: p.n.cfg.NodeName, Path: k.StaticPodPath, URL: k.StaticPodURL, Header: k.StaticPodURLHeader,
		FileCheck: k.FileCheckFrequency, HTTPCheck: k.HTTPCheckFrequency, Record: p.n.cfg.Layout.StaticPods(),
	}, static.Deps{
		Store: p.n.store, Pods: p.n.writers.Pods, API: p.n.client, Log: p.n.deps.Log,
		Troubled: p.n.metrics.Gauge("nodelet_static_pod_problems", "Manifests of static pods that have no effect; the log says why."),
		Health:   p.n.watchHealth("static pods"), MirrorHealth: p.n.watchHealth("mirror pods"),
	})
	return err
}
