package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/evict"
	"nodelet/agent/evict/evictplan"
	"nodelet/agent/image"
	"nodelet/agent/image/credplugin"
	"nodelet/agent/image/gcplan"
	"nodelet/agent/logs"
	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/agent/stats"
	"nodelet/internal/metrics"
)

// Resources says how the agent keeps what pods use within bounds. Zero values mean upstream's; the
// names are those of KubeletConfiguration.
type Resources struct {
	// ContainerLogMaxSize in bytes; negative: logs are not rotated.
	ContainerLogMaxSize         int64
	ContainerLogMaxFiles        int
	ContainerLogMaxWorkers      int
	ContainerLogMonitorInterval time.Duration

	// Eviction has evictionHard, evictionSoft, evictionSoftGracePeriod and evictionMinimumReclaim.
	// Hard is nil for upstream's defaults.
	Eviction                         evictplan.Statements
	EvictionPressureTransitionPeriod time.Duration
	EvictionMaxPodGracePeriod        time.Duration

	// ImageGC has imageGCHighThresholdPercent, imageGCLowThresholdPercent, imageMinimumGCAge and
	// imageMaximumGCAge.
	ImageGC gcplan.Policy

	// MaxParallelImagePulls bounds the pulls at one time, 1 as serializeImagePulls has it; 0 means 3 (ADR 0014).
	MaxParallelImagePulls int
	// RegistryPullQPS and RegistryBurst bound how often registries are asked for an image; a pull beyond
	// waits. 0 means upstream's, 5 and 10; a rate of NoPullBound no bound.
	RegistryPullQPS int32
	RegistryBurst   int
	// CredentialProviderConfig and CredentialProviderBinDir are those of the flags
	// --image-credential-provider-config and --image-credential-provider-bin-dir; both or none.
	CredentialProviderConfig, CredentialProviderBinDir string
}

// NoPullBound is the RegistryPullQPS of a node that asks registries as often as it likes.
const NoPullBound = -1

// defaultPullQPS is upstream's registryPullQPS; its registryBurst is that of agent/image.
const defaultPullQPS = 5

// Validate names the first thing that is wrong.
func (r *Resources) Validate() error {
	switch {
	case r.ContainerLogMaxFiles != 0 && r.ContainerLogMaxFiles < 2:
		return fmt.Errorf("container log max files is %d: it must be at least 2", r.ContainerLogMaxFiles)
	case r.MaxParallelImagePulls < 0:
		return fmt.Errorf("max parallel image pulls is %d: it must be at least 1", r.MaxParallelImagePulls)
	case r.RegistryPullQPS < NoPullBound || r.RegistryBurst < 0:
		return fmt.Errorf("registryPullQPS is %d and registryBurst %d: neither may be negative", r.RegistryPullQPS, r.RegistryBurst)
	case (r.CredentialProviderConfig == "") != (r.CredentialProviderBinDir == ""):
		return errors.New("credential provider plugins need both --image-credential-provider-config and --image-credential-provider-bin-dir")
	case r.CredentialProviderConfig != "" && (!filepath.IsAbs(r.CredentialProviderConfig) || !filepath.IsAbs(r.CredentialProviderBinDir)):
		return errors.New("--image-credential-provider-config and --image-credential-provider-bin-dir must be absolute paths")
	}
	if _, err := evictplan.Complete(r.Eviction); err != nil {
		return err
	}
	return r.ImageGC.Completed().Check()
}

// resourceParts are the parts of the agent that Resources rules.
type resourceParts struct {
	stats     *stats.Stats
	logs      *logs.Rotator
	evictor   *evict.Evictor
	collector *image.Collector
	// thresholds are those of evictions.
	thresholds []evictplan.Threshold
	preload    *preloader
}

func (p *agentParts) buildLogs() (err error) {
	c := &p.n.cfg
	p.logs, err = logs.New(logs.Config{
		PodLogsRoot: c.Layout.PodLogs(), MaxSize: c.Resources.ContainerLogMaxSize, MaxFiles: c.Resources.ContainerLogMaxFiles,
		Workers: c.Resources.ContainerLogMaxWorkers, Monitor: c.Resources.ContainerLogMonitorInterval,
	}, logs.Deps{Store: p.n.store, Runtime: p.runtime, Log: p.n.deps.Log, Health: p.n.watchHealth("rotate logs")})
	return err
}

