package metrics

import "sync"

// OrphanVolumes makes kubelet_orphan_pod_cleaned_volumes and its _errors: of how many pods that are gone the
// volumes were removed since the daemon started, and of how many that last failed.
func (r *Registry) OrphanVolumes() func(pod string, err error) {
	cleaned := r.Gauge("kubelet_orphan_pod_cleaned_volumes", "Pods that are gone and whose volumes were removed, since the start.")
	failed := r.Gauge("kubelet_orphan_pod_cleaned_volumes_errors", "Pods that are gone and whose volumes could not be removed yet.")
	var mu sync.Mutex
	done, failing := 0, map[string]bool{}
	set := func() { cleaned(float64(done)); failed(float64(len(failing))) }
	set()
	return func(pod string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failing[pod] = true
		} else {
			done++
			delete(failing, pod)
		}
		set()
	}
}

// VolumeStats is what is on one volume of a claim.
type VolumeStats struct {
	Namespace, Claim               string
	Capacity, Available, Used      uint64 // bytes
	Inodes, InodesFree, InodesUsed uint64
}

// VolumeStats makes kubelet_volume_stats_*, read at each scrape.
func (r *Registry) VolumeStats(read func() []VolumeStats) {
	d := func(name, help string) *Desc {
		return &Desc{Name: "kubelet_volume_stats_" + name, Help: help, Labels: []string{"namespace", "persistentvolumeclaim"}}
	}
	capacity, available, used := d("capacity_bytes", "Size of the volume."), d("available_bytes", "Free bytes of the volume."), d("used_bytes", "Used bytes of the volume.")
	inodes, free, usedInodes := d("inodes", "Inodes of the volume."), d("inodes_free", "Free inodes of the volume."), d("inodes_used", "Used inodes of the volume.")
	r.OnScrape(func(e *Emitter) {
		for _, v := range read() {
			for desc, n := range map[*Desc]uint64{
				capacity: v.Capacity, available: v.Available, used: v.Used, inodes: v.Inodes, free: v.InodesFree, usedInodes: v.InodesUsed,
			} {
				e.Value(desc, float64(n), v.Namespace, v.Claim)
			}
		}
	}, capacity, available, used, inodes, free, usedInodes)
}

// PodCertificates makes kubelet_podcertificate_states, read at each scrape: how many podCertificate sources of
// pods there are; each is called with signer, state and their number.
func (r *Registry) PodCertificates(read func(each func(signer, state string, n int))) {
	d := &Desc{Name: "kubelet_podcertificate_states", Help: "podCertificate sources of pods by signer and state.", Labels: []string{"signer_name", "state"}}
	r.OnScrape(func(e *Emitter) {
		read(func(signer, state string, n int) { e.Value(d, float64(n), signer, state) })
	}, d)
}
