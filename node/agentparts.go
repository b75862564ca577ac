package node

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"runtime"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent"
	"nodelet/agent/handler"
	"nodelet/agent/image"
	"nodelet/agent/nodestatus"
	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/agent/podplan"
	"nodelet/agent/probe"
	"nodelet/agent/server"
	"nodelet/agent/volume"
	"nodelet/internal/store"
	"nodelet/internal/version"
)

// build makes every part of the agent, in the order in which they need one another.
func (p *agentParts) build() error {
	for _, f := range []func() error{p.openKept, p.buildExclusive, p.buildDRA, p.buildCgroups, p.checkReserved, p.buildStats, p.buildThresholds, p.buildStatus, p.buildVolumes, p.buildImages, p.buildCollector, p.buildEvictor, p.buildShutdown, p.buildLogs, p.buildProbes, p.buildStatic, p.findUsers, p.buildSwap, p.buildAgent, p.buildServer} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (p *agentParts) buildStatus() (err error) {
	c := &p.n.cfg
	taints, err := parseTaints(c.Taints)
	if err != nil {
		return err
	}
	var require []nodestatus.Requirement
	for component, r := range map[Component]nodestatus.Requirement{
		Proxy: {Feature: store.Proxy, Missing: "the service proxy has not programmed the kernel yet"},
		DNS:   {Feature: store.DNS, Missing: "the cluster DNS does not serve yet"},
		CNI:   {Feature: store.CNI, Missing: "the pod network is not set up yet"},
	} {
		if c.Has(component) {
			require = append(require, r)
		}
	}
	most, none := c.Kubelet.statusImages()
	p.status, err = nodestatus.New(nodestatus.Config{
		Identity: nodeplan.Identity{
			Name: c.NodeName, Hostname: c.NodeName, IPs: c.NodeIPs, Labels: c.Labels, Taints: taints,
			KubeletPort: int32(c.KubeletPort), KubeletVersion: version.Kubernetes + "+nodelet",
			ProviderID: c.Kubelet.ProviderID, Cloud: c.Kubelet.CloudProvider == externalCloud, IPsGiven: c.Kubelet.NodeIPGiven,
		},
		Reserve:        p.reserve(),
		StatusInterval: c.Kubelet.NodeStatusUpdateFrequency, ReportInterval: c.Kubelet.NodeStatusReportFrequency,
		LeaseDuration: c.Kubelet.NodeLeaseDuration,
		KubeletRoot:   c.Layout.KubeletRoot(),
		Require:       require,
		NoRegister:    c.Kubelet.NoRegister, MaxImages: most, NoImages: none,
	}, nodestatus.Deps{
		Store: p.n.store, API: p.n.client, Runtime: p.runtime, Events: p.events, Log: p.n.deps.Log,
		Health: p.n.watchHealth("node status"), Pressure: p.pressure,
		Devices:      p.pluginResources,
		ShuttingDown: func() bool { return p.shutdown.Begun() },
	})
	if err != nil {
		return err
	}
	p.allocatable, p.enforceable, p.memory = p.status.Allocatable(), p.status.Enforceable(), p.status.Memory()
	return nil
}

func (p *agentParts) buildProbes() (err error) {
	p.handlers = handler.New(handler.Config{Version: "1.36"}, handler.Deps{Runtime: p.runtime})
	p.counted = newProbeMetrics()
	p.probes, err = probe.New(probe.Deps{
		Store: p.n.store, Probes: p.n.writers.Probes, Handlers: p.handlers, Events: p.events,
		NodeIP: func() netip.Addr { return p.n.cfg.NodeIPs[0] }, Metrics: p.counted,
		Keep: p.kept.probes, Before: p.kept.probesBefore,
		Log: p.n.deps.Log, Health: p.n.watchHealth("probes"),
	})
	return err
}

func (p *agentParts) buildAgent() (err error) {
	c := &p.n.cfg
	p.podsHealth, p.appArmor = p.n.watchHealth("pods"), appArmorEnabled()
	thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle") // the pattern is well-formed
	p.agent, err = agent.New(agent.Config{
		Settings: podplan.Settings{
			NodeName: c.NodeName, RootDir: c.Layout.KubeletRoot(), PodLogDir: c.Layout.PodLogs(),
			CgroupRoot: "/" + c.cgroups().Root, SystemdCgroups: p.systemdCgroups, ClusterDNS: c.ClusterDNS, ClusterDomain: c.ClusterDomain,
			SeccompRoot: filepath.Join(c.Layout.KubeletRoot(), "seccomp"), SeccompDefault: c.Kubelet.SeccompDefault, StaticCPUs: c.Kubelet.CPUPolicy.Static, MaxBackOff: c.Kubelet.MaxContainerRestartPeriod,
			SandboxSeccomp: p.runtime.sandboxSeccomp, NoCPUQuota: c.Kubelet.NoCPUQuota, CPUQuotaPeriod: c.Kubelet.CPUQuotaPeriod,
		},
		ContainerLogDir: c.Layout.ContainerLogs(), ResolvConf: c.ResolvConf, ResolvedConf: "/run/systemd/resolve/resolv.conf", Relist: c.Kubelet.SyncFrequency,
	}, agent.Deps{
		Store: p.n.store, Writer: p.n.writers.Runtime, Runtime: p.runtime, API: p.static, Events: p.events,
		Node: func() podplan.Node {
			return podplan.Node{IPs: c.NodeIPs, Allocatable: p.allocatable, MemoryBytes: p.memory, Swap: p.swap, OOMGroup: p.cgroups.V2() && !c.Kubelet.SingleProcessOOMKill, MaskedPaths: thermal, IDsPerPod: p.users.PerPod, SharedCPUs: p.exclusive.Shared()}
		},
		EnsureImage: p.ensureImage, RunHook: p.runHook, BindSubPath: p.bindSubPath, PreStart: p.exclusive.PreStart, ReleaseClaims: p.dra.Release,
		EnsureCgroup: func(pod *corev1.Pod) error { _, err := p.cgroups.Ensure(p.podCgroup(pod)); return err },
		GrowCgroup:   func(pod *corev1.Pod) error { return p.cgroups.Grow(p.podCgroup(pod)) },
		MemoryUsage:  p.memoryUsage, Admission: p.admission, Allocations: p.n.writers.Allocations, AdmitHealth: p.n.watchHealth("admission"),
		RemoveCgroup: p.cgroups.Remove, CgroupPods: p.cgroups.Pods,
		Keep: p.kept.stops, Before: p.kept.stopsBefore,
		Timeline: &p.n.timeline, Exits: p.exits(),
		Metrics: p.podMetrics, Relisted: p.n.metrics.Relist().Done, Log: p.n.deps.Log,
		PodsHealth: p.podsHealth, ObserveHealth: p.n.watchHealth("observe runtime"), ReportHealth: p.n.watchHealth("report status"),
	})
	return err
}

func (p *agentParts) ensureImage(ctx context.Context, r agent.ImageRequest) {
	p.images.Ensure(ctx, image.Request{Pod: r.Pod, Container: r.Container, Attempt: r.Attempt, Image: r.Image, Policy: r.Policy})
}

func (p *agentParts) bindSubPath(ctx context.Context, s agent.SubPath) (string, error) {
	return p.volumes.BindSubPath(ctx, volume.SubPath{PodUID: s.UID, Container: s.Container, Index: s.Index, Volume: s.Volume, Path: s.Path})
}

func (p *agentParts) runHook(ctx context.Context, h agent.Hook) error {
	target := handler.Target{ContainerID: h.ContainerID, Container: containerSpec(h.Pod, h.Container)}
	target.IP, _ = netip.ParseAddr(h.PodIP) // the zero address means: no address yet
	if r := p.handlers.Hook(ctx, target, h.Handler); r.Outcome != handler.Success {
		return errors.New(r.Message)
	}
	return nil
}

// containerSpec finds a container of any kind; an empty one when the pod is gone.
func containerSpec(pod *corev1.Pod, name string) *corev1.Container {
	if pod != nil {
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				if list[i].Name == name {
					return &list[i]
				}
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			if c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon); c.Name == name {
				return &c
			}
		}
	}
	return &corev1.Container{Name: name}
}

