package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/agent/volume/atomic"
	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/disk"
	"nodelet/agent/volume/mount"
	"nodelet/agent/volume/owner"
	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

const (
	// factsWait is how long to wait before looking again for facts that do not
	// wake this part by a change of the store: the allocatable resources.
	factsWait = time.Second
	// hostRetry is how long to wait before looking again at a hostPath that is
	// not what it should be: that is for its owner to mend, not a failure of this node.
	hostRetry = 10 * time.Second
	// driverRetry is how long to wait before looking again for a CSI driver that
	// has not registered, and for the attachment of a volume.
	driverRetry = time.Second
)

// maker makes the volumes of one pod present and gathers what came of it.
type maker struct {
	*Volumes
	pod *corev1.Pod
	uid model.UID
	// paths and devices are the volumes that are there, claims those behind them or behind what may be half made.
	paths, devices map[string]string
	claims         []model.Key
	snap           *store.Snapshot
	// old is the row of the last look, nil at the first.
	old *model.PodVolumes
	// failed and waiting name volumes that are not there, stale those that are
	// but could not be brought up to date.
	failed, stale []complaint
	waiting       []string
	errs          []error
	// limited: the node takes no more volumes of a driver, so that the pod has to go.
	limited bool
	// again is when to look at the pod again, 0 for never.
	again time.Duration
}

// complaint is what users read of a volume, and the reason of the event about it.
type complaint struct{ reason, text string }

func texts(all []complaint) []string {
	out := make([]string, len(all))
	for i, c := range all {
		out[i] = c.text
	}
	return out
}

// present makes the volumes of a pod present and up to date, and says so in the store.
func (v *Volumes) present(ctx context.Context, pod *corev1.Pod, snap *store.Snapshot) (time.Duration, error) {
	facts := v.facts(pod, snap)
	plan, err := volumeplan.Make(facts)
	if err != nil {
		return 0, err
	}
	v.deps.Log.Debug("volumes", "plan", plan)
	m := &maker{Volumes: v, pod: pod, uid: plan.UID, snap: snap, paths: map[string]string{}, devices: map[string]string{}}
	if m.old, _ = snap.Volumes.Get(m.uid); m.old != nil && m.old.Refused != "" {
		return 0, nil // it goes
	}
	if err := os.MkdirAll(plan.Dir, dirMode); err != nil {
		return 0, fmt.Errorf("create directory of pod %s: %w", plan.UID, err)
	}
	for i := range plan.Volumes {
		m.volume(ctx, &plan.Volumes[i])
	}
	if ctx.Err() != nil {
		return 0, nil // perhaps half done: the next run goes on
	}
	if len(m.waiting) > 0 && facts.Allocatable == nil {
		m.wait(factsWait)
	}
	m.commit()
	return m.again, errors.Join(m.errs...)
}

// failedToMake decides when to try again. What others have to mend is no failure of this node.
func (m *maker) failedToMake(vol *volumeplan.Volume, err error) {
	switch {
	case vol.Kind == volumeplan.HostPath || vol.Kind == volumeplan.Device:
		m.wait(hostRetry)
	case errors.As(err, new(refusedError)): // nothing comes of another try
	case errors.Is(err, csi.ErrAttachLimit):
		m.limited = true
	case errors.Is(err, csi.ErrNoDriver) || errors.Is(err, csi.ErrNotAttached):
		m.wait(driverRetry)
	default:
		m.errs = append(m.errs, fmt.Errorf("volume %q of pod %s: %w", vol.Name, m.uid, err))
	}
}

