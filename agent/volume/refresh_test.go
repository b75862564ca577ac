package volume

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
)

const endingVolumes = `  - {name: tok, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3600}}]}}
  - {name: cm, configMap: {name: one}}
`

// toEnd is the pod once somebody has deleted it, with a day to end.
func toEnd(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.ResourceVersion = "2"
	pod.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(24 * time.Hour)}
	return pod
}

// A pod that takes long to end keeps a token that serves, and sees its ConfigMaps change, also after a restart
// of the daemon; its volumes go when its containers have ended.
func TestAPodThatIsEndingIsKeptUpToDate(t *testing.T) {
	w := newWorld(t)
	w.tokens.set(func() { w.tokens.age = 50 * time.Minute }) // due at once, if anybody looks
	pod := parsePod(t, 1, endingVolumes)
	w.config("one", map[string]string{"key": "before"})
	w.sync(pod)
	row := w.ready(uid(1))
	token, key := filepath.Join(row.HostPaths["tok"], "token"), filepath.Join(row.HostPaths["cm"], "key")
	w.runtime(uid(1), model.ContainerRunning)
	old := w.read(token)
	w.tokens.set(func() { w.tokens.age = 0 })

	ending := toEnd(pod)
	w.sync(ending)
	w.look(uid(1))
	fresh := w.read(token)
	if fresh == old {
		t.Error("the token of a pod that is ending is not refreshed")
	}
	w.config("one", map[string]string{"key": "after"})
	w.look(uid(1))
	if got := w.read(key); got != "after" {
		t.Errorf("the ConfigMap of a pod that is ending has %q", got)
	}

	w.boot() // nothing is known of the pod but what is on the disk
	w.config("one", map[string]string{"key": "again"})
	w.runtime(uid(1), model.ContainerRunning)
	w.sync(ending)
	w.look(uid(1))
	if got := w.read(key); got != "again" || w.read(token) != fresh {
		t.Errorf("after a restart: %q, another token: %t", got, w.read(token) != fresh)
	}
	w.runtime(uid(1), model.ContainerExited)
	w.gone(uid(1))
}

// The loop comes back by itself when the token is due; a request that hangs holds up nobody's end.
func TestARefreshThatHangsEndsWithThePod(t *testing.T) {
	w := newWorld(t)
	w.tokens.set(func() { w.tokens.age = 50 * time.Minute })
	pod := parsePod(t, 1, endingVolumes)
	w.config("one", map[string]string{"key": "value"})
	w.sync(pod)
	dir := w.ready(uid(1)).HostPaths["tok"]
	w.runtime(uid(1), model.ContainerRunning)
	hangs := make(chan struct{}, 1)
	w.sync(toEnd(pod))
	w.look(uid(1)) // whatever look at the pod as it was is over
	w.tokens.set(func() { w.tokens.block, w.tokens.hangs = "p1", hangs })
	w.config("one", map[string]string{"key": "another"}) // makes the loop look again
	<-hangs
	began := time.Now()
	w.runtime(uid(1), model.ContainerExited)
	w.gone(uid(1))
	if _, err := os.Stat(dir); err == nil || time.Since(began) > tokenPatience/2 {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// What was never there is not made for a pod that is ending.
func TestNothingIsMadeForAPodThatIsEnding(t *testing.T) {
	w := newWorld(t)
	pod := toEnd(parsePod(t, 1, endingVolumes))
	w.config("one", map[string]string{"key": "value"})
	w.runtime(uid(1), model.ContainerRunning)
	w.sync(pod)
	w.look(uid(1))
	if _, err := os.Stat(filepath.Join(w.root, "pods", string(uid(1)))); err == nil || w.tokens.issued() != 0 {
		t.Errorf("%v, %d tokens\n%s", err, w.tokens.issued(), tree(w.root))
	}
}