func (p *agentParts) buildServer() (err error) {
	c := &p.n.cfg
	cert, key := c.servingCertificate()
	if c.Kubelet.ContentionProfiling {
		runtime.SetBlockProfileRate(1)
		runtime.SetMutexProfileFraction(1)
	}
	logs := "/var/log"
	if c.Kubelet.NoSystemLogs {
		logs = ""
	}
	p.server, err = server.New(server.Config{
		SystemLogs: logs, LogQuery: c.Kubelet.SystemLogQuery, Status: p.n.statusz(), Flags: c.Flags,
		NodeName: c.NodeName, Address: c.Kubelet.apiAddress(c.KubeletPort), HealthAddress: c.HealthzAddr.String(),
		CertFile: cert, KeyFile: key, ClientCAFile: c.clientCA(),
		MinVersion: c.Kubelet.TLSMinVersion, CipherSuites: c.Kubelet.TLSCipherSuites,
		PodLogsRoot: c.Layout.PodLogs(), Configz: c, Profiling: !c.Kubelet.NoProfiling, IdleTimeout: c.Kubelet.StreamIdleTimeout,
		TokenTTL: c.Kubelet.TokenTTL, AllowedTTL: c.Kubelet.AllowedTTL, DeniedTTL: c.Kubelet.DeniedTTL,
	}, server.Deps{
		Store: p.n.store, Runtime: p.runtime, Reviews: p.n.client, Stats: p.stats, Log: p.n.deps.Log,
		SyncLoop: p.syncLoop, Verbosity: c.verbosity(),
		Metrics: server.Metrics{Process: p.n.metrics.Handler(), Probes: p.counted.handler(), Request: p.n.metrics.HTTP().Request},
	})
	return err
}

// syncLoop says what keeps pods from being looked after. One pod that fails is
// that pod's own affair, so only a loop that waits for its tables counts.
func (p *agentParts) syncLoop() error {
	if p.podsHealth.Status().Waiting {
		return errors.New("the pods of this node are not known yet")
	}
	return nil
}