// facts gathers what a plan for the pod is made from.
func (v *Volumes) facts(pod *corev1.Pod, snap *store.Snapshot) volumeplan.Facts {
	f := volumeplan.Facts{
		Pod: pod, Root: v.cfg.Root, NodeName: v.cfg.NodeName, Allocatable: v.deps.Allocatable(),
		Config: snap.Configs.Get, Claim: snap.Claims.Get,
		Taken: func(claim model.Key) string { return takenBy(snap, pod, claim) },
		Driver: func(name string) (*storagev1.CSIDriver, bool) {
			d, _ := snap.Drivers.Get(model.Key{Name: name})
			return d, snap.Drivers.Synced()
		},
	}
	f.Bundles = func() (iter.Seq2[model.Key, *model.TrustBundle], bool) {
		return snap.TrustBundles.All(), snap.TrustBundles.Synced() || snap.TrustBundles.Len() > 0
	}
	if node, ok := snap.Nodes.Get(model.Key{Name: v.cfg.NodeName}); ok {
		f.NodeLabels = node.Labels
	}
	return f
}

// takenBy names the pod that a claim is held by, which one pod only may have:
// the one that has its volume, or else the eldest that wants it.
func takenBy(snap *store.Snapshot, pod *corev1.Pod, claim model.Key) string {
	if row, ok := snap.Volumes.Get(model.UID(pod.UID)); ok && slices.Contains(row.Claims, claim) {
		return ""
	}
	for uid, row := range snap.Volumes.All() {
		if uid != model.UID(pod.UID) && slices.Contains(row.Claims, claim) {
			if other, ok := snap.Pods.Get(uid); ok {
				return other.Namespace + "/" + other.Name
			}
			return "pod " + string(uid)
		}
	}
	for _, other := range snap.Pods.All() {
		if other.Namespace == pod.Namespace && !over(other) && elder(other, pod) && slices.Contains(podref.Claims(other), claim) {
			return other.Namespace + "/" + other.Name
		}
	}
	return ""
}

// elder orders pods by creation, those of the same second by UID.
func elder(a, b *corev1.Pod) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.UID < b.UID
}

// volume makes one volume present and notes what came of it.
func (m *maker) volume(ctx context.Context, vol *volumeplan.Volume) {
	problem := vol.Problem.Text
	if problem == "" {
		if err := m.measured(ctx, vol); m.refused.young(m.uid, err, time.Now()) {
			m.waiting = append(m.waiting, explain(vol, err.Error()))
			m.wait(refusedRetry)
			return
		} else if errors.Is(err, errSlowSigner) {
			m.failed = append(m.failed, complaint{"FailedMount", explain(vol, err.Error())})
			return
		} else if errors.Is(err, errNotIssued) {
			m.waiting = append(m.waiting, explain(vol, err.Error()))
			return
		} else if err != nil {
			if !errors.Is(err, csi.ErrNotExpanded) {
				problem = err.Error()
			}
			m.failedToMake(vol, err)
		}
	}
	about := complaint{"FailedMount", explain(vol, problem)}
	if vol.Block() && !vol.Problem.Claim {
		about.reason = "FailedMapVolume"
	}
	if vol.Claim.Name != "" && (problem == "" || vol.Kind == volumeplan.Driver && vol.Problem.Text == "") ||
		m.old != nil && slices.Contains(m.old.Claims, vol.Claim) {
		m.claims = append(m.claims, vol.Claim)
	}
	switch {
	case problem == "" && vol.Block():
		m.devices[vol.Name] = vol.Path
	case problem == "":
		m.paths[vol.Name] = vol.Path
	case vol.Problem.Claim && m.had(vol.Name):
		// What the pod has it keeps: a claim that changes is of no concern to containers that run.
	case complete(vol):
		m.paths[vol.Name] = vol.Path
		m.stale = append(m.stale, about)
	case vol.Problem.Wait:
		m.waiting = append(m.waiting, about.text)
	default:
		m.failed = append(m.failed, about)
	}
}

// had takes over a volume that was there when the pod was last looked at.
func (m *maker) had(name string) bool {
	if m.old == nil || m.old.State != model.VolumesReady {
		return false
	}
	if place, ok := m.old.HostPaths[name]; ok {
		m.paths[name] = place
		return true
	}
	place, ok := m.old.Devices[name]
	if ok {
		m.devices[name] = place
	}
	return ok
}

