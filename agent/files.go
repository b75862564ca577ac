package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/podplan"
	"nodelet/internal/model"
)

// maxFileName is the limit of ext4 and most other file systems.
const maxFileName = 255

// files keeps the agent's files of pods on the host.
type files struct {
	settings      *podplan.Settings
	containerLogs string
	hosts         string
	log           *slog.Logger
}

func (f files) makeLogDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	return nil
}

// prepare makes the files a container needs before it is created.
func (f files) prepare(want podplan.Files) error {
	if err := f.makeLogDir(want.LogDir); err != nil {
		return err
	}
	if want.Hosts != "" {
		if err := f.writeHosts(want); err != nil {
			return fmt.Errorf("write hosts file: %w", err)
		}
	}
	if want.TerminationLog == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(want.TerminationLog), 0o750); err != nil {
		return fmt.Errorf("make directory of termination log: %w", err)
	}
	// World-writable, because the container may run as anybody; only it can reach the file.
	if err := write(want.TerminationLog, nil, 0o666); err != nil {
		return fmt.Errorf("make termination log: %w", err)
	}
	return nil
}

// writeHosts writes the managed hosts file in place: it may be mounted in a container already.
func (f files) writeHosts(want podplan.Files) error {
	content := want.HostsContent
	if want.HostsFromHost {
		own, err := os.ReadFile(f.hosts)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		content = "# Kubernetes-managed hosts file (host network).\n" + string(own) + content
	}
	if err := os.MkdirAll(filepath.Dir(want.Hosts), 0o750); err != nil {
		return err
	}
	return write(want.Hosts, []byte(content), 0o644)
}

// write writes a file with exactly that mode, whatever the umask, and never through a link.
func write(path string, content []byte, mode os.FileMode) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return errors.Join(err, w.Chmod(mode), w.Close())
}

// logPath is where a log lies.
func (f files) logPath(dir, path string) string { return filepath.Join(dir, path) }

// link is the name under which log shippers look for a container's log.
func (f files) link(pod *corev1.Pod, container, id string) string {
	name := pod.Name + "_" + pod.Namespace + "_" + container + "-" + id
	if most := maxFileName - len(".log"); len(name) > most {
		name = name[:most]
	}
	return filepath.Join(f.containerLogs, name+".log")
}

// linkLog links a container's log; that fails nothing but log shipping.
func (f files) linkLog(pod *corev1.Pod, container, id, path string) {
	if path == "" || pod == nil {
		return
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(f.settings.PodLogs(pod), path)
	}
	if _, err := os.Stat(path); err != nil {
		return // the runtime logs elsewhere
	}
	err := os.MkdirAll(f.containerLogs, 0o755)
	if err == nil {
		err = os.Symlink(path, f.link(pod, container, id))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		f.log.Warn("link container log", "pod", podKey(pod), "container", container, "err", err)
	}
}

// removeLog removes the log of a removed container with what rotation left of it, and its link.
func (f files) removeLog(path, id string) {
	if !filepath.IsAbs(path) || !within(f.settings.PodLogDir, path) {
		return
	}
	rotated, _ := filepath.Glob(path + "*")
	links, _ := filepath.Glob(filepath.Join(f.containerLogs, "*-"+id+".log"))
	for _, p := range append(rotated, links...) {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn("remove container log", "err", err)
		}
	}
}

// within tells whether path lies below dir.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel) && rel != "."
}

// podsWithLogs gives the pods that have a log directory.
func (f files) podsWithLogs() []model.UID {
	entries, err := os.ReadDir(f.settings.PodLogDir)
	if err != nil {
		return nil
	}
	var all []model.UID
	for _, e := range entries {
		// <namespace>_<name>_<uid>: none of the parts can have an underscore.
		if parts := strings.Split(e.Name(), "_"); e.IsDir() && len(parts) == 3 && parts[2] != "" {
			all = append(all, model.UID(parts[2]))
		}
	}
	return all
}

// removePod removes the logs of a pod that is gone, and the links to them.
func (f files) removePod(uid model.UID) {
	entries, err := os.ReadDir(f.settings.PodLogDir)
	if err != nil || uid == "" {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasSuffix(e.Name(), "_"+uid.String()) {
			continue
		}
		dir := filepath.Join(f.settings.PodLogDir, e.Name())
		f.removeLinks(dir)
		if err := os.RemoveAll(dir); err != nil {
			f.log.Warn("remove logs of pod", "pod", uid, "err", err)
		}
	}
}

// removeLinks removes the links that lead into dir.
func (f files) removeLinks(dir string) {
	links, err := os.ReadDir(f.containerLogs)
	if err != nil {
		return
	}
	for _, l := range links {
		path := filepath.Join(f.containerLogs, l.Name())
		if to, err := os.Readlink(path); err == nil && within(dir, to) {
			_ = os.Remove(path) // it leads nowhere soon; the next pod removed tries again
		}
	}
}

func podKey(pod *corev1.Pod) model.Key { return model.Key{Namespace: pod.Namespace, Name: pod.Name} }
