package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/cgroup"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// A container that the kernel may have killed for lack of memory is left to CRI to tell of, and so is one of which nothing can be known.
func TestSpared(t *testing.T) {
	mount := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(mount, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.controllers", "cpu memory pids\n")
	info := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(info, []byte("25 1 0:22 / "+mount+" rw - cgroup2 cgroup2 rw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := cgroup.New(cgroup.Config{Root: "kubepods", Mount: mount, MountInfo: info}, cgroup.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := &agentParts{n: &Node{cfg: Defaults()}, cgroups: tree}
	p.n.store, p.n.writers = store.New()
	pod := &corev1.Pod{}
	pod.UID = "u"
	p.n.writers.Pods.Set("u", pod)
	var all []model.Container
	for id, files := range map[string][2]string{
		"well": {"oom 0\noom_kill 0\n", "100\n"}, "killed": {"oom 1\noom_kill 1\n", "100\n"}, "gone": {}, "going": {},
	} {
		all = append(all, model.Container{ID: id, Name: id})
		at := tree.Container(tree.Path(cgroup.BestEffort, "u"), id)
		switch {
		case id == "going": // the files of the memory controller are not there any more
			write(at+"/cgroup.procs", "")
			write(at+"/cpu.stat", "usage_usec 1\n")
		case id != "gone":
			write(at+"/memory.events", files[0])
			write(at+"/memory.peak", files[1])
		}
	}
	p.n.writers.Runtime.Set("u", &model.PodRuntime{UID: "u", Containers: all})
	p.n.writers.Runtime.Set("orphan", &model.PodRuntime{UID: "orphan", Containers: []model.Container{{ID: "orphaned"}}})
	for id, want := range map[string]bool{"well": true, "killed": false, "gone": false, "going": false, "orphaned": false, "unknown": false} {
		if got := p.spared(id); got != want {
			t.Errorf("%s: %t", id, got)
		}
	}
}
