package metrics

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