func (p *agentParts) buildStats() error {
	c := &p.n.cfg
	p.stats = stats.New(stats.Config{
		KubeletRoot: c.Layout.KubeletRoot(), PodLogsRoot: c.Layout.PodLogs(), PodsCgroup: p.cgroups.Root(),
		EmbeddedRuntime: c.RuntimeEndpoint == "",
	}, stats.Deps{Store: p.n.store, Cgroups: p.cgroups, Runtime: p.runtime, Drivers: driverSpace{p}, Log: p.n.deps.Log, Health: p.n.watchHealth("stats")})
	p.n.metrics.VolumeStats(func() []metrics.VolumeStats {
		var all []metrics.VolumeStats
		for _, c := range p.stats.Claims() {
			all = append(all, metrics.VolumeStats{
				Namespace: c.Namespace, Claim: c.Claim, Capacity: c.Space.Capacity, Available: c.Space.Available, Used: c.Space.Used,
				Inodes: c.Space.InodesAll, InodesFree: c.Space.InodesFree, InodesUsed: c.Space.InodesUsed,
			})
		}
		return all
	})
	return nil
}

// buildThresholds reads the eviction thresholds: the node's status needs them as well.
func (p *agentParts) buildThresholds() (err error) {
	p.thresholds, err = evictplan.Complete(p.n.cfg.Resources.Eviction)
	return err
}

// reserve is what the node does not offer to pods: below the hard thresholds pods are evicted.
func (p *agentParts) reserve() nodeplan.Reserve {
	c := &p.n.cfg
	r := nodeplan.Reserve{MaxPods: c.MaxPods, PodsPerCore: c.Kubelet.PodsPerCore, Kube: c.Kubelet.KubeReserved, System: c.Kubelet.SystemReserved}
	r.Kube, r.System = c.reservedCPU(r.Kube, r.System)
	node := p.stats.Node(context.Background(), stats.Cheap)
	for _, t := range p.thresholds {
		switch {
		case t.Soft:
		case t.Signal == evictplan.MemoryAvailable:
			r.EvictMemory = uint64(t.Value.Of(node.Memory))
		case t.Signal == evictplan.NodeFsAvailable && node.Fs != nil:
			r.EvictStorage = uint64(t.Value.Of(node.Fs.Capacity))
		}
	}
	return r
}

func (p *agentParts) buildImages() (err error) {
	r := &p.n.cfg.Resources
	deps := image.Deps{
		Store: p.n.store, Images: p.n.writers.Images, Runtime: p.runtime, Events: p.events,
		Log: p.n.deps.Log, Health: p.n.watchHealth("images"),
	}
	if r.CredentialProviderConfig != "" {
		plugins, err := credplugin.Load(r.CredentialProviderConfig, r.CredentialProviderBinDir, p.n.deps.Log)
		if err != nil {
			return err
		}
		deps.Logins = plugins.Logins
	}
	p.images, err = image.New(image.Config{
		Parallel: r.MaxParallelImagePulls, PullsPerSecond: float64(cmp.Or(r.RegistryPullQPS, defaultPullQPS)), Burst: r.RegistryBurst, LoginFile: filepath.Join(p.n.cfg.Layout.KubeletRoot(), "config.json"),
	}, deps)
	return err
}

func (p *agentParts) buildCollector() (err error) {
	p.preload = newPreloader(p.n)
	removed := p.n.metrics.ImagesCollected()
	p.collector, err = image.NewCollector(image.CollectConfig{NodeName: p.n.cfg.NodeName, Policy: p.n.cfg.Resources.ImageGC}, image.CollectDeps{
		Deps: image.Deps{
			Store: p.n.store, Images: p.n.writers.Images, Events: p.events, Log: p.n.deps.Log, Health: p.n.watchHealth("collect images"),
		},
		Runtime: p.runtime,
		Space: func(ctx context.Context) (capacity, available uint64, ok bool) {
			fs := p.stats.Node(ctx, stats.Full).ImageFs
			if fs == nil {
				return 0, 0, false
			}
			return fs.Capacity, fs.Available, true
		},
		Keep: p.preload.keep, Removed: removed,
	})
	return err
}

func (p *agentParts) buildEvictor() error {
	r := &p.n.cfg.Resources
	evictions := p.n.metrics.Evictions()
	p.evictor = evict.New(evict.Config{
		NodeName: p.n.cfg.NodeName, Thresholds: p.thresholds, Transition: r.EvictionPressureTransitionPeriod, MaxGrace: r.EvictionMaxPodGracePeriod,
	}, evict.Deps{
		Store: p.n.store, Evictions: p.n.writers.Evictions, Stats: p.stats, Reclaim: p.collector.Reclaim, Events: p.events,
		Keep: p.kept.evictions, Before: p.kept.evictionsBefore,
		Changed: p.status.Recheck, Evicted: evictions,
		Log: p.n.deps.Log, Health: p.n.watchHealth("eviction"),
	})
	return nil
}

// pressure is what the node's status shows of evictions.
func (p *agentParts) pressure() nodeplan.Pressure {
	return nodeplan.Pressure{
		Memory: p.evictor.Has(corev1.NodeMemoryPressure), Disk: p.evictor.Has(corev1.NodeDiskPressure), PID: p.evictor.Has(corev1.NodePIDPressure),
	}
}