// explain is what users read when a volume is not there.
func explain(vol *volumeplan.Volume, problem string) string {
	switch {
	case vol.Problem.Claim:
		return fmt.Sprintf("Unable to attach or mount volumes: unmounted volumes=[%s], failed to process volumes=[%s]: %s", vol.Name, vol.Name, problem)
	case vol.Block():
		return fmt.Sprintf("MapVolume.SetUpDevice failed for volume %q : %s", cmp.Or(vol.Spec, vol.Name), problem)
	}
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %s", cmp.Or(vol.Spec, vol.Name), problem)
}

// wait asks for another look after d at the latest.
func (m *maker) wait(d time.Duration) {
	if m.again == 0 || d < m.again {
		m.again = d
	}
}

// complete reports whether a volume that the daemon writes has been complete
// before: then containers go on with what is in it.
func complete(vol *volumeplan.Volume) bool {
	if vol.Payload == nil {
		return false
	}
	root, err := os.OpenRoot(vol.Path)
	if err != nil {
		return false
	}
	defer root.Close()
	return atomic.Written(root)
}

// commit says in the store how far the pod is, and tells the user what is wrong.
func (m *maker) commit() {
	row := &model.PodVolumes{UID: m.uid, Claims: m.claims}
	switch {
	case len(m.failed) > 0:
		row.State = model.VolumesFailed
		row.Message = strings.Join(slices.Concat(texts(m.failed), m.waiting), "; ")
		if m.limited {
			row.Refused, row.Message = model.AttachLimit, "Pod was rejected: "+row.Message
		}
	case len(m.waiting) > 0:
		row.Message = strings.Join(m.waiting, "; ")
	default:
		row.State, row.HostPaths, row.Devices = model.VolumesReady, m.paths, m.devices
		row.Message = strings.Join(texts(m.stale), "; ")
		m.refused.forget(m.uid)
	}
	m.deps.Volumes.Set(m.uid, row)
	if m.old != nil && m.old.Message == row.Message {
		return // told before
	}
	if row.Refused != "" {
		m.deps.Rejected(row.Refused)
	}
	for _, c := range slices.Concat(m.failed, m.stale) {
		m.deps.Events.Event(m.ref(), corev1.EventTypeWarning, cmp.Or(row.Refused, c.reason), c.text)
	}
}

// ref names the pod in events.
func (m *maker) ref() corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: m.pod.Namespace, Name: m.pod.Name, UID: m.pod.UID}
}

// measured makes one volume present, and counts that when there was something to do.
func (m *maker) measured(ctx context.Context, vol *volumeplan.Volume) error {
	start := time.Now()
	err := m.make(ctx, vol)
	if errors.Is(err, errNotIssued) {
		return err // it goes on
	}
	if err != nil && !errors.Is(err, csi.ErrNotExpanded) || m.old == nil || m.old.State != model.VolumesReady {
		operation := "volume_mount"
		if vol.Block() {
			operation = "map_volume"
		}
		m.deps.Measured(vol.Plugin(), operation, time.Since(start), err)
	}
	return err
}

// make makes one volume present; what is right already is left as it is.
func (m *maker) make(ctx context.Context, vol *volumeplan.Volume) error {
	switch vol.Kind {
	case volumeplan.HostPath, volumeplan.Device:
		return m.host(ctx, vol)
	case volumeplan.Driver:
		return m.driver(ctx, vol)
	}
	if err := os.MkdirAll(filepath.Dir(vol.Path), dirMode); err != nil {
		return err
	}
	place := makeDir
	if vol.Kind == volumeplan.Memory || vol.Kind == volumeplan.HugePages {
		place = makeMounted
	}
	if err := place(vol); err != nil || vol.Payload == nil {
		return err
	}
	return m.write(ctx, vol)
}

// host checks a place of the host, and gives it to the pod's group where that is asked for.
func (m *maker) host(ctx context.Context, vol *volumeplan.Volume) error {
	var err error
	if vol.Disk != nil {
		err = m.local(ctx, vol)
	} else {
		err = m.hosts.check(ctx, vol)
	}
	if err != nil || vol.Own == nil {
		return err
	}
	// Once is enough for a pod: containers may change what is theirs afterwards.
	if m.old != nil && slices.Contains(m.old.Claims, vol.Claim) {
		return nil
	}
	return owner.Apply(ctx, vol.Path, owner.Change{GID: int(vol.Own.GID), OnlyOnMismatch: vol.Own.OnlyOnMismatch, Slow: func(message string) {
		m.deps.Events.Event(m.ref(), corev1.EventTypeWarning, owner.Reason, message)
	}})
}

