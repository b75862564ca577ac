package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/podplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// An observation that began earlier and came back later says nothing any more.
func TestSlowAnswersDoNotOverwriteNewerOnes(t *testing.T) {
	s, w := store.New()
	o := newObserver(Config{}, Deps{Store: s, Writer: w.Runtime, Log: slog.New(slog.DiscardHandler)})
	state := func(c model.ContainerState) *model.PodRuntime {
		return &model.PodRuntime{UID: "u", Containers: []model.Container{{ID: "c", Name: "c", State: c}}}
	}
	slow, quick := o.begin(), o.begin()
	o.commit("u", state(model.ContainerExited), quick)
	o.commit("u", state(model.ContainerRunning), slow)
	if got, _ := s.Snapshot().Runtime.Get("u"); got.Containers[0].State != model.ContainerExited {
		t.Errorf("the older observation won: %s", got)
	}
	slow, quick = o.begin(), o.begin()
	o.commit("u", nil, quick)
	o.commit("u", state(model.ContainerExited), slow)
	if got, ok := s.Snapshot().Runtime.Get("u"); ok {
		t.Errorf("a pod that is gone came back: %s", got)
	}
}

func TestSameObservationIsNoRevision(t *testing.T) {
	s, w := store.New()
	o := newObserver(Config{}, Deps{Store: s, Writer: w.Runtime, Log: slog.New(slog.DiscardHandler)})
	o.commit("u", &model.PodRuntime{UID: "u"}, o.begin())
	before := s.Snapshot().Revision
	o.commit("u", &model.PodRuntime{UID: "u"}, o.begin())
	if s.Snapshot().Revision != before {
		t.Error("looking again made a revision")
	}
}

func TestLastWords(t *testing.T) {
	line := func(kind, text string) string {
		return "2026-08-01T12:00:00.123456789Z stderr " + kind + " " + text + "\n"
	}
	many := strings.Repeat(line("F", "x"), 100)
	for _, c := range []struct{ name, log, want string }{
		{"none", "", ""},
		{"one", line("F", "boom"), "boom\n"},
		{"parts", line("P", "bo") + line("P", "o") + line("F", "m") + line("F", "end"), "boom\nend\n"},
		{"not ended", line("F", "x") + line("P", "DONE"), "x\nDONE"},
		{"both outputs", strings.Replace(line("P", "bo"), "stderr", "stdout", 1) + line("F", "err") + strings.Replace(line("F", "om"), "stderr", "stdout", 1), "boom\nerr\n"},
		{"cut line", "not a log line\n" + line("F", "end"), "end\n"},
		{"80 lines", many, strings.Repeat("x\n", 80)},
		{"2048 bytes", line("F", strings.Repeat("y", 5000)), strings.Repeat("y", 2047) + "\n"},
	} {
		if got := lastWords([]byte(c.log)); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func FuzzLastWords(f *testing.F) {
	f.Add([]byte("2026-08-01T12:00:00Z stdout P a\n\nx y z\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		if got := lastWords(log); len(got) > maxMessageLog {
			t.Errorf("%d bytes", len(got))
		}
	})
}

func TestTailDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	if got, err := tail(link, 10); err == nil {
		t.Errorf("read %q through a link", got)
	}
	if got, err := tail(secret, 3); err != nil || string(got) != "ret" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := tail(dir, 3); err == nil {
		t.Error("read a directory")
	}
	if err := write(link, []byte("x"), 0o644); err == nil {
		t.Error("wrote through a link")
	}
}

func TestLogLinks(t *testing.T) {
	dir := t.TempDir()
	f := files{
		settings:      &podplan.Settings{PodLogDir: dir + "/pods"},
		containerLogs: dir + "/containers", log: slog.New(slog.DiscardHandler),
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: types.UID("u1")}}
	log := filepath.Join(f.settings.PodLogs(pod), "c/0.log")
	if err := f.makeLogDir(filepath.Dir(log)); err != nil {
		t.Fatal(err)
	}
	f.linkLog(pod, "c", "id1", log)
	link := dir + "/containers/p_ns_c-id1.log"
	if _, err := os.Lstat(link); err == nil {
		t.Error("a link to a log that is not there")
	}
	for _, path := range []string{log, log + ".20260801-1200.gz"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.linkLog(pod, "c", "id1", log)
	if to, err := os.Readlink(link); err != nil || to != log {
		t.Errorf("link to %q %v", to, err)
	}
	f.removeLog(log, "id1")
	if left, _ := filepath.Glob(dir + "/*/*/*/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Lstat(link); err == nil {
		t.Error("the link is left")
	}
	if got := f.podsWithLogs(); len(got) != 1 || got[0] != "u1" {
		t.Errorf("pods with logs: %v", got)
	}
	f.removePod("u1")
	if got := f.podsWithLogs(); len(got) != 0 {
		t.Errorf("pods with logs after removal: %v", got)
	}
	f.removeLog("/etc/passwd", "id1") // outside: must not be touched
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}
