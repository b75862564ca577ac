package static

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/static/staticplan"
)

// record is the file that says which pods were taken, with their status.
type record struct {
	// Boot is the kernel's boot id: what ran in another boot does not run any more.
	Boot string       `json:"boot"`
	Pods []recordItem `json:"pods"`
}

type recordItem struct {
	Place string      `json:"place"`
	Pod   *corev1.Pod `json:"pod"`
}

// load takes the pods of the record. Without it nothing is lost but the times in their status.
func (s *Static) load() {
	raw, err := os.ReadFile(s.cfg.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var r record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		s.deps.Log.Warn("read record of static pods, going on without", "file", s.cfg.Record, "err", err)
		return
	}
	same := r.Boot == bootID()
	for _, item := range r.Pods {
		if item.Pod == nil || item.Pod.UID == "" || (!same && item.Pod.DeletionTimestamp != nil) {
			continue
		}
		if !same {
			item.Pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
		}
		s.put(staticplan.Row{Pod: item.Pod, Place: item.Place})
	}
}

// save writes the record; mu is held. A record that cannot be written is no reason not to run pods.
func (s *Static) save() {
	r := record{Boot: bootID(), Pods: []recordItem{}}
	for _, row := range s.rows {
		r.Pods = append(r.Pods, recordItem{row.Place, row.Pod})
	}
	err := writeFile(s.cfg.Record, r)
	if err != nil && !s.unsaved {
		s.deps.Log.Warn("write record of static pods, going on without", "err", err)
	}
	s.unsaved = err != nil
}

func writeFile(path string, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