// local mounts a local volume that is a device below the pod's directory, from
// where it goes with the rest of the pod. A device that several pods have is
// mounted for each of them, which is one file system.
func (m *maker) local(ctx context.Context, vol *volumeplan.Volume) error {
	fsType, err := m.hosts.local(ctx, vol)
	if err != nil || fsType == "" {
		return err
	}
	device := vol.Path
	vol.Path = vol.Disk.Dir
	if err := os.MkdirAll(vol.Path, dirMode); err != nil {
		return err
	}
	if mounted, err := mount.IsMount(vol.Path); err != nil || mounted {
		return err
	}
	return disk.Mount(device, vol.Path, fsType, vol.Disk.Options)
}

// driver has a CSI driver make the volume.
func (m *maker) driver(ctx context.Context, vol *volumeplan.Volume) error {
	if m.deps.CSI == nil {
		return fmt.Errorf("volumes of CSI driver %s are not supported by this node", vol.CSI.Driver)
	}
	bound, _ := m.snap.Claims.Get(vol.Claim)
	again, err := m.deps.CSI.Make(ctx, csi.Request{Pod: m.pod, Volume: vol, Bound: bound})
	if again > 0 {
		m.wait(again)
	}
	return err
}

// makeMounted mounts the volume's file system in memory unless it is mounted already.
func makeMounted(vol *volumeplan.Volume) error {
	if err := os.Mkdir(vol.Path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mounted, err := mount.IsMount(vol.Path)
	if err != nil || mounted {
		return err
	}
	if vol.Kind == volumeplan.HugePages {
		return mount.HugePages{Mode: vol.Mode, GID: vol.GID, Size: vol.PageSize}.Mount(vol.Path)
	}
	return mount.Tmpfs{Mode: vol.Mode, GID: vol.GID, Size: vol.Size}.Mount(vol.Path)
}

// makeDir makes the volume's directory with owner and mode in one step, so
// that one that is there is complete, and containers may change it.
func makeDir(vol *volumeplan.Volume) error {
	if there, err := exists(vol.Path); err != nil || there {
		return err
	}
	// No volume has such a name: it begins with a dot.
	draft := filepath.Join(filepath.Dir(vol.Path), "."+vol.Name+".new")
	if err := os.Mkdir(draft, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if vol.GID >= 0 {
		if err := os.Lchown(draft, -1, int(vol.GID)); err != nil {
			return err
		}
	}
	if err := os.Chmod(draft, atomic.FileMode(vol.Mode)); err != nil {
		return err
	}
	return os.Rename(draft, vol.Path)
}

// write brings the files of a volume up to date.
func (m *maker) write(ctx context.Context, vol *volumeplan.Volume) error {
	root, err := os.OpenRoot(vol.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, dir := range vol.Payload.Nested {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create mount point %q: %w", dir, err)
		}
	}
	p := atomic.Payload{GID: vol.GID, DirMode: vol.Mode}
	for _, f := range vol.Payload.Files {
		p.Files = append(p.Files, atomic.File(f))
	}
	for _, t := range vol.Payload.Tokens {
		data, err := m.token(ctx, root, t)
		if err != nil {
			return err
		}
		p.Files = append(p.Files, atomic.File{Path: t.Path, Data: data, Mode: t.Mode, UID: t.UID})
	}
	for _, c := range vol.Payload.Certificates {
		files, err := m.certificate(ctx, root, vol.Name, c)
		if err != nil {
			return err
		}
		for _, f := range files {
			p.Files = append(p.Files, atomic.File(f))
		}
	}
	_, err = atomic.Write(root, p, time.Now())
	return err
}
