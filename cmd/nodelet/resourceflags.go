package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/node"
)

// addResourceFlags adds those of logs, evictions and images, named as the kubelet's.
func addResourceFlags(fs *pflag.FlagSet, r *node.Resources) {
	fs.Var(&quantityValue{&r.ContainerLogMaxSize}, "container-log-max-size", "size from which on a container's log is rotated; -1: never (default 10Mi)")
	fs.IntVar(&r.ContainerLogMaxFiles, "container-log-max-files", 0, "most files of a container's log, at least 2 (default 5)")
	statements := func(to *map[string]string, separator, name, usage string) {
		fs.Var(&statementsValue{to, separator}, name, usage)
	}
	statements(&r.Eviction.Hard, "<", "eviction-hard", "thresholds below which a pod is evicted at once (default memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%, the shares of disks at most 2Gi)")
	statements(&r.Eviction.Soft, "<", "eviction-soft", "thresholds below which a pod is evicted after a grace period")
	statements(&r.Eviction.SoftGrace, "=", "eviction-soft-grace-period", "for how long a soft threshold must be crossed, e.g. memory.available=1m30s")
	statements(&r.Eviction.MinReclaim, "=", "eviction-minimum-reclaim", "how much more must be free again after an eviction, e.g. imagefs.available=2Gi")
	fs.DurationVar(&r.EvictionMaxPodGracePeriod, "eviction-max-pod-grace-period", 0, "bound of the grace period of pods evicted for a soft threshold")
	fs.DurationVar(&r.EvictionPressureTransitionPeriod, "eviction-pressure-transition-period", 0, "how long the node shows a pressure that has gone (default 5m)")
	gc := &r.ImageGC
	fs.IntVar(&gc.High, "image-gc-high-threshold", 0, "use of the images' file system in percent from which on unused images are removed (default 85, and less than 4Gi free)")
	fs.IntVar(&gc.Low, "image-gc-low-threshold", 0, "use down to which unused images are removed (default 80, or 6Gi free)")
	fs.DurationVar(&gc.MinAge, "minimum-image-ttl-duration", 0, "how long an unused image stays at least (default 2m)")
	fs.DurationVar(&gc.MaxAge, "image-maximum-gc-age", 0, "how long an unused image stays at most (default: for ever)")
	fs.IntVar(&r.MaxParallelImagePulls, "max-parallel-image-pulls", 0, "most image pulls at one time (default 3)")
	fs.StringVar(&r.CredentialProviderConfig, "image-credential-provider-config", "", "configuration of credential provider plugins")
	fs.StringVar(&r.CredentialProviderBinDir, "image-credential-provider-bin-dir", "", "directory of credential provider plugins")
}

// quantityValue is a flag with a size like 10Mi.
type quantityValue struct{ to *int64 }

// String implements pflag.Value.
func (v *quantityValue) String() string {
	if v.to == nil || *v.to == 0 {
		return ""
	}
	return resource.NewQuantity(*v.to, resource.BinarySI).String()
}

// Set implements pflag.Value.
func (v *quantityValue) Set(text string) error {
	q, err := resource.ParseQuantity(text)
	if err != nil || q.IsZero() {
		return fmt.Errorf("%q is not a size like 10Mi", text)
	}
	*v.to = q.Value()
	return nil
}

// Type implements pflag.Value.
func (v *quantityValue) Type() string { return "size" }

// statementsValue is a flag with a list like "memory.available<100Mi,nodefs.available<10%". Empty means none.
type statementsValue struct {
	to        *map[string]string
	separator string
}

// String implements pflag.Value.
func (v *statementsValue) String() string { return "" }

// Set implements pflag.Value.
func (v *statementsValue) Set(text string) error {
	all := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, v.separator)
		if !ok || name == "" || value == "" {
			return fmt.Errorf("%q is not of the form signal%svalue", part, v.separator)
		}
		if _, twice := all[name]; twice {
			return fmt.Errorf("%s is there twice", name)
		}
		all[name] = value
	}
	*v.to = all
	return nil
}

// Type implements pflag.Value.
func (v *statementsValue) Type() string { return "thresholds" }
