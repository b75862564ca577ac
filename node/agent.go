package node

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent"
	"nodelet/agent/admission"
	"nodelet/agent/dra"
	"nodelet/agent/exclusive"
	"nodelet/agent/handler"
	"nodelet/agent/image"
	"nodelet/agent/nodestatus"
	"nodelet/agent/pluginreg"
	"nodelet/agent/podplan"
	"nodelet/agent/podresources"
	"nodelet/agent/probe"
	"nodelet/agent/server"
	"nodelet/agent/shutdown"
	"nodelet/agent/static"
	"nodelet/agent/volume"
	"nodelet/agent/volume/csi"
	"nodelet/internal/cgroup"
	"nodelet/internal/kube"
	"nodelet/internal/metrics"
	"nodelet/internal/parts"
	"nodelet/internal/reconcile"
)

// agentParts are the parts of the agent, built once the container runtime is up.
type agentParts struct {
	n       *Node
	runtime *containerRuntime
	cgroups *cgroup.Tree
	// systemdCgroups: systemd makes the cgroups.
	systemdCgroups bool
	events         *kube.Events
	podMetrics     *metrics.Pods

	// allocatable, enforceable and memory of the node are those at the start.
	allocatable corev1.ResourceList
	enforceable corev1.ResourceList
	memory      int64
	swap        podplan.Swap
	podsHealth  *reconcile.Health

	status   *nodestatus.NodeStatus
	volumes  *volume.Volumes
	drivers  *csi.Volumes
	plugins  *pluginreg.Registry
	images   *image.Images
	handlers *handler.Handlers
	probes   *probe.Probes
	static   *static.Static
	users    admission.UserIDs
	appArmor bool
	counted  *probeMetrics
	agent    *agent.Agent
	server   *server.Server

	resourceParts
	kept     keptParts
	shutdown *shutdown.Shutdown

	exclusive    *exclusive.Manager
	dra          *dra.Manager
	podResources *podresources.Server
}

// agentStopLimit is longer than that of all parts, which is to name what hangs.
const agentStopLimit = stopLimit + 5*time.Second

// runAgent starts the container runtime and then everything that works with pods.
func (n *Node) runAgent(ctx context.Context, all *parts.Group) error {
	rt, err := startRuntime(ctx, &n.cfg, n.deps.Log, n.metrics.Runtime())
	if err != nil {
		return err
	}
	n.runtime.Store(rt)
	n.deps.Step("container runtime %s", rt.Endpoint())
	p := &agentParts{n: n, runtime: rt, events: n.client.NewEvents(ctx, "kubelet", n.cfg.NodeName, n.cfg.Kubelet.eventRate()), podMetrics: n.metrics.Pods()}
	defer p.events.Close()
	if err := p.build(); err != nil {
		return err
	}
	g := all.Within(ctx, "agent")
	for name, run := range map[string]func(context.Context) error{
		"container runtime": rt.run, "node status": p.status.Run, "volumes": p.volumes.Run, "plugins": p.runPlugins, "images": p.images.Run,
		"probes": p.probes.Run, "static pods": p.static.Run, "pods": p.agent.Run, "kubelet API": p.server.Run,
		"node allocatable": p.enforceAllocatable, "container logs": p.logs.Run, "stats": p.stats.Run,
		"eviction": p.evictor.Run, "shutdown": p.shutdown.Run, "exclusive resources": p.exclusive.Run, "PodResources": p.podResources.Run, "dynamic resources": p.dra.Run, "collect images": p.collector.Run, "preload images": p.preload.run,
	} {
		g.Go(name, run)
	}
	return g.Wait(agentStopLimit)
}
