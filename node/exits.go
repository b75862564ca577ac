package node

import (
	"context"
	"time"

	"nodelet/cri"
)

// sigkilled is the exit code of a process that SIGKILL ended, which is also how the kernel frees memory.
const sigkilled = 128 + 9

// exits tells of containers' ends before CRI does. Whether the kernel killed one for lack of memory only CRI
// tells for sure, so those that may have been are marked.
func (p *agentParts) exits() func(context.Context, func(cri.Exit)) error {
	listen := p.runtime.Exits
	if p.runtime.server != nil {
		listen = p.runtime.server.Exits
	}
	return func(ctx context.Context, fn func(cri.Exit)) error {
		return listen(ctx, func(e cri.Exit) {
			e.Unclear = e.Code == sigkilled && !p.spared(e.ContainerID)
			fn(e)
		})
	}
}

// spared tells whether the kernel never killed a process of a container for lack of memory; false when
// that cannot be told.
func (p *agentParts) spared(container string) bool {
	snap := p.n.store.Snapshot()
	for uid, rt := range snap.Runtime.All() {
		if rt.ByID(container) == nil {
			continue
		}
		pod, ok := snap.Pods.Get(uid)
		if !ok {
			return false
		}
		of := p.podCgroup(pod)
		usage, err := p.cgroups.Usage(p.cgroups.Container(p.cgroups.Path(of.QoS, of.UID), container), time.Now())
		// The peak is read after the kills: where it is there, so were they.
		return err == nil && usage.OOMKills == 0 && usage.Peak > 0
	}
	return false
}
