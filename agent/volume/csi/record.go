package csi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

// Names as upstream lays them out, so that either finds the other's.
const (
	recordFile = "vol_data.json"
	globalPart = "plugins/kubernetes.io/csi"
	blockPart  = globalPart + "/volumeDevices"
)

// PodPart is where the volumes of a pod lie, below its directory.
const PodPart = "volumes/kubernetes.io~csi"

// record says what a pod has, or may have, of one volume. It is written before
// each step that a later daemon would have to take back. The first fields are
// upstream's.
type record struct {
	Spec       string `json:"specVolID"`
	Handle     string `json:"volumeHandle"`
	Driver     string `json:"driverName"`
	Node       string `json:"nodeName"`
	Mode       string `json:"volumeLifecycleMode"`
	Attachment string `json:"attachmentID"`
	// Target is where the volume is published; empty in upstream's records, which are of file systems only.
	Target string `json:"targetPath,omitempty"`
	Block  bool   `json:"block,omitempty"`
	// Attach: the volume counts as in use on this node, also while it is only staged.
	Attach bool `json:"attach,omitempty"`
	// Size is how large the volume is known to be on this node, a quantity; empty where no claim has told.
	Size string `json:"size,omitempty"`
	// Done is the boot in which the volume was published and all is well.
	Done string `json:"done,omitempty"`

	pod model.UID
}

// id tells volumes apart.
func (r record) id() string { return r.Driver + "^" + r.Handle }

func (r record) sameVolume(o record) bool {
	return r.Driver == o.Driver && r.Handle == o.Handle && r.Target == o.Target
}

// done reports whether nothing is left to do in this boot of the machine.
func (r record) done(boot string) bool { return boot != "" && r.Done == boot }

// record gives the one a request leads to.
func (v *Volumes) record(r Request) record {
	c := r.Volume.CSI
	rec := record{
		Spec: r.Volume.Spec, Handle: c.Handle, Driver: c.Driver, Node: v.cfg.NodeName, Mode: "Persistent",
		Target: r.Volume.Path, Block: c.Block, Attach: c.Attach, pod: r.uid(),
	}
	if c.Ephemeral {
		rec.Mode = "Ephemeral"
		rec.Handle = fmt.Sprintf("csi-%x", sha256.Sum256([]byte(string(rec.pod)+rec.Spec)))
	}
	rec.Attachment = AttachmentName(rec.Handle, rec.Driver, v.cfg.NodeName)
	return rec
}

// AttachmentName is the name of the VolumeAttachment by upstream's rule.
func AttachmentName(handle, driver, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+driver+node)))
}

func (v *Volumes) podRecord(uid model.UID, spec string) string {
	return filepath.Join(v.cfg.Root, "pods", string(uid), PodPart, spec, recordFile)
}

// staging gives the directory a volume is staged in, and the file with the record of that.
func (v *Volumes) staging(r record) (dir, file string) {
	if r.Block {
		return filepath.Join(v.cfg.Root, blockPart, "staging", r.Spec), filepath.Join(v.cfg.Root, blockPart, r.Spec, "data", recordFile)
	}
	global := filepath.Join(v.cfg.Root, globalPart, r.Driver, fmt.Sprintf("%x", sha256.Sum256([]byte(r.Handle))))
	return filepath.Join(global, "globalmount"), filepath.Join(global, recordFile)
}

// podRecords reads what a pod has records of. A volume whose record cannot be
// read was never begun: the record is complete before anything else is done.
func (v *Volumes) podRecords(uid model.UID) ([]record, error) {
	dir, err := volumeplan.PodDir(v.cfg.Root, uid)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, PodPart))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list CSI volumes of pod %s: %w", uid, err)
	}
	var out []record
	for _, e := range entries {
		rec, ok := readRecord(v.podRecord(uid, e.Name()))
		if !ok || rec.Driver == "" || rec.Handle == "" {
			v.deps.Log.Warn("CSI volume without a record", "pod", uid, "volume", e.Name())
			continue
		}
		rec.Spec, rec.pod = e.Name(), uid
		if rec.Target == "" {
			rec.Target = filepath.Join(dir, PodPart, e.Name(), "mount")
		}
		if !v.inside(rec.Target) || strings.ContainsAny(rec.Driver, "/\x00") {
			return nil, fmt.Errorf("record of CSI volume %s of pod %s names a path outside of the kubelet's directory: remove it by hand", e.Name(), uid)
		}
		out = append(out, rec)
	}
	return out, nil
}

func (v *Volumes) inside(path string) bool {
	return filepath.Clean(path) == path && strings.HasPrefix(path, filepath.Clean(v.cfg.Root)+"/")
}

func readRecord(file string) (record, bool) {
	data, err := os.ReadFile(file)
	var rec record
	if err != nil || json.Unmarshal(data, &rec) != nil {
		return record{}, false
	}
	return rec, true
}

// writeRecord replaces a record in one step that outlives a crash of the machine.
func writeRecord(file string, rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write record of volume: %w", err)
	}
	return os.Rename(file+".new", file)
}

// users knows which pods have a record of which volume.
type users struct {
	mu   sync.Mutex
	pods map[string]map[model.UID]bool
	// unsure: there may be more.
	unsure bool
}

func (u *users) add(id string, pod model.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pods == nil {
		u.pods = map[string]map[model.UID]bool{}
	}
	if u.pods[id] == nil {
		u.pods[id] = map[model.UID]bool{}
	}
	u.pods[id][pod] = true
}

func (u *users) remove(id string, pod model.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.pods[id], pod)
	if len(u.pods[id]) == 0 {
		delete(u.pods, id)
	}
}

// any reports whether a pod has a record of the volume.
func (u *users) any(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.unsure || len(u.pods[id]) > 0
}

// doubt notes that there may be users that are not known: every volume counts as used from then on.
func (u *users) doubt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.unsure = true
}

// bootID tells boots of the machine apart; empty when the kernel does not say.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Globals is the directory of what is staged for all pods, below the kubelet root.
func Globals(root string) string { return filepath.Join(root, globalPart) }
