package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// soakPods run while the daemon is killed; soakKills is how often, unless NODELET_SOAK_KILLS
// says more (`make soak`).
const (
	soakPods  = 30
	soakKills = 5
)

// soakManifest is a deployment all of whose containers have all three probes.
const soakManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: %d
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: hello
          image: nodelet.local/hello:1
          imagePullPolicy: IfNotPresent
          ports: [{name: http, containerPort: 8080}]
          startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, timeoutSeconds: 10}
          livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 3, timeoutSeconds: 10}
          resources: {requests: {cpu: 1m, memory: 4Mi}}
`

// TestRestartsAreInvisible kills the daemon again and again under 30 pods: a watch sees no pod that
// stops being ready, and no container is another one or was restarted.
func TestRestartsAreInvisible(t *testing.T) {
	needRoot(t)
	times := soakKills
	if s := os.Getenv("NODELET_SOAK_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("NODELET_SOAK_KILLS=%q: a number of kills", s)
		}
		times = n
	}
	p := newPlace(t)
	mustRun(t, p.up())
	mustRun(t, p.command("images", "import", filepath.Join(p.bin, "images/hello.tar")))
	manifest := filepath.Join(t.TempDir(), "soak.yaml")
	if err := os.WriteFile(manifest, []byte(fmt.Sprintf(soakManifest, soakPods)), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, p, "apply", "-f", manifest)
	kubectl(t, p, "rollout", "status", "deployment/hello", "--timeout=180s")
	before := podStates(t, p)
	if len(before) != soakPods {
		t.Fatalf("%d pods, want %d", len(before), soakPods)
	}
	watch := watchPods(t, p)
	for i := range times {
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond) // the moment is what is being tried
		p.kill(t, "nodelet.pid")
		mustRun(t, p.up())
		if i%10 == 9 {
			t.Logf("%d kills", i+1)
		}
	}
	// The daemon that runs now has looked at everything when it has done something new.
	kubectl(t, p, "scale", "deployment/hello", fmt.Sprintf("--replicas=%d", soakPods+1))
	kubectl(t, p, "rollout", "status", "deployment/hello", "--timeout=90s")
	flips := watch()
	after := podStates(t, p)
	for uid, was := range before {
		if is, ok := after[uid]; !ok || is != was {
			t.Errorf("pod %s was %+v, is %+v (there: %t)", uid, was, is, ok)
		}
		for _, f := range flips {
			if strings.HasPrefix(f, uid) {
				t.Errorf("Ready flipped: %s", f)
			}
		}
	}
	t.Logf("%d pods, %d kills, %d flips", len(before), times, len(flips))
}
